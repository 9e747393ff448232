// Elements shared by several pages: state, progress bar, notice, confirmation dialog.

import { el } from "./dom.js";
import { count } from "./format.js";

const MARKS = {
  active: "▶", running: "▶", paused: "‖", queued: "…", complete: "✓", pruned: "✂", failed: "✕", cancelled: "–", stopped: "■",
};
const FINISHED = ["complete", "pruned", "failed", "cancelled"];

export function statePill(state) {
  return el("span", { class: `pill ${state}` }, el("span", { "aria-hidden": "true" }, MARKS[state] ?? "•"), ` ${state}`);
}

// A mark for a study whose confirmation is running or done; null for other studies.
export function phaseMark(phase) {
  const label = { running: "confirming", done: "confirmed" }[phase];
  return label ? el("span", { class: `phase ${label}` }, label) : null;
}

export const finishedTrials = (counts) => FINISHED.reduce((sum, state) => sum + (counts[state] ?? 0), 0);

// Shares of the budget by state. Without a limit on trials, the total is the number of created trials.
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

// Shows a dialog. Resolves to true if the action's button was pressed, to false after Escape or Cancel.
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

// A small toggle button.
export function toggleButton(label, pressed, changed) {
  return el("button", { class: "toggle", type: "button", "aria-pressed": String(pressed), onclick: changed }, label);
}
