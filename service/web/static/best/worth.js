// How reliable an unconfirmed best value is: its difference from the baseline, and its uncertainty.

import { apart, metric, plural } from "../format.js";
import { examples, objectiveOf } from "../measures.js";

// The standard error of a share of `size` examples (binomial distribution), in percentage points.
const chance = (value, size) => 100 * Math.sqrt((value * (1 - value)) / size);

// Sentences on the uncertainty of the value.
export function doubts(study, exported) {
  const { value } = exported.reached;
  const measure = objectiveOf(study);
  const size = study.sizes?.validation ?? 0;
  return [
    `Measured once${study.task.external ? "" : `, on ${plural(size, `validation ${study.task.example}`, `validation ${examples(study)}`)}`}, after ${plural(exported.reached.steps, "epoch", "epochs")} of one run with one seed. `,
    measure.share && measure.additive && size ? `With this number of ${examples(study)}, one standard error of the ${measure.name} is ${chance(value, size).toFixed(2)} points.` : null,
  ].filter(Boolean);
}

// The difference between the best value and the baseline's: [value, note]. `baseline` is null if the study has none.
export function uplift(study, exported, baseline) {
  const { value } = exported.reached;
  const measure = objectiveOf(study);
  if (!baseline) return ["–", "the study has no baseline"];
  if (baseline.number === study.best.number) return ["none", "the baseline itself is the best so far"];
  if (baseline.state !== "complete" || baseline.value === null) return ["–", `the baseline is ${baseline.state}: no value to compare with`];
  const theirs = `the baseline's ${metric(measure, baseline.value)}`;
  if (value === baseline.value) return ["none", `equal to ${theirs}`];
  return [apart(measure, value, baseline.value), `${value > baseline.value ? "above" : "below"} ${theirs}`];
}
