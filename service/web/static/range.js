// The range of an axis: all values except a few outliers, next to which the others would appear as one line.

import { metric, number, plural } from "./format.js";

const MOST_BEYOND = 0.1; // maximum share of outliers; from three values on, one outlier is always allowed
const FAR = 10; // an outlier's distance from the others, as a multiple of their span
const FAR_LOG = 3;
const LEAST_DECADES = 0.5; // minimum span of the others on a logarithmic scale
const RATIO_FOR_LOG = 1000; // ratio of the largest to the smallest value from which the axis is logarithmic
const LISTED = 3;

// The bounds of sorted values without outliers. `least(low, high)` returns the minimum span.
function withoutFar(sorted, far, least) {
  const count = sorted.length;
  let [from, to] = [0, count - 1];
  for (let left = count < 3 ? 0 : Math.max(1, Math.floor(MOST_BEYOND * count)); left > 0; left -= 1) {
    if (sorted[to] - sorted[to - 1] > sorted[from + 1] - sorted[from]) to -= 1;
    else from += 1;
  }
  const span = Math.max(sorted[to] - sorted[from], least(sorted[from], sorted[to]));
  while (from > 0 && sorted[from - 1] >= sorted[from] - far * span) from -= 1;
  while (to < count - 1 && sorted[to + 1] <= sorted[to] + far * span) to += 1;
  return [sorted[from], sorted[to]];
}

// The range {low, high, log} of the finite values; `low` and `high` are two of them. Null if there are none. The axis of shares, which are
// between 0 and 1, is never logarithmic and includes all of them.
export function robustRange(values, share = false) {
  const sorted = Float64Array.from(values).filter(Number.isFinite).sort();
  if (!sorted.length) return null;
  const within = share ? sorted.filter((value) => value >= 0 && value <= 1) : [];
  if (within.length) return { low: within[0], high: within.at(-1), log: false };
  const wide = !share && sorted[0] > 0 && sorted.at(-1) / sorted[0] > RATIO_FOR_LOG;
  if (!wide) {
    const [low, high] = withoutFar(sorted, FAR, (first, last) => 0.05 * Math.max(Math.abs(first), Math.abs(last)));
    return { low, high, log: false };
  }
  const kept = withoutFar(sorted.map(Math.log10), FAR_LOG, () => LEAST_DECADES);
  const inside = sorted.filter((value) => Math.log10(value) >= kept[0] && Math.log10(value) <= kept[1]);
  const [low, high] = [inside[0], inside.at(-1)];
  return { low, high, log: high / low > RATIO_FOR_LOG };
}

// The caption for values beyond the axis; null if there are none.
export function beyondWords(measure, values, low, high) {
  const distance = (value) => Math.max(low - value, value - high);
  const beyond = values.filter((value) => distance(value) > 0).sort((one, other) => distance(other) - distance(one));
  if (!beyond.length) return null;
  const listed = beyond.slice(0, LISTED).map((value) => (measure.share && Math.abs(value) > 1 ? number(value) : metric(measure, value))).join(", ");
  const signs = [beyond.some((value) => value > high) && "▲", beyond.some((value) => value < low) && "▼"].filter(Boolean).join(" ");
  return `${signs} ${plural(beyond.length, "value lies", "values lie")} beyond the axis and ${beyond.length === 1 ? "is" : "are"} drawn at its edge: ${listed}${beyond.length > LISTED ? ", …" : ""}`;
}
