// What a best value is worth: how far it is above the baseline, and what may be doubted about it.

import { apart, metric, plural } from "../format.js";
import { examples, objectiveOf } from "../measures.js";

// How far chance alone moves a share of so many examples: a standard error of its binomial distribution, in points.
const chance = (value, size) => 100 * Math.sqrt((value * (1 - value)) / size);

// Sentences on how sure the value is.
export function doubts(study, exported) {
  const { value } = exported.reached;
  const measure = objectiveOf(study);
  const size = study.sizes?.validation ?? 0;
  return [
    `Measured once, on ${plural(size, `validation ${study.task.example}`, `validation ${examples(study)}`)}, after ${plural(exported.reached.steps, "epoch", "epochs")} of one run with one seed. `,
    measure.share && measure.additive && size ? `With so many ${examples(study)}, one standard error of the ${measure.name} is ${chance(value, size).toFixed(2)} points.` : null,
  ].filter(Boolean);
}

// How far the best value is from the baseline's: a size and a note on it. `baseline` is null where the study has none.
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
