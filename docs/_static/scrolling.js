// Whatever scrolls sideways can be reached with the keyboard, and has a name for those who cannot
// see it. The names are attributes of this script's element.
"use strict";

(() => {
  const { table, code, formula } = document.currentScript.dataset;
  const update = (region, name) => {
    if (region.scrollWidth > region.clientWidth) {
      region.tabIndex = 0;
      region.setAttribute("role", "group"); // not a landmark: a page can have many
      region.setAttribute("aria-label", name);
    } else {
      for (const attribute of ["tabindex", "role", "aria-label"]) region.removeAttribute(attribute);
    }
  };
  const kinds = { ".table-wrapper": table, ".highlight pre": code, "div.math": formula };
  for (const [selector, name] of Object.entries(kinds)) {
    for (const region of document.querySelectorAll(selector)) {
      // Its size changes with the window, with an answer that is opened, and with a formula drawn.
      new ResizeObserver(() => update(region, name)).observe(region);
    }
  }
})();
