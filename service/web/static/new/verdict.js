// The result of the server's check: the document's faults, or a summary of the study.

import { el, withCode } from "../dom.js";
import { count, plural } from "../format.js";
import { subject } from "../measures.js";
import { faultList, placeName } from "./faults.js";
import { inWords } from "./space.js";

export function showVerdict(node, form, { study, trials, faults, notices, trouble }, preset) {
  const open = node.querySelector("details")?.open ?? false;
  node.replaceChildren(...(study ? approval({ study, trials, notices }, preset) : objection(form, faults, trouble)));
  const details = node.querySelector("details");
  if (details) details.open = open;
}

function objection(form, faults, trouble) {
  if (trouble) return [el("p", { class: "verdict bad" }, `Not checked. ${trouble}`)];
  return [el("p", { class: "verdict todo" }, `${plural(faults.length, "error", "errors")}`), faultList(form, faults)];
}

function approval({ study, trials, notices }, preset) {
  const { budget } = study;
  const bounds = [budget.trials ? plural(budget.trials, "trial", "trials") : null, budget.hours ? `${budget.hours} h` : null].filter(Boolean).join(" or ");
  const facts = [
    ["Search", `${bounds}, ${study.sampler.name} sampler, ${study.pruner.name === "none" ? "no pruner" : `${study.pruner.name} pruner`}`],
    ["Space", trials === null ? `${plural(Object.keys(study.search_space).length, "parameter", "parameters")}, continuous` : plural(trials, "configuration", "configurations")],
    ...subject(study),
    study.model ? ["Weights", study.model.weights === "random" ? "random initial values" : study.model.weights] : null,
    ["Confirm", study.confirm ? `the best ${count(study.confirm.top)} and the baseline, up to ${plural(study.confirm.seeds, "seed", "seeds")} each` : "nothing"],
    preset ? ["Cost", preset.cost] : null,
  ].filter(Boolean);
  return [
    el("p", { class: "verdict good" }, "✓ Ready to create"),
    notices?.length ? el("ul", { class: "fault-list notices" }, notices.map(({ pointer, message }) => el("li", {}, el("strong", {}, placeName(pointer)), withCode(`: ${message}`)))) : null,
    el("dl", { class: "facts" }, facts.map(([name, value]) => el("div", {}, el("dt", {}, name), el("dd", {}, value)))),
    el("details", { class: "disclosure" }, el("summary", {}, "Search space in full"),
      el("dl", { class: "params" }, Object.entries(study.search_space).map(([name, parameter]) => el("div", {}, el("dt", { class: "mono" }, name), el("dd", {}, inWords(parameter)))))),
  ].filter(Boolean);
}

