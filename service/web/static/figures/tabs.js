// Tabs for the figures, with keyboard navigation.

import { el } from "../dom.js";

// `pick`: number of parameters that the user can choose for the figure.
export const TABS = [
  { name: "param_importances", title: "Importance", pick: 0 },
  { name: "slice", title: "Slice", pick: 1 },
  { name: "contour", title: "Contour", pick: 2 },
  { name: "rank", title: "Rank", pick: 2 },
  { name: "timeline", title: "Timeline", pick: 0 },
  { name: "edf", title: "Distribution", pick: 0 },
];
const STEPS = { ArrowRight: 1, ArrowLeft: -1, Home: -Infinity, End: Infinity };

// `choose(name)` is called when a tab is selected by mouse or keyboard.
export function tabList(first, choose) {
  const buttons = TABS.map(({ name, title }) =>
    el("button", { type: "button", role: "tab", id: `figure-tab-${name}`, "aria-controls": "figure-panel", onclick: () => choose(name) }, title));
  const node = el("div", { class: "tabs", role: "tablist", "aria-label": "Figures", onkeydown: walk }, buttons);

  function walk(event) {
    if (!(event.key in STEPS)) return;
    event.preventDefault();
    const step = STEPS[event.key];
    const here = buttons.indexOf(document.activeElement);
    const place = Number.isFinite(step) ? (here + step + buttons.length) % buttons.length : step < 0 ? 0 : buttons.length - 1;
    buttons[place].focus();
    choose(TABS[place].name);
  }

  function select(name) {
    TABS.forEach((tab, place) => {
      buttons[place].setAttribute("aria-selected", String(tab.name === name));
      buttons[place].tabIndex = tab.name === name ? 0 : -1;
    });
  }

  select(first);
  return { node, select };
}
