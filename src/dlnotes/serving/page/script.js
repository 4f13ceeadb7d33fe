"use strict";
// Asks the server about the text in the box, at most one request at a time per kind: while one is
// on its way, only the newest text waits. All that is shown is set as text, never as HTML.

const TOP = 5; // labels, until more are asked for
const PAUSE = 400; // milliseconds without a key until words are weighed
const LEAST = 0.01; // where no word changes the log-odds by more, none has full colour
const at = (id) => document.getElementById(id);
const box = at("text"), labels = at("labels"), words = at("words"), state = at("state");
let topK = TOP, about = { labels: 0, max_explained: 1000, several_labels: false };

function element(name, text = "", kind = "") {
  const made = document.createElement(name);
  made.textContent = text;
  if (kind) made.className = kind;
  return made;
}

const percent = (p) => (p * 100).toFixed(p > 0.9995 || p < 0.0005 ? 2 : 1) + " %";
const signed = (w) => (w < 0 ? "−" : "+") + Math.abs(w).toFixed(2);

function say(sentence, wrong = false) {
  state.textContent = sentence;
  state.classList.toggle("wrong", wrong);
}

async function post(path, content) {
  const answer = await fetch(path, {
    method: "POST",
    headers: { "Content-Type": "application/json" },
    body: JSON.stringify(content),
  });
  const told = await answer.json();
  if (!answer.ok) throw new Error(told.error);
  return told;
}

// A function that is not called again before it has finished; then once, for the newest text.
function oneAtATime(work) {
  let running = false, again = false;
  return async function call() {
    if (running) { again = true; return; }
    running = true;
    try {
      do { again = false; await work(box.value.toWellFormed ? box.value.toWellFormed() : box.value); }
      while (again);
    } finally { running = false; }
  };
}

const classify = oneAtATime(async (text) => {
  if (!text.trim()) return clear();
  try {
    const told = await post("predict", { text, top_k: topK });
    if (!box.value.trim()) return clear();
    showLabels(told);
    say("Nothing is stored.");
  } catch (error) {
    say(error instanceof TypeError ? "The server does not answer." : error.message, true);
  }
});

function showLabels(told) {
  const given = told.labels || (told.label === null ? [] : [told.label]);
  const answer = given.join(" · ") || "No label is probable enough";
  if (at("answer").textContent !== answer) at("answer").textContent = answer; // is read aloud
  labels.replaceChildren(...told.top.map(({ label, probability }) => {
    const row = element("li", "", given.includes(label) ? "given" : "");
    const name = element("bdi", label), number = element("output", percent(probability));
    const track = element("span", "", "track"), fill = element("span", "", "fill");
    fill.style.setProperty("--p", probability);
    track.setAttribute("aria-hidden", "true"); // the number says the same
    track.append(fill);
    row.append(name, number, track);
    return row;
  }));
  at("more").hidden = about.labels <= TOP;
  at("more").textContent = topK > TOP ? "Show fewer labels" : `Show all ${about.labels} labels`;
}

const explain = oneAtATime(async (text) => {
  if (!text.trim()) return;
  if ([...text].length > about.max_explained) {
    words.replaceChildren();
    at("method").textContent =
      `The words of a text of at most ${about.max_explained} characters are shown.`;
    return;
  }
  try {
    const told = await post("explain", { text });
    if (box.value.trim()) showWords(told);
  } catch (error) {
    at("method").textContent =
      error instanceof TypeError ? "The server does not answer." : error.message;
  }
});

function showWords(explanations) {
  const attention = explanations.some((one) => one.method === "attention");
  at("method").textContent = attention
    ? "The stronger the colour of a word, the more attention the model paid to it."
    : "Blue words speak for the label and orange ones against it: how much leaving a word out " +
      "changes the log-odds of the label.";
  words.replaceChildren(...explanations.flatMap((one) => {
    const lines = Object.entries(one.weights);
    const whole = lines.filter(([name]) => !name.includes(","));
    const heads = lines.filter(([name]) => name.includes(","));
    const shown = whole.map(([name, weights]) => line(one, name, weights));
    if (heads.length) {
      const folded = element("details");
      folded.append(element("summary", `${heads.length} more`));
      folded.append(...heads.map(([name, weights]) => line(one, name, weights)));
      shown.push(folded);
    }
    return shown;
  }));
}

function line(explanation, name, weights) {
  const figure = element("figure"), attention = explanation.method === "attention";
  figure.dir = "auto";
  const top = weights.reduce((most, w) => Math.max(most, Math.abs(w)), attention ? 0 : LEAST);
  explanation.tokens.forEach((token, i) => {
    const word = element("span", token, weights[i] < 0 ? "word against" : "word");
    const strength = attention ? Math.sqrt(Math.min(1, weights[i])) : Math.abs(weights[i]) / top;
    word.style.setProperty("--w", strength.toFixed(2));
    word.title = attention ? weights[i].toPrecision(3) : signed(weights[i]);
    figure.append(word, " ");
  });
  const caption = element("figcaption", `${explanation.label} · ${name}${named(explanation, weights)}`);
  caption.dir = "ltr";
  figure.append(caption);
  return figure;
}

// The words that weigh most, for whoever cannot point at them; the weight alone where several
// different ones share it, as all words of a sentence do.
function named(explanation, weights) {
  const attention = explanation.method === "attention";
  const shown = (w) => (attention ? w.toFixed(2) : signed(w));
  const found = new Map(explanation.tokens.map((token, i) => [token, weights[i]]));
  const most = [...found].sort((a, b) => Math.abs(b[1]) - Math.abs(a[1])).slice(0, 3);
  if (!most.length) return "";
  if (attention && most.length > 1 && most[0][1] === most[1][1]) return `, up to ${shown(most[0][1])}`;
  return ": " + most.map(([token, w]) => `${token} ${shown(w)}`).join(", ");
}

function clear() {
  labels.replaceChildren();
  words.replaceChildren();
  at("answer").textContent = "–";
  at("more").hidden = true;
  at("method").textContent = "How much each word weighs for the label.";
  say("Nothing is stored.");
}

let later = 0;
function typed() {
  classify();
  clearTimeout(later);
  later = setTimeout(explain, PAUSE);
}

box.addEventListener("input", typed);
at("clear").addEventListener("click", () => {
  box.value = "";
  clear();
  box.focus();
});
at("more").addEventListener("click", () => {
  topK = topK > TOP ? TOP : about.labels;
  classify();
});

fetch("health").then((answer) => answer.json()).then((told) => {
  about = told;
  document.title = `${told.name} · dlnotes`;
  at("name").textContent = told.name;
  const kind = told.several_labels ? "any number of" : "one of";
  at("about").textContent = `${told.model} · gives a text ${kind} ${told.labels} labels`;
  if (box.value) typed(); // the browser has kept it
}).catch(() => say("The server does not answer.", true));
