// How far a value is from another one, in words.

import { isShare } from "../axis.js";
import { number } from "../format.js";

// How far apart two values are: shares in points.
export function apart(name, value, other) {
  const by = Math.abs(value - other);
  return isShare(name) ? `${(100 * by).toFixed(2)} points` : number(by);
}

// "1.20 points above the baseline"; null when one of the two is unknown.
export function difference(objective, value, other, name) {
  if (value == null || other == null) return null;
  if (value === other) return `equal to ${name}`;
  return `${apart(objective.metric, value, other)} ${value > other ? "above" : "below"} ${name}`;
}
