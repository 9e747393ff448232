// What the study found and on what: its best configuration, its data and its model.

import { bestAddress } from "../api.js";
import { byId, el } from "../dom.js";
import { count, scalar } from "../format.js";

const MOST_CLASSES = 24;

const list = (pairs) => pairs.map(([name, value]) => el("div", {}, el("dt", {}, name), el("dd", {}, value)));

export function showBest({ study, key }) {
  const { best } = study;
  const links = [
    el("a", { href: `/studies/${encodeURIComponent(key)}/best` }, "Use it"),
    ...["yaml", "json"].map((format) => el("a", { href: bestAddress(key, format), download: `${study.id}-best.${format}` }, format.toUpperCase())),
  ];
  byId("best-links").replaceChildren(...(best ? links : []));
  byId("best").replaceChildren(best ? el("dl", { class: "params" }, list(Object.entries(best.params).map(([name, value]) => [name, scalar(value)]))) : el("p", { class: "quiet" }, "It appears here with the first complete trial."));
}

function classes({ classes: names }) {
  return `${count(names.length)}: ${names.slice(0, MOST_CLASSES).join(", ")}${names.length > MOST_CLASSES ? ", …" : ""}`;
}

export function showFacts({ study: { spec, facts } }) {
  byId("facts").replaceChildren(...list([
    ["Data", spec.data.path],
    ["Weights", spec.model.weights ?? "none, random initial values"],
    ["Images", facts ? Object.entries(facts.images).map(([part, size]) => `${count(size)} ${part}`).join(", ") : "checked by the first worker"],
    ["Classes", facts ? classes(facts) : "–"],
    ["Fixed", Object.entries(spec.fixed).map(([name, value]) => `${name} ${scalar(value)}`).join(", ") || "nothing"],
  ]));
}
