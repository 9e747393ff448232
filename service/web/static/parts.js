// Pieces that several pages show: a state, a bar of progress, a notice, a question before something is done for good.

import { el } from "./dom.js";
import { count } from "./format.js";

const MARKS = {
  active: "▶", running: "▶", paused: "‖", queued: "…", complete: "✓", pruned: "✂", failed: "✕", cancelled: "–", stopped: "■",
};
const FINISHED = ["complete", "pruned", "failed", "cancelled"];

export function statePill(state) {
  return el("span", { class: `pill ${state}` }, el("span", { "aria-hidden": "true" }, MARKS[state] ?? "•"), ` ${state}`);
}

// A mark for a study whose best is trained again with fresh seeds, or was; null for others.
export function phaseMark(phase) {
  const word = { running: "confirming", done: "confirmed" }[phase];
  return word ? el("span", { class: `phase ${word}` }, word) : null;
}

export const finishedTrials = (counts) => FINISHED.reduce((sum, state) => sum + (counts[state] ?? 0), 0);

// Shares of the budget by state. With no bound on trials the bar shows those that were created.
export function progressBar(study) {
  const done = finishedTrials(study.counts);
  const total = study.budget.trials ?? Math.max(done + (study.counts.queued ?? 0) + (study.counts.running ?? 0), 1);
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

// Asks in a dialog. Whether the action's button was pressed; Escape and Cancel are no.
export function confirmed({ title, text, action, danger = false }) {
  return new Promise((resolve) => {
    const yes = el("button", { class: `button primary ${danger ? "danger" : ""}`, value: "yes" }, action);
    const dialog = el(
      "dialog",
      { "aria-labelledby": "question" },
      el("form", { method: "dialog" },
        el("h2", { id: "question" }, title),
        el("p", {}, text),
        el("footer", {}, el("button", { class: "button", value: "", autofocus: true }, "Cancel"), yes)),
    );
    dialog.addEventListener("close", () => {
      dialog.remove();
      resolve(dialog.returnValue === "yes");
    });
    document.body.append(dialog);
    dialog.showModal();
  });
}

// A choice that is on or off, as a small button.
export function toggleButton(label, pressed, changed) {
  return el("button", { class: "toggle", type: "button", "aria-pressed": String(pressed), onclick: changed }, label);
}
