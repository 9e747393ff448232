// How far a value is from another one, in words.

import { isShare } from "../axis.js";
import { number } from "../format.js";

// "1.20 points above the baseline"; null when one of the two is unknown.
export function difference(objective, value, other, name) {
  if (value == null || other == null) return null;
  if (value === other) return `equal to ${name}`;
  const by = Math.abs(value - other);
  return `${isShare(objective.metric) ? `${(100 * by).toFixed(2)} points` : number(by)} ${value > other ? "above" : "below"} ${name}`;
}
