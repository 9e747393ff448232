// A trial's parameters next to those of the best trial and the baseline, with differences marked.

import { el } from "../dom.js";
import { scalar } from "../format.js";

const show = (value) => (value === undefined ? "–" : scalar(value));

function other(mine, value) {
  const same = mine === value;
  return el("td", { class: `mono ${same ? "quiet" : "differs"}` }, same ? null : el("span", { class: "unequal", role: "img", "aria-label": "differs:" }, "≠ "), same ? "same" : show(value));
}

// `others`: [{title, params}]; can be empty.
export function parametersTable(params, others) {
  const names = [...new Set([params, ...others.map((one) => one.params)].flatMap((one) => Object.keys(one)))];
  return el("table", { class: "parameters" },
    el("thead", {}, el("tr", {}, el("th", { scope: "col" }, "Parameter"), el("th", { scope: "col" }, "This trial"), others.map((one) => el("th", { scope: "col" }, one.title)))),
    el("tbody", {}, names.map((name) => el("tr", {},
      el("th", { scope: "row" }, name), el("td", { class: "mono strong" }, show(params[name])), others.map((one) => other(params[name], one.params[name]))))));
}
