// The interactive ravine: gradient descent and momentum on f(x, y) = (x² + κy²)/2.
// `path` is the rule as src/dlnotes/optim has it; a test compares it with Python's trajectory.
"use strict";

const Ravine = {
  // One update: θ ← θ − αV with V ← βV + (1 − β)g; β = 0 is gradient descent.
  update(theta, g, V, lr, beta) {
    V = beta * V + (1 - beta) * g;
    return [theta - lr * V, V];
  },

  path({ lr, beta, kappa, start, steps }) {
    let [x, y] = start;
    let Vx = 0;
    let Vy = 0;
    const points = [[x, y]];
    for (let t = 0; t < steps; t++) {
      const gx = x;
      const gy = kappa * y;
      [x, Vx] = Ravine.update(x, gx, Vx, lr, beta);
      [y, Vy] = Ravine.update(y, gy, Vy, lr, beta);
      points.push([x, y]);
    }
    return points;
  },

  height([x, y], kappa) {
    return (x * x + kappa * y * y) / 2;
  },
};

(() => {
  const { element, svg, slider } = Interactive;
  const [LEFT, RIGHT, TOP] = [-10.5, 4.5, 3]; // the part of the plane that is drawn
  const STRETCH = 1.6; // y is drawn larger than x: a narrow ravine is hard to see on a phone
  const LEVELS = [0.5, 2, 6, 14, 28, 50, 80, 120];

  // Far away points are pulled in, along their line from the middle: SVG numbers stay small.
  const inside = (v) => Math.max(-1e4, Math.min(1e4, v));

  Interactive.figures("ravine", (panel, given, figure) => {
    const { words, kappa } = given;
    const hasMomentum = given.rule === "momentum";
    const plot = svg("svg", { viewBox: `${LEFT} ${-TOP * STRETCH} ${RIGHT - LEFT} ${2 * TOP * STRETCH}` }, panel);
    plot.setAttribute("role", "img");
    plot.setAttribute("aria-label", figure.querySelector("img").alt);
    for (const level of LEVELS) {
      const rx = Math.sqrt(2 * level);
      svg("ellipse", { rx, ry: (STRETCH * rx) / Math.sqrt(kappa), class: "level" }, plot);
    }
    const plain = hasMomentum ? svg("polyline", { class: "plain" }, plot) : null;
    const line = svg("polyline", { class: "line" }, plot);
    const dots = svg("g", { class: "dots" }, plot);
    svg("circle", { cx: given.start[0], cy: -given.start[1] * STRETCH, r: 0.17, class: "start" }, plot);
    svg("path", { d: "M -.25 0 H .25 M 0 -.25 V .25", class: "minimum" }, plot);

    const legend = element("p", "legend", "", panel);
    element("span", "start", words["start"], legend);
    element("span", "minimum", words["minimum"], legend);
    if (hasMomentum) element("span", "plain", words["same α without momentum"], legend);

    const controls = element("div", "controls", "", panel);
    // The rate's slider goes through a list, denser where the path changes.
    const { rates } = given;
    const lr = slider(controls, words["learning rate α"], 0, rates.length - 1, 1, rates.indexOf(given.lr));
    const beta = hasMomentum ? slider(controls, words["momentum β"], 0, 0.98, 0.01, given.beta) : null;
    const steps = slider(controls, words["steps t"], 0, 100, 1, 40);
    const again = element("button", "", words["Start again"], controls);
    again.type = "button";
    const said = element("p", "said", "", panel);
    said.setAttribute("aria-live", "polite");

    const points = (path) => path.map(([x, y]) => `${inside(x)},${inside(-y * STRETCH)}`).join(" ");

    const draw = () => {
      const now = {
        lr: rates[lr.input.value],
        beta: beta ? Number(beta.input.value) : 0,
        kappa,
        start: given.start,
        steps: Number(steps.input.value),
      };
      const path = Ravine.path(now);
      line.setAttribute("points", points(path));
      if (plain) plain.setAttribute("points", points(Ravine.path({ ...now, beta: 0 })));
      dots.replaceChildren();
      for (const [x, y] of path) {
        if (Math.abs(x) < 20 && Math.abs(y) < 20) svg("circle", { cx: x, cy: -y * STRETCH, r: 0.075 }, dots);
      }
      lr.shown.textContent = String(now.lr);
      lr.input.setAttribute("aria-valuetext", String(now.lr));
      if (beta) beta.shown.textContent = now.beta.toFixed(2);
      steps.shown.textContent = String(now.steps);
      const [first, last] = [path[0], path[now.steps]].map((p) => Ravine.height(p, kappa));
      const state =
        last > first ? ` – ${words["moves away from the minimum"]}`
        : last < 1e-6 ? ` – ${words["arrived"]}` : "";
      said.textContent = `${words["After"]} ${now.steps} ${words["steps"]}: f = ${last.toPrecision(3)}${state}`;
      figure.dataset.drawn = JSON.stringify({ ...now, path });
    };

    again.addEventListener("click", () => {
      lr.input.value = rates.indexOf(given.lr);
      if (beta) beta.input.value = given.beta;
      steps.input.value = 40;
      draw();
    });
    controls.addEventListener("input", draw);
    draw();
  });
})();
