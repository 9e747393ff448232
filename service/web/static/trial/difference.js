// The difference between two values as text.

import { apart } from "../format.js";

// For example "1.20 points above the baseline"; null if one of the values is unknown.
export function difference(measure, value, other, name) {
  if (value == null || other == null) return null;
  if (value === other) return `equal to ${name}`;
  return `${apart(measure, value, other)} ${value > other ? "above" : "below"} ${name}`;
}
