// An activation with its slope and a tangent to move. `Activations` has the formulas of
// src/dlnotes/activations; a test compares values and slopes with Python's.
"use strict";

const Activations = (() => {
  const { abs, exp, expm1, log1p, max, min, sign, sqrt, tanh, PI } = Math;
  const clamp = (x, low, high) => min(max(x, low), high);
  const inside = (x, low, high) => Number(low < x && x < high);
  const sigmoid = (x) => (x > 0 ? 1 : exp(x)) / (1 + exp(-abs(x)));
  const bell = (x) => exp(-abs(x)) / (1 + exp(-abs(x))) ** 2; // the slope of the sigmoid
  const leaky = (a) => ({
    value: (x) => (x > 0 ? x : a * x),
    slope: (x) => (x > 0 ? 1 : a),
  });
  const exponential = (alpha, scale, width) => ({
    value: (x) => (x > 0 ? scale * x : scale * alpha * expm1(x / width)),
    slope: (x) => (x > 0 ? scale : ((scale * alpha) / width) * exp(x / width)),
  });
  const [ALPHA, SCALE] = [1.6732632423543772848, 1.0507009873554804934]; // of SELU

  // A series of positive terms: no digits cancel.
  const erf = (z) => {
    if (abs(z) > 6) return sign(z);
    let term = (2 * abs(z)) / sqrt(PI);
    let sum = 0;
    for (let n = 1; term > 1e-18; n++) {
      sum += term;
      term *= (2 * z * z) / (2 * n + 1);
    }
    return sign(z) * exp(-z * z) * sum;
  };
  const normal = (x) => 0.5 * (1 + erf(x * sqrt(0.5)));

  const silu = (x) => x * sigmoid(x);
  const siluSlope = (x) => sigmoid(x) * (1 + x * sigmoid(-x));
  const mishGate = (x) => tanh(max(x, 0) + log1p(exp(-abs(x))));
  const pieces = (x) => [[-x / 2 - 1, -0.5], [x / 4, 0.25], [x - 1, 1]];
  const winner = (x) => pieces(x).reduce((best, piece) => (piece[0] > best[0] ? piece : best));

  return {
    step: { value: (x) => Number(x > 0), slope: () => 0 },
    sigmoid: { value: sigmoid, slope: bell },
    tanh: { value: tanh, slope: (x) => 4 * bell(2 * x) },
    relu: leaky(0),
    leaky_relu: leaky(0.1),
    prelu: leaky(0.25),
    rrelu: leaky(11 / 48),
    maxout: { value: (x) => winner(x)[0], slope: (x) => winner(x)[1] },
    elu: exponential(1, 1, 1),
    softplus: { value: (x) => max(x, 0) + log1p(exp(-abs(x))), slope: sigmoid },
    gelu: {
      value: (x) => x * normal(x),
      slope: (x) => normal(x) + (x * exp((-x * x) / 2)) / sqrt(2 * PI),
    },
    silu: { value: silu, slope: siluSlope },
    hardtanh: { value: (x) => clamp(x, -1, 1), slope: (x) => inside(x, -1, 1) },
    relu6: { value: (x) => clamp(x, 0, 6), slope: (x) => inside(x, 0, 6) },
    hardsigmoid: { value: (x) => clamp(x + 3, 0, 6) / 6, slope: (x) => inside(x, -3, 3) / 6 },
    hardswish: {
      value: (x) => (x * clamp(x + 3, 0, 6)) / 6,
      slope: (x) => (abs(x) < 3 ? (2 * x + 3) / 6 : clamp(x, 0, 1)),
    },
    selu: exponential(ALPHA, SCALE, 1),
    celu: exponential(2, 1, 2),
    mish: {
      value: (x) => x * mishGate(x),
      slope: (x) => mishGate(x) + x * (1 - mishGate(x) ** 2) * sigmoid(x),
    },
    softsign: { value: (x) => x / (1 + abs(x)), slope: (x) => 1 / (1 + abs(x)) ** 2 },
    logsigmoid: { value: (x) => min(x, 0) - log1p(exp(-abs(x))), slope: (x) => sigmoid(-x) },
    softshrink: { value: (x) => x - clamp(x, -1, 1), slope: (x) => Number(abs(x) > 1) },
    hardshrink: { value: (x) => (abs(x) > 1 ? x : 0), slope: (x) => Number(abs(x) > 1) },
    tanhshrink: { value: (x) => x - tanh(x), slope: (x) => tanh(x) ** 2 },
    squared_relu: { value: (x) => max(x, 0) ** 2, slope: (x) => 2 * max(x, 0) },
    // The gated units halve what they read; here the two halves are 1 − x/2 and the gate x.
    glu: {
      value: (x) => (1 - x / 2) * sigmoid(x),
      slope: (x) => (1 - x / 2) * bell(x) - sigmoid(x) / 2,
    },
    swiglu: {
      value: (x) => (1 - x / 2) * silu(x),
      slope: (x) => (1 - x / 2) * siluSlope(x) - silu(x) / 2,
    },
  };
})();

