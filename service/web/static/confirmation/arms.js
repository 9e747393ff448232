// The configurations of a confirmation in the order in which they are shown, and each in words. `verdict` is as measures.js words it.

import { metric, plural } from "../format.js";
import { interval, level, middle } from "./estimates.js";

const sum = (values) => values.reduce((total, value) => total + value, 0);

// The mean over the runs so far; null where none has ended.
export const meanOf = (arm) => arm.mean?.value ?? (arm.test.length ? sum(arm.test) / arm.test.length : null);

// The tied ones first, the best of them foremost; then the others by what they reached; those without a result last.
export function inOrder({ arms, tied, objective }) {
  const sign = objective.direction === "maximize" ? -1 : 1;
  const place = (arm) => (tied.includes(arm.trial) ? tied.indexOf(arm.trial) : tied.length);
  const reached = (arm) => (meanOf(arm) === null ? Infinity : sign * meanOf(arm));
  return [...arms].sort((one, other) => place(one) - place(other) || reached(one) - reached(other) || one.trial - other.trial);
}

// What is recommended while runs are still to come would sway with each of them: it is said at the end alone.
export const isRecommended = (verdict, arm) => verdict.state === "done" && verdict.recommended === arm.trial;

// What is to be said of it besides its numbers.
export function marksOf(verdict, arm) {
  return [
    isRecommended(verdict, arm) ? "recommended" : null,
    arm.baseline ? "baseline" : null,
    verdict.best === arm.trial && !isRecommended(verdict, arm) ? `best mean${verdict.state === "done" ? "" : " so far"}` : null,
    arm.failed ? "failed" : null,
    arm.stopped_after ? `given up after round ${arm.stopped_after}` : null,
  ].filter(Boolean);
}

export function inWords(verdict, arm) {
  const { measure, example } = verdict;
  const mean = meanOf(arm);
  return [
    `Trial ${arm.trial}${marksOf(verdict, arm).map((mark) => `, ${mark}`).join("")}`,
    mean === null ? "no run has ended" : `${arm.mean ? middle(measure, arm.mean) : metric(measure, mean)} on the test ${example}s over ${plural(arm.test.length, "run", "runs")}`,
    arm.mean ? `${level(arm.mean)} ${interval(measure, arm.mean)}` : null,
    arm.searched === null ? null : `the search saw ${metric(measure, arm.searched)}`,
  ].filter(Boolean).join("; ");
}
