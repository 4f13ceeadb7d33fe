// The race: the nine rules of the notes on four surfaces.
// `RULES` are the rules as src/dlnotes/optim has them; a test compares every path with Python's.
"use strict";

const Race = {
  // Rule → one update of one coordinate: from θ, the gradient g, the state s (whatever the rule
  // keeps, 0 at first), the step t and the rate to the new θ. The other arguments have the
  // defaults of src/dlnotes/optim.
  RULES: {
    "gradient-descent": (theta, g, s, t, lr) => theta - lr * g,
    "momentum": (theta, g, s, t, lr, beta = 0.9) => {
      s.V = beta * s.V + (1 - beta) * g;
      return theta - lr * s.V;
    },
    "nesterov": (theta, g, s, t, lr, beta = 0.9) => {
      s.V = beta * s.V + (1 - beta) * g;
      return theta - lr * (beta * s.V + (1 - beta) * g);
    },
    "adagrad": (theta, g, s, t, lr, eps = 1e-8) => {
      s.G = s.G + g * g;
      return theta - (lr * g) / Math.sqrt(s.G + eps);
    },
    "rmsprop": (theta, g, s, t, lr, beta = 0.9, eps = 1e-8) => {
      s.S = beta * s.S + (1 - beta) * g * g;
      return theta - (lr * g) / (Math.sqrt(s.S) + eps);
    },
    "adadelta": (theta, g, s, t, lr, rho = 0.95, eps = 1e-6) => {
      s.G = rho * s.G + (1 - rho) * g * g;
      const delta = (Math.sqrt(s.D + eps) / Math.sqrt(s.G + eps)) * g;
      s.D = rho * s.D + (1 - rho) * delta * delta;
      return theta - lr * delta;
    },
    "adam": (theta, g, s, t, lr, beta1 = 0.9, beta2 = 0.999, eps = 1e-8) => {
      s.m = beta1 * s.m + (1 - beta1) * g;
      s.v = beta2 * s.v + (1 - beta2) * g * g;
      const mHat = s.m / (1 - beta1 ** t);
      const vHat = s.v / (1 - beta2 ** t);
      return theta - (lr * mHat) / (Math.sqrt(vHat) + eps);
    },
  },

  // Surface → its height and its gradient.
  SURFACES: {
    "ravine": {
      height: (x, y) => 0.1 * x * x + 2 * y * y,
      gradient: (x, y) => [0.2 * x, 4 * y],
    },
    "Rosenbrock's valley": {
      height: (x, y) => (1 - x) ** 2 + 100 * (y - x * x) ** 2,
      gradient: (x, y) => [-2 * (1 - x) - 400 * x * (y - x * x), 200 * (y - x * x)],
    },
    "Beale's function": {
      height: (x, y) => Race.beale(x, y).reduce((sum, r) => sum + r * r, 0),
      gradient: (x, y) => {
        const [a, b, c] = Race.beale(x, y);
        const alongX = a * (y - 1) + b * (y * y - 1) + c * (y * y * y - 1);
        return [2 * alongX, 2 * x * (a + 2 * b * y + 3 * c * y * y)];
      },
    },
    "saddle": {
      height: (x, y) => x * x - y * y + 0.25 * y ** 4,
      gradient: (x, y) => [2 * x, -2 * y + y * y * y],
    },
  },

  beale: (x, y) => [1.5 - x + x * y, 2.25 - x + x * y * y, 2.625 - x + x * y * y * y],

  // The path of a rule: `shifts` is by how much the gradients of the samples differ from the
  // surface's, `batch` how many of them an update uses. It ends where the numbers do.
  path({ surface, rule, batch, lr, start, shifts, steps }) {
    const { gradient } = Race.SURFACES[surface];
    const update = Race.RULES[rule];
    const state = [0, 1].map(() => ({ V: 0, G: 0, S: 0, D: 0, m: 0, v: 0 }));
    let theta = [...start];
    const points = [theta];
    for (let t = 1; t <= steps; t++) {
      const g = gradient(...theta);
      if (batch < shifts.length) {
        const first = ((t - 1) * batch) % shifts.length;
        for (const i of [0, 1]) {
          let sum = 0;
          for (let j = 0; j < batch; j++) sum += shifts[first + j][i];
          g[i] += sum / batch;
        }
      }
      theta = theta.map((value, i) => update(value, g[i], state[i], t, lr));
      if (!theta.every(Number.isFinite)) break;
      points.push(theta);
    }
    return points;
  },

  // Marching squares: the contour line of a height as the data of an SVG path.
  contour(z, level, place) {
    const parts = [];
    for (let j = 0; j + 1 < z.length; j++) {
      for (let i = 0; i + 1 < z[j].length; i++) {
        const corners = [[i, j], [i + 1, j], [i + 1, j + 1], [i, j + 1]];
        const crossed = [];
        corners.forEach(([x, y], k) => {
          const [u, v] = corners[(k + 1) % 4];
          const [a, b] = [z[y][x], z[v][u]];
          if (a < level !== b < level) {
            const share = (level - a) / (b - a);
            crossed.push(place(x + share * (u - x), y + share * (v - y)));
          }
        });
        for (let k = 0; k + 1 < crossed.length; k += 2) parts.push(`M${crossed[k]}L${crossed[k + 1]}`);
      }
    }
    return parts.join("");
  },
};

