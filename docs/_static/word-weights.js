// Questions whose words are coloured by what a trained model looks at. The numbers are those of
// results/attention/trec.json; `shades` is that of scripts/chapters/attention.py.
"use strict";

const WordWeights = {
  // How strong the colour of each weight is, from 0 to 1. Attention: 0 to 1, by the square root, so
  // that a tenth can be told from nothing. Words left out: up to the largest change of the text.
  shades(method, weights) {
    if (method === "attention") return weights.map((w) => Math.sqrt(Math.min(1, Math.max(0, w))));
    const most = Math.max(0.01, ...weights.map(Math.abs));
    return weights.map((w) => Math.abs(w) / most);
  },
};

(() => {
  const { element, choice } = Interactive;

  Interactive.figures("word-weights", (panel, given, figure) => {
    const { words, labels, meanings, questions, readings } = given;
    const controls = element("div", "controls", "", panel);
    const question = choice(controls, words["question"]);
    questions.forEach((text, i) => question.append(new Option(text, i)));
    const reading = choice(controls, words["model"]);
    readings.forEach(({ name }, i) => reading.append(new Option(name, i)));
    question.value = given.question;
    reading.value = given.reading;
    const said = element("p", "said", "", panel);
    said.setAttribute("aria-live", "polite");
    const shown = element("ol", "tokens", "", panel);
    shown.lang = "en";
    const meaning = element("p", "meaning", "", panel);

    const draw = () => {
      const { name, method, answers } = readings[reading.value];
      const { label, probability, tokens, weights } = answers[question.value];
      const shades = WordWeights.shades(method, weights);
      shown.replaceChildren();
      tokens.forEach((token, i) => {
        const item = element("li", weights[i] < 0 ? "against" : "for", "", shown);
        item.style.setProperty("--shade", shades[i]);
        element("span", "", token, item);
        element("small", "", weights[i].toFixed(2).replace("-", "−"), item);
      });
      said.textContent = `${name} → ${labels[label]} (${label}), p = ${probability.toFixed(2)}`;
      meaning.textContent = meanings[method];
      figure.dataset.drawn = JSON.stringify({
        question: Number(question.value),
        reading: Number(reading.value),
        ...answers[question.value],
        shades,
      });
    };

    controls.addEventListener("input", draw);
    draw();
  });
})();