(() => {
  const { element, svg, slider, choice } = Interactive;
  const [LEFT, RIGHT, LOW, HIGH] = [-8, 8, -3, 6.5]; // what is drawn at most
  const grid = Array.from({ length: 1601 }, (_, i) => LEFT + ((RIGHT - LEFT) * i) / 1600);
  const JUMP = 0.1; // between two points of the grid: the line is interrupted

  Interactive.figures("slope", (panel, given, figure) => {
    const { words } = given;
    const controls = element("div", "controls", "", panel);
    const name = choice(controls, words["activation"]);
    for (const [group, names] of given.groups) {
      const part = document.createElement("optgroup");
      part.label = words[group];
      for (const [value, text] of names) part.append(new Option(text, value));
      name.append(part);
    }
    name.value = given.activation;
    const x = slider(controls, "x", LEFT, RIGHT, 0.05, given.x);
    const plot = svg("svg", { role: "img" }, panel);
    const legend = element("p", "legend", "", panel);
    element("span", "value", "f(x)", legend);
    element("span", "derivative", "f′(x)", legend);
    element("span", "tangent", words["tangent"], legend);
    const said = element("p", "said", "", panel);
    said.setAttribute("aria-live", "polite");

    const draw = () => {
      const { value, slope } = Activations[name.value];
      const at = Number(x.input.value);
      const [y, k] = [value(at), slope(at)];

      // Pixels, so that the letters have one size on every screen.
      const width = plot.clientWidth || 600;
      const height = Math.max(220, Math.min(360, width / 2));
      const both = grid.flatMap((v) => [value(v), slope(v)]);
      const bottom = Math.max(LOW, Math.min(...both));
      const top = Math.min(HIGH, Math.max(...both));
      const margin = 0.1 * (top - bottom);
      const right = (v) => 8 + ((width - 16) * (v - LEFT)) / (RIGHT - LEFT);
      const up = (v) => (height * (top + margin - v)) / (top - bottom + 2 * margin);
      plot.setAttribute("viewBox", `0 0 ${width} ${height}`);
      plot.replaceChildren();
      const seen = "The curve of {name}, its slope as a dashed curve, and the tangent at a point.";
      plot.setAttribute("aria-label", words[seen].replace("{name}", name.selectedOptions[0].text));

      const line = (x1, y1, x2, y2, kind) =>
        svg("path", { d: `M ${right(x1)} ${up(y1)} L ${right(x2)} ${up(y2)}`, class: kind }, plot);
      const letter = (px, py, text, anchor) =>
        (svg("text", { x: px, y: py, "text-anchor": anchor }, plot).textContent = text);
      const spacing = top - bottom < 2.5 ? 0.5 : top - bottom < 5 ? 1 : 2;
      for (let v = -6; v <= 6; v += 2) {
        line(v, bottom - margin, v, top + margin, v ? "grid" : "axis");
        if (v) letter(right(v), up(0) + 15, String(v).replace("-", "−"), "middle");
      }
      for (let v = Math.ceil(bottom / spacing) * spacing; v <= top + margin / 2; v += spacing) {
        line(LEFT, v, RIGHT, v, v ? "grid" : "axis");
        if (v) letter(right(LEFT), up(v) - 4, String(v).replace("-", "−"), "start");
      }
      const curve = (f, kind) => {
        let before = Infinity;
        const d = grid.map((v) => {
          const here = f(v);
          const move = Math.abs(here - before) > JUMP ? "M" : "L";
          before = here;
          return `${move} ${right(v)} ${up(here)}`;
        });
        svg("path", { d: d.join(" "), class: kind }, plot);
      };
      curve(slope, "derivative");
      curve(value, "value");
      line(at - 2, y - 2 * k, at + 2, y + 2 * k, "tangent");
      svg("circle", { cx: right(at), cy: up(k), r: 4, class: "derivative" }, plot);
      svg("circle", { cx: right(at), cy: up(y), r: 6, class: "value" }, plot);

      const told = at.toFixed(2).replace("-", "−");
      const number = (v) => String(Number(v.toPrecision(6))).replace("-", "−");
      x.shown.textContent = told;
      x.input.setAttribute("aria-valuetext", told);
      said.textContent = `f(${told}) = ${number(y)}, f′(${told}) = ${number(k)}`;
      figure.dataset.drawn = JSON.stringify({ activation: name.value, x: at, value: y, slope: k });
    };

    // The point can be dragged as well; up and down the page still scrolls.
    const drag = (event) => {
      if (!event.buttons) return;
      const box = plot.getBoundingClientRect();
      const share = (event.clientX - box.left - 8) / (box.width - 16);
      x.input.value = LEFT + share * (RIGHT - LEFT);
      draw();
    };
    plot.addEventListener("pointerdown", drag);
    plot.addEventListener("pointermove", drag);
    controls.addEventListener("input", draw);
    new ResizeObserver(draw).observe(panel);
    draw();
  });
})();
