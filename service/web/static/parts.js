// Pieces that several pages show: a state, a bar of progress.

import { el } from "./dom.js";
import { count } from "./format.js";

const MARKS = {
  active: "▶", running: "▶", paused: "‖", queued: "…", complete: "✓", pruned: "✂", failed: "✕", cancelled: "–", stopped: "■",
};
const FINISHED = ["complete", "pruned", "failed", "cancelled"];

export function statePill(state) {
  return el("span", { class: `pill ${state}` }, el("span", { "aria-hidden": "true" }, MARKS[state] ?? "•"), ` ${state}`);
}

export const finishedTrials = (counts) => FINISHED.reduce((sum, state) => sum + (counts[state] ?? 0), 0);

// Shares of the budget by state. With no bound on trials the bar shows those that were created.
export function progressBar(study) {
  const total = study.budget.trials ?? Math.max(study.created, 1);
  const done = finishedTrials(study.counts);
  const parts = [...FINISHED, "running"].filter((state) => study.counts[state]);
  return el(
    "div",
    { class: "progress", role: "progressbar", "aria-valuemin": 0, "aria-valuemax": total, "aria-valuenow": done, "aria-label": "Trials done" },
    parts.map((state) => {
      const part = el("span", { class: state, title: `${count(study.counts[state])} ${state}` });
      part.style.setProperty("--share", study.counts[state] / total);
      return part;
    }),
  );
}

export function showNotice(node, text) {
  node.textContent = text ?? "";
  node.hidden = !text;
}
