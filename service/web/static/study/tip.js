// The tooltip of charts for the trial at the pointer or keyboard focus.

import { byId, el } from "../dom.js";
import { metric, number, scalar } from "../format.js";
import { note } from "../trials.js";

const MOST_PARAMETERS = 14;
const tip = el("div", { class: "tip", hidden: true, role: "presentation" });
document.body.append(tip);

function pairs(trial) {
  const entries = Object.entries(trial.params);
  const shown = entries.slice(0, MOST_PARAMETERS).flatMap(([name, value]) => [el("dt", {}, name), el("dd", {}, scalar(value))]);
  return el("dl", {}, shown, entries.length > MOST_PARAMETERS ? el("dt", {}, `and ${entries.length - MOST_PARAMETERS} more`) : null);
}

export function showTip(trial, measure, value, { x, y }) {
  const reason = note(trial);
  tip.replaceChildren(
    el("p", { class: "tip-head" }, el("strong", {}, `Trial ${trial.number}`), ` · ${trial.state}`),
    el("p", {}, `${measure.name} ${metric(measure, value)}`, trial.step ? el("span", { class: "quiet" }, ` after epoch ${trial.step}`) : null),
    pairs(trial),
    ...(reason ? [el("p", { class: "quiet" }, reason)] : []),
  );
  tip.hidden = false;
  const { offsetWidth: width, offsetHeight: height } = tip;
  const left = x + 16 + width > innerWidth - 8 ? x - 16 - width : x + 16;
  tip.style.left = `${Math.max(8, Math.min(left, innerWidth - width - 8))}px`;
  tip.style.top = `${Math.max(8, Math.min(y - height / 2, innerHeight - height - 8))}px`;
}

export function hideTip() {
  tip.hidden = true;
}

// Announces the trial to screen readers when it is selected by keyboard.
export function say(trial, measure, value) {
  const params = Object.entries(trial.params).map(([key, item]) => `${key} ${typeof item === "number" ? number(item) : item}`);
  byId("said").textContent = `Trial ${trial.number}, ${trial.state}, ${measure.name} ${metric(measure, value)}. ${params.join(", ")}`;
}
