// The interactive perceptron: its line over the four corners, and the delta rule sample by sample.
// The rule is that of src/dlnotes/foundations/perceptron.py; a test compares the weights.
"use strict";

const Perceptron = {
  // y = f(w·x + b) with the step function.
  output({ w1, w2, b }, [x1, x2]) {
    return w1 * x1 + w2 * x2 + b > 0 ? 1 : 0;
  },

  // One sample: w ← w − α (a − y) x and b ← b − α (a − y).
  learn(unit, [x1, x2], y, lr) {
    const error = Perceptron.output(unit, [x1, x2]) - y;
    return { w1: unit.w1 - lr * error * x1, w2: unit.w2 - lr * error * x2, b: unit.b - lr * error };
  },

  // The part of a polygon where w·x + b > 0, and the ends of the line within it.
  positive({ w1, w2, b }, polygon) {
    const z = ([x1, x2]) => w1 * x1 + w2 * x2 + b;
    const part = [];
    const ends = [];
    polygon.forEach((from, i) => {
      const to = polygon[(i + 1) % polygon.length];
      const [before, after] = [z(from), z(to)];
      if (before > 0) part.push(from);
      if (before > 0 !== after > 0) {
        const share = before / (before - after);
        const crossing = [from[0] + share * (to[0] - from[0]), from[1] + share * (to[1] - from[1])];
        part.push(crossing);
        ends.push(crossing);
      }
    });
    return { part, ends };
  },
};

(() => {
  const { choice, element, slider, svg } = Interactive;
  const [LOW, HIGH] = [-0.5, 1.5]; // the part of the plane that is drawn
  const SQUARE = [[LOW, LOW], [HIGH, LOW], [HIGH, HIGH], [LOW, HIGH]];
  const flat = (points) => points.map(([x, y]) => `${x},${-y}`).join(" ");

  Interactive.figures("perceptron", (panel, given, figure) => {
    const { words, corners, gates, start, lr } = given;
    const say = (text, values) => text.replace(/\{(\w+)\}/g, (_, name) => values[name]);
    const plot = svg("svg", { viewBox: "-0.75 -1.55 2.35 2.35", role: "img" }, panel);
    plot.setAttribute("aria-label", figure.querySelector("img").alt);
    const side = svg("polygon", { class: "one" }, plot);
    svg("polygon", { points: flat(SQUARE), class: "frame" }, plot);
    const line = svg("polyline", { class: "line" }, plot);
    const marks = svg("g", {}, plot);
    for (const tick of [0, 1]) {
      svg("text", { x: tick, y: -LOW + 0.14 }, plot).textContent = tick;
      svg("text", { x: LOW - 0.1, y: -tick + 0.04 }, plot).textContent = tick;
    }
    svg("text", { x: 0.5, y: -LOW + 0.22 }, plot).textContent = "x₁";
    svg("text", { x: LOW - 0.13, y: -0.46 }, plot).textContent = "x₂";

    const legend = element("p", "legend", "", panel);
    for (const name of ["target 1", "target 0", "output 1", "wrong", "next sample"]) {
      element("span", name.replace(" ", "-"), words[name], legend);
    }

    const controls = element("div", "controls", "", panel);
    const gate = choice(controls, words["function"], Object.keys(gates));
    const sliders = Object.fromEntries(
      ["w1", "w2", "b"].map((name) => {
        const label = { w1: words["weight w₁"], w2: words["weight w₂"], b: words["bias b"] }[name];
        return [name, slider(controls, label, -3, 3, 0.5, start[name])];
      }),
    );
    const buttons = element("div", "buttons", "", controls);
    const [one, all, again] = ["Show one sample", "Show all four", "Start again"].map((name) => {
      const button = element("button", "", words[name], buttons);
      button.type = "button";
      return button;
    });
    const said = element("p", "said", "", panel);
    said.setAttribute("aria-live", "polite");

    let unit = { ...start };
    let next = 0;
    let told = "";

    const draw = () => {
      const targets = gates[gate.value];
      const outputs = corners.map((corner) => Perceptron.output(unit, corner));
      const { part, ends } = Perceptron.positive(unit, SQUARE);
      side.setAttribute("points", flat(part));
      line.setAttribute("points", flat(ends));
      marks.replaceChildren();
      corners.forEach(([x, y], i) => {
        const at = { cx: x, cy: -y };
        if (i === next) svg("circle", { ...at, r: 0.15, class: "next-sample" }, marks);
        svg("circle", { ...at, r: 0.08, class: targets[i] ? "target-1" : "target-0" }, marks);
        if (outputs[i] !== targets[i]) {
          const cross = `M ${x + 0.12} ${-y - 0.2} l .12 .12 m 0 -.12 l -.12 .12`;
          svg("path", { d: cross, class: "wrong" }, marks);
        }
      });
      for (const [name, { input, shown }] of Object.entries(sliders)) {
        input.value = unit[name]; // which ends at its range, where training may go beyond
        input.setAttribute("aria-valuetext", unit[name]);
        shown.textContent = unit[name].toFixed(1).replace("-", "−");
      }
      const right = outputs.filter((output, i) => output === targets[i]).length;
      said.textContent = told + say(words["{n} of 4 outputs are correct."], { n: right });
      figure.dataset.drawn = JSON.stringify({ ...unit, gate: gate.value, next, outputs, right });
    };

    const show = () => {
      const values = { x: corners[next].join(", "), y: gates[gate.value][next] };
      values.a = Perceptron.output(unit, corners[next]);
      told = `${say(words["Sample ({x}): the output was {a}, the target is {y}."], values)} `;
      unit = Perceptron.learn(unit, corners[next], values.y, lr);
      next = (next + 1) % corners.length;
    };

    one.addEventListener("click", () => {
      show();
      draw();
    });
    all.addEventListener("click", () => {
      corners.forEach(show);
      told = "";
      draw();
    });
    again.addEventListener("click", () => {
      unit = { ...start };
      next = 0;
      told = "";
      draw();
    });
    gate.addEventListener("change", () => {
      next = 0;
      told = "";
      draw();
    });
    for (const [name, { input }] of Object.entries(sliders)) {
      input.addEventListener("input", () => {
        unit = { ...unit, [name]: Number(input.value) };
        told = "";
        draw();
      });
    }
    draw();
  });
})();
