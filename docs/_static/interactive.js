// What the interactive figures share: a panel in place of the picture, sliders, SVG.
"use strict";

const Interactive = {
  // An SVG element with its attributes, as the last child of `parent`.
  svg(name, attributes, parent) {
    const made = document.createElementNS("http://www.w3.org/2000/svg", name);
    for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
    parent.append(made);
    return made;
  },

  // An HTML element with a class and a text.
  element(name, className, text, parent) {
    const made = document.createElement(name);
    made.className = className;
    made.textContent = text;
    parent.append(made);
    return made;
  },

  // A slider with its name before it and its value, which the caller writes into `shown`, behind.
  slider(parent, label, min, max, step, value) {
    const box = document.createElement("label");
    const name = document.createElement("span");
    const input = document.createElement("input");
    const shown = document.createElement("output");
    name.textContent = label;
    Object.assign(input, { type: "range", min, max, step, value });
    box.append(name, input, shown);
    parent.append(box);
    return { input, shown };
  },

  // A list to choose from with its name before it; `shown` are the values' names, if they differ.
  // Without values, the caller appends the options.
  choice(parent, label, values = [], shown = values) {
    const box = document.createElement("label");
    const name = document.createElement("span");
    const list = document.createElement("select");
    name.textContent = label;
    values.forEach((value, i) => list.add(new Option(shown[i], value)));
    box.append(name, list);
    parent.append(box);
    return list;
  },

  // Start every figure of a kind: `start(panel, given, figure)` fills the panel, which then takes
  // the place of the pictures. `given` is what the directive handed over.
  figures(kind, start) {
    for (const figure of document.querySelectorAll(`figure.${kind}`)) {
      const panel = document.createElement("div");
      panel.className = "panel";
      start(panel, JSON.parse(figure.dataset.given), figure);
      for (const image of figure.querySelectorAll("img")) image.hidden = true;
      figure.prepend(panel);
    }
  },
};
