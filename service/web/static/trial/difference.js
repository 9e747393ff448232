// How far a value is from another one, in words.

import { apart } from "../format.js";

// "1.20 points above the baseline"; null when one of the two is unknown.
export function difference(measure, value, other, name) {
  if (value == null || other == null) return null;
  if (value === other) return `equal to ${name}`;
  return `${apart(measure, value, other)} ${value > other ? "above" : "below"} ${name}`;
}
