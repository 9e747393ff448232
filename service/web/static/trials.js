// A trial as a row of the table.

import { el } from "./dom.js";
import { elapsed, metric, scalar } from "./format.js";
import { inShort } from "./pace.js";
import { statePill } from "./parts.js";

const REASONS = {
  out_of_memory: "ran out of memory", diverged: "diverged", crashed: "crashed", timeout: "took too long", bad_data: "bad data",
  script_error: "script error", lost: "its worker was lost",
};

function note(trial) {
  if (trial.duplicate_of !== null) return `same as trial ${trial.duplicate_of}, not trained again`;
  if (trial.reason) return [REASONS[trial.reason], trial.detail].filter(Boolean).join(": ");
  if (trial.detail) return trial.detail;
  const origin = trial.attempt > 1 ? `attempt ${trial.attempt}` : { baseline: "baseline", user: "queued by hand" }[trial.source];
  return [inShort(trial), origin].filter(Boolean).join(" · ");
}

function current(study, trial) {
  if (trial.state === "complete") return trial.value;
  return trial.metrics[study.spec.objective.metric];
}

function epochs(study, trial) {
  const all = trial.params.epochs ?? study.spec.fixed.epochs;
  return all ? `${trial.step} / ${all}` : String(trial.step);
}

// `toggle(number)` opens and closes what is known of the trial's speed, in a row below.
export function trialRow(study, trial, open, toggle) {
  const best = study.best?.number === trial.number;
  const value = metric(study.spec.objective.metric, current(study, trial));
  const chips = Object.entries(trial.params).map(([name, item]) => el("span", { class: "chip" }, el("span", {}, name), ` ${scalar(item)}`));
  return el(
    "tr",
    { class: best ? "best" : null, "data-key": trial.number, "data-print": JSON.stringify([{ ...trial, result: null }, best, open]) },
    el("th", { scope: "row", class: "number" },
      el("button", { class: "opener", type: "button", "aria-expanded": String(open), "aria-controls": open ? `trial-${trial.number}` : null, onclick: () => toggle(trial.number) }, String(trial.number))),
    el("td", {}, statePill(trial.state)),
    el("td", { class: `number ${trial.state === "complete" ? "strong" : "quiet"}` }, value, best ? el("span", { class: "star", title: "best so far" }, " ★") : null),
    el("td", { class: "number" }, epochs(study, trial)),
    el("td", { class: "chips" }, chips),
    el("td", { class: "number" }, trial.finished_at || trial.state === "running" ? elapsed(trial.started_at, trial.finished_at) : "–"),
    el("td", { class: "remark" }, note(trial)),
  );
}
