// The configurations (arms) of a confirmation: their order, marks and descriptions. `verdict` comes from `worded` in measures.js.

import { metric, plural } from "../format.js";
import { onTest } from "../measures.js";
import { interval, level, middle } from "./estimates.js";

const sum = (values) => values.reduce((total, value) => total + value, 0);

// The mean over the completed runs; null if there are none.
export const meanOf = (arm) => arm.mean?.value ?? (arm.test.length ? sum(arm.test) / arm.test.length : null);

// Tied configurations first, best one first; then the others by their mean; configurations without a result last.
export function inOrder({ arms, tied, objective }) {
  const sign = objective.direction === "maximize" ? -1 : 1;
  const place = (arm) => (tied.includes(arm.trial) ? tied.indexOf(arm.trial) : tied.length);
  const reached = (arm) => (meanOf(arm) === null ? Infinity : sign * meanOf(arm));
  return [...arms].sort((one, other) => place(one) - place(other) || reached(one) - reached(other) || one.trial - other.trial);
}

// The recommendation is shown only at the end: before, it could change with each run.
export const isRecommended = (verdict, arm) => verdict.state === "done" && verdict.recommended === arm.trial;

// Labels of the configuration.
export function marksOf(verdict, arm) {
  return [
    isRecommended(verdict, arm) ? "recommended" : null,
    arm.baseline ? "baseline" : null,
    verdict.best === arm.trial && !isRecommended(verdict, arm) ? `best mean${verdict.state === "done" ? "" : " so far"}` : null,
    arm.failed ? "failed" : null,
    arm.stopped_after ? `stopped after round ${arm.stopped_after}` : null,
  ].filter(Boolean);
}

export function inWords(verdict, arm) {
  const { measure } = verdict;
  const mean = meanOf(arm);
  return [
    `Trial ${arm.trial}${marksOf(verdict, arm).map((mark) => `, ${mark}`).join("")}`,
    mean === null ? "no completed run" : `${arm.mean ? middle(measure, arm.mean) : metric(measure, mean)} ${onTest(verdict)} over ${plural(arm.test.length, "run", "runs")}`,
    arm.mean ? `${level(arm.mean)} ${interval(measure, arm.mean)}` : null,
    arm.searched === null ? null : `${metric(measure, arm.searched)} in the search`,
  ].filter(Boolean).join("; ");
}
