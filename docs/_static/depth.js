// The interactive deep network: how large the gradient is in each layer.
// `sizes` is the formula of scripts/chapters/depth.py; a test compares the two.
"use strict";

const Depth = {
  // Each activation with its slope, as in src/dlnotes/activations.
  activations: {
    sigmoid: [
      (z) => 1 / (1 + Math.exp(-z)),
      (z) => {
        const e = Math.exp(-Math.abs(z));
        return e / (1 + e) ** 2;
      },
    ],
    tanh: [
      Math.tanh,
      (z) => {
        const e = Math.exp(-2 * Math.abs(z));
        return (4 * e) / (1 + e) ** 2;
      },
    ],
    ReLU: [(z) => Math.max(z, 0), (z) => (z > 0 ? 1 : 0)],
    none: [(z) => z, () => 1],
  },

  // The mean of g(z) for a normal z with the variance q.
  mean(g, q, points, reach) {
    const width = (2 * reach) / points;
    let sum = 0;
    for (let i = 0; i < points; i++) {
      const u = -reach + (i + 0.5) * width;
      sum += (Math.exp((-u * u) / 2) / Math.sqrt(2 * Math.PI)) * width * g(Math.sqrt(q) * u);
    }
    return sum;
  },

  // |δ_l| / |δ_L| for every layer l, the first one first.
  sizes({ activation, scale, depth, points, reach }) {
    const [value, slope] = Depth.activations[activation];
    const factors = [];
    let q = scale ** 2;
    for (let l = 1; l < depth; l++) {
      factors.push(scale * Math.sqrt(Depth.mean((z) => slope(z) ** 2, q, points, reach)));
      q = scale ** 2 * Depth.mean((z) => value(z) ** 2, q, points, reach);
    }
    const found = [1];
    for (const factor of factors.reverse()) found.unshift(found[0] * factor);
    return found;
  },
};

(() => {
  const { choice, element, slider, svg } = Interactive;
  const [WIDTH, HEIGHT, LEFT, RIGHT, TOP, BOTTOM] = [320, 216, 40, 312, 24, 182];
  const DECADES = 24; // the axis goes from 10⁻²⁴ to 10²⁴
  const MUCH = 100; // a gradient that is so many times smaller or larger has vanished or exploded
  const superscript = (n) => String(n).replace(/./g, (c) => (c === "-" ? "⁻" : "⁰¹²³⁴⁵⁶⁷⁸⁹"[c]));
  const short = (n) => {
    if (n >= 0.01 && n < 100) return n.toPrecision(2);
    const [digits, exponent] = n.toExponential(1).split("e");
    return `${digits} · 10${superscript(Number(exponent))}`;
  };

  Interactive.figures("depth", (panel, given, figure) => {
    const { words, scales } = given;
    const plot = svg("svg", { viewBox: `0 0 ${WIDTH} ${HEIGHT}`, role: "img" }, panel);
    plot.setAttribute("aria-label", figure.querySelector("img").alt);
    const height = (size) => {
      const decades = Math.max(-DECADES, Math.min(DECADES, Math.log10(size)));
      return TOP + ((DECADES - decades) / (2 * DECADES)) * (BOTTOM - TOP);
    };
    const text = (x, y, said, anchor) =>
      (svg("text", { x, y, "text-anchor": anchor }, plot).textContent = said);
    for (let d = -DECADES; d <= DECADES; d += 8) {
      const y = height(10 ** d);
      svg("path", { d: `M ${LEFT} ${y} H ${RIGHT}`, class: d ? "level" : "level same" }, plot);
      text(LEFT - 5, y + 3.5, d ? `10${superscript(d)}` : "1", "end");
    }
    text((LEFT + RIGHT) / 2, HEIGHT - 4, words["layer l"], "middle");
    text(LEFT - 34, 10, words["|δₗ| / |δ| of the last layer"], "start");
    const line = svg("polyline", { class: "line" }, plot);
    const dots = svg("g", { class: "dots" }, plot);
    const ticks = svg("g", {}, plot);

    const controls = element("div", "controls", "", panel);
    const names = Object.keys(Depth.activations).map((name) => words[name] ?? name);
    const activation = choice(controls, words["activation"], Object.keys(Depth.activations), names);
    const scale = slider(controls, words["weights s"], 0, scales.length - 1, 1, 0);
    const depth = slider(controls, words["layers L"], 2, 40, 1, 0);
    const again = element("button", "", words["Start again"], controls);
    again.type = "button";
    const said = element("p", "said", "", panel);
    said.setAttribute("aria-live", "polite");

    const draw = () => {
      const now = {
        activation: activation.value,
        scale: scales[scale.input.value],
        depth: Number(depth.input.value),
      };
      const sizes = Depth.sizes({ ...now, points: given.points, reach: given.reach });
      const x = (l) => LEFT + 8 + ((l - 1) / (now.depth - 1)) * (RIGHT - LEFT - 16);
      line.setAttribute("points", sizes.map((size, i) => `${x(i + 1)},${height(size)}`).join(" "));
      dots.replaceChildren();
      sizes.forEach((size, i) => svg("circle", { cx: x(i + 1), cy: height(size), r: 2.2 }, dots));
      ticks.replaceChildren();
      for (const l of new Set([1, Math.round((now.depth + 1) / 2), now.depth])) {
        const tick = svg("text", { x: x(l), y: BOTTOM + 14, "text-anchor": "middle" }, ticks);
        tick.textContent = l;
      }
      scale.shown.textContent = now.scale.toFixed(2);
      scale.input.setAttribute("aria-valuetext", now.scale.toFixed(2));
      depth.shown.textContent = now.depth;
      const [first] = sizes;
      const what = first < 1 / MUCH ? "vanishes" : first > MUCH ? "explodes" : "neither vanishes nor explodes";
      const told = words[`The gradient of layer 1 is {n} times that of layer {L}: it ${what}.`];
      said.textContent = told.replace("{n}", short(first)).replace("{L}", now.depth);
      figure.dataset.drawn = JSON.stringify({ ...now, sizes, what });
    };

    const begin = () => {
      activation.value = given.activation;
      scale.input.value = scales.indexOf(given.scale);
      depth.input.value = given.depth;
      draw();
    };
    again.addEventListener("click", begin);
    controls.addEventListener("input", draw);
    begin();
  });
})();