(() => {
  const { choice, element, svg, slider } = Interactive;
  const [WIDTH, HEIGHT] = [300, 200]; // of the drawing
  const GRID = [90, 60]; // points of the contour lines
  const SECONDS = 8; // for which a race is played
  const calm = () => matchMedia("(prefers-reduced-motion: reduce)").matches;
  let figures = 0;

  Interactive.figures("race", (panel, given, figure) => {
    const { words } = given;
    const names = Object.keys(given.racers);
    const number = figures++;

    const surfaces = Object.keys(given.surfaces);
    const surfaceOf = choice(panel, words["surface"], surfaces, surfaces.map((name) => words[name]));
    surfaceOf.value = given.surface;
    const formula = element("p", "formula", "", panel);
    const plot = svg("svg", { viewBox: `0 0 ${WIDTH} ${HEIGHT}`, role: "img" }, panel);
    plot.setAttribute("aria-label", figure.querySelector("img").alt);
    const levels = svg("path", { class: "level" }, plot);
    const lines = Object.fromEntries(names.map((name) => [name, svg("polyline", { class: "path" }, plot)]));
    const start = svg("rect", { width: 7, height: 7, class: "start" }, plot);
    const minima = svg("g", { class: "minima" }, plot);
    const heads = Object.fromEntries(names.map((name) => [name, svg("circle", { r: 3.5 }, plot)]));

    const controls = element("div", "controls", "", panel);
    const steps = slider(controls, words["steps t"], 0, 1, 1, 0);
    const buttons = element("div", "buttons", "", controls);
    const play = element("button", "", words["Play"], buttons);
    const again = element("button", "", words["Start again"], buttons);
    play.type = again.type = "button";
    const whose = choice(controls, words["learning rate of"], ["", ...names], [words["all rules"], ...names]);
    const factor = slider(controls, words["× its best rate"], -20, 6, 1, 0);

    const table = element("table", "racers", "", panel);
    const head = element("tr", "", "", element("thead", "", "", table));
    for (const title of [words["rule"], "α", words["height above the minimum"]]) element("th", "", title, head).scope = "col";
    const body = element("tbody", "", "", table);
    const rows = {};
    for (const name of names) {
      const row = element("tr", "", "", body);
      const cell = element("th", "", "", row);
      cell.scope = "row";
      const label = element("label", "", "", cell);
      const box = element("input", "", "", label);
      Object.assign(box, { type: "checkbox", checked: true, id: `race-${number}-${name}` });
      const swatch = svg("svg", { viewBox: "0 0 24 8", class: "swatch", "aria-hidden": "true" }, label);
      const mark = svg("path", { d: "M0 4H24" }, swatch);
      element("span", "", name, label);
      const [color, dash] = [given.racers[name].color, given.racers[name].dash];
      for (const each of [mark, lines[name]]) {
        each.setAttribute("stroke", color);
        if (dash) each.setAttribute("stroke-dasharray", dash);
      }
      heads[name].setAttribute("fill", color);
      rows[name] = { box, rate: element("td", "", "", row), height: element("td", "", "", row) };
    }
    const said = element("p", "said", "", panel);
    said.setAttribute("aria-live", "polite");

    const factors = Object.fromEntries(names.map((name) => [name, 0])); // in tenths of a power of ten
    let surface; // what is drawn, with its paths
    let paths;
    const rate = (name) => surface.rates[name] * 10 ** (factors[name] / 10);
    const place = ([x, y]) => {
      const [left, right, low, high] = surface.view;
      const inside = (v) => Math.max(-1e4, Math.min(1e4, v)).toFixed(1);
      return `${inside(((x - left) / (right - left)) * WIDTH)},${inside(((high - y) / (high - low)) * HEIGHT)}`;
    };
    const above = (point) => {
      const { height } = Race.SURFACES[surfaceOf.value];
      return Math.max(0, height(...point) - height(...surface.minima[0]));
    };
    const shown = (x) => (x >= 1e5 || (x > 0 && x < 1e-3) ? x.toExponential(1) : String(Number(x.toPrecision(3))));

    // Another surface: its contour lines, start and minima.
    const lay = () => {
      surface = given.surfaces[surfaceOf.value];
      formula.textContent = `f(x, y) = ${surface.formula}`;
      const [left, right, low, high] = surface.view;
      const [columns, many] = GRID;
      const x = (i) => left + ((right - left) * i) / (columns - 1);
      const y = (j) => low + ((high - low) * j) / (many - 1);
      const z = Array.from({ length: many }, (_, j) => Array.from({ length: columns }, (_, i) => above([x(i), y(j)])));
      const most = Math.log10(Math.max(...z.map((row) => Math.max(...row))));
      const at = Array.from({ length: 12 }, (_, k) => 10 ** (-2 + ((most + 2) * k) / 11));
      levels.setAttribute("d", at.map((level) => Race.contour(z, level, (i, j) => place([x(i), y(j)]))).join(""));
      const [startX, startY] = place(surface.start).split(",").map(Number);
      start.setAttribute("x", startX - 3.5);
      start.setAttribute("y", startY - 3.5);
      minima.replaceChildren();
      for (const each of surface.minima) {
        const [cx, cy] = place(each).split(",").map(Number);
        svg("path", { d: `M${cx - 5} ${cy}h10M${cx} ${cy - 5}v10` }, minima);
      }
      steps.input.max = surface.steps;
    };

    const run = () => {
      const { start: from, shifts, steps: many } = surface;
      paths = Object.fromEntries(
        names.map((name) => {
          const { rule, batch } = given.racers[name];
          return [name, Race.path({ surface: surfaceOf.value, rule, batch, lr: rate(name), start: from, shifts, steps: many })];
        }),
      );
      figure.dataset.drawn = JSON.stringify({
        surface: surfaceOf.value,
        rates: Object.fromEntries(names.map((name) => [name, rate(name)])),
        paths,
      });
    };

    const draw = (t, playing = false) => {
      steps.input.value = t;
      steps.shown.textContent = String(t);
      let best = null;
      for (const name of names) {
        const { box, rate: cell, height } = rows[name];
        const points = paths[name];
        const ended = points.length <= t;
        const last = points[Math.min(t, points.length - 1)];
        const high = ended ? Infinity : above(last);
        lines[name].setAttribute("points", points.slice(0, t + 1).map(place).join(" "));
        lines[name].setAttribute("class", name === whose.value ? "path chosen" : "path");
        const [cx, cy] = place(last).split(",");
        heads[name].setAttribute("cx", cx);
        heads[name].setAttribute("cy", cy);
        for (const each of [lines[name], heads[name]]) each.setAttribute("visibility", box.checked ? "visible" : "hidden");
        cell.textContent = shown(rate(name));
        height.textContent = Number.isFinite(high) ? shown(high) : "∞";
        if (box.checked && Number.isFinite(high) && (best === null || high < best.high)) best = { name, high };
      }
      const times = 10 ** (Number(factor.input.value) / 10);
      factor.shown.textContent = shown(Number(times.toPrecision(2)));
      factor.input.setAttribute("aria-valuetext", factor.shown.textContent);
      if (!playing && best) {
        said.textContent = `${words["After"]} ${t} ${words["steps"]}${words[": the lowest is"]} ${best.name} (${shown(best.high)})`;
      }
    };

    let playing = null; // the request of the next frame
    const stop = () => {
      if (playing !== null) cancelAnimationFrame(playing);
      playing = null;
      play.textContent = words["Play"];
    };
    const now = () => Number(steps.input.value);
    play.addEventListener("click", () => {
      if (playing !== null) {
        stop();
        draw(now());
        return;
      }
      if (calm()) {
        draw(surface.steps);
        return;
      }
      const from = now() < surface.steps ? now() : 0;
      const began = performance.now();
      play.textContent = words["Pause"];
      const frame = (time) => {
        const t = Math.min(surface.steps, from + Math.floor((Math.max(0, time - began) / 1000 / SECONDS) * surface.steps));
        if (t < surface.steps) {
          draw(t, true);
          playing = requestAnimationFrame(frame);
        } else {
          stop();
          draw(t);
        }
      };
      playing = requestAnimationFrame(frame);
    });

    const begin = () => {
      stop();
      lay();
      for (const name of names) factors[name] = 0;
      factor.input.value = 0;
      run();
      draw(surface.steps);
    };
    again.addEventListener("click", () => {
      surfaceOf.value = given.surface;
      whose.value = "";
      for (const name of names) rows[name].box.checked = true;
      begin();
    });
    surfaceOf.addEventListener("change", begin);
    whose.addEventListener("change", () => {
      factor.input.value = whose.value ? factors[whose.value] : 0;
      draw(now());
    });
    factor.input.addEventListener("input", () => {
      stop();
      for (const name of whose.value ? [whose.value] : names) factors[name] = Number(factor.input.value);
      run();
      draw(now());
    });
    steps.input.addEventListener("input", () => {
      stop();
      draw(now());
    });
    body.addEventListener("change", () => draw(now(), playing !== null));
    begin();
  });
})();
