// What a best value is worth: how far it is above the baseline, and what may be doubted about it.

import { metric, plural } from "../format.js";
import { apart } from "../trial/difference.js";

// How far chance alone moves a share of so many images: a standard error of its binomial distribution, in points.
const chance = (value, images) => 100 * Math.sqrt((value * (1 - value)) / images);

// Sentences on how sure the value is.
export function doubts(exported) {
  const { objective, value } = exported.reached;
  const images = exported.facts.images.validation ?? 0;
  return [
    `Measured once, on ${plural(images, "validation image", "validation images")}, after ${plural(exported.reached.steps, "epoch", "epochs")} of one run with one seed. `,
    objective.metric === "accuracy" && images ? `With so many images, one standard error of the accuracy is ${chance(value, images).toFixed(2)} points.` : null,
  ].filter(Boolean);
}

// How far the best value is from the baseline's: a size and a note on it. `baseline` is null where the study has none.
export function uplift(study, exported, baseline) {
  const { objective, value } = exported.reached;
  if (!baseline) return ["–", "the study has no baseline"];
  if (baseline.number === study.best.number) return ["none", "the baseline itself is the best so far"];
  if (baseline.state !== "complete" || baseline.value === null) return ["–", `the baseline is ${baseline.state}: no value to compare with`];
  const theirs = `the baseline's ${metric(objective.metric, baseline.value)}`;
  if (value === baseline.value) return ["none", `equal to ${theirs}`];
  return [apart(objective.metric, value, baseline.value), `${value > baseline.value ? "above" : "below"} ${theirs}`];
}
