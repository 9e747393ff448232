// Scales of charts: bounds, ticks and mappings to coordinates.

import { within } from "../axis.js";
import { number } from "../format.js";
import { robustRange } from "../range.js";

export function linear(low, high, from, to) {
  const span = high - low || 1;
  return (value) => from + ((value - low) / span) * (to - from);
}

export function logarithmic(low, high, from, to) {
  const place = linear(Math.log(low), Math.log(high), from, to);
  return (value) => place(Math.log(Math.max(value, Number.MIN_VALUE)));
}

function niceStep(span, most) {
  const rough = span / most;
  const power = 10 ** Math.floor(Math.log10(rough));
  return power * [1, 2, 2.5, 5, 10].find((factor) => factor * power >= rough * 0.999);
}

// Round numbers between two bounds, about `most` at most.
export function ticks(low, high, most = 5) {
  if (!(high > low)) return [low];
  const step = niceStep(high - low, most);
  const first = Math.ceil(low / step - 1e-9);
  const last = Math.floor(high / step + 1e-9);
  return Array.from({ length: last - first + 1 }, (_, index) => Number(((first + index) * step).toPrecision(12)));
}

export function logTicks(low, high, most = 6) {
  const first = Math.ceil(Math.log10(low) - 1e-9);
  const last = Math.floor(Math.log10(high) + 1e-9);
  if (last - first < 1) return [low, high];
  const each = Math.ceil((last - first + 1) / most);
  return Array.from({ length: Math.floor((last - first) / each) + 1 }, (_, index) => 10 ** (first + index * each));
}

// The labels of the ticks, with enough digits to distinguish them.
export function tickLabels(share, values) {
  const step = values.length > 1 ? Math.abs(values[1] - values[0]) : Math.abs(values[0]) || 1;
  const unit = share ? 100 * step : step;
  let digits = 0;
  while (digits < 6 && Math.abs(unit * 10 ** digits - Math.round(unit * 10 ** digits)) > 1e-6) digits += 1;
  if (share) return values.map((value) => `${(100 * value).toFixed(digits)} %`);
  return values.map((value) => (Math.abs(value) >= 1e5 || unit < 1e-5 ? number(value) : value.toFixed(digits)));
}

function quantile(sorted, part) {
  return sorted[Math.min(sorted.length - 1, Math.floor(part * sorted.length))];
}

// Bounds with a margin that stays within the metric's range.
function around(measure, low, high, log) {
  if (log) return { low: low / 1.3, high: high * 1.3, log };
  const room = (high - low || Math.abs(high) * 0.1 || 0.1) * 0.06;
  const [bottom, top] = within(measure, low, high, room);
  return { low: low >= 0 ? Math.max(0, bottom) : bottom, high: top, log };
}

// The robust range of values, narrowed by `narrow(sorted)`, with a margin: {low, high, log}.
function fitted(measure, values, narrow) {
  const range = robustRange(values, measure.share);
  if (!range) return { low: 0, high: 1, log: false };
  if (range.log) return around(measure, range.low, range.high, true);
  const sorted = Float64Array.from(values).filter((value) => value >= range.low && value <= range.high).sort();
  const [low, high] = narrow(sorted);
  return around(measure, low, high, false);
}

// Bounds without isolated outliers, for values of trials.
export function bounds(measure, values) {
  return fitted(measure, values, (sorted) => {
    const [quarter, half] = [quantile(sorted, 0.25), quantile(sorted, 0.75)];
    const reach = 4 * (half - quarter) || Infinity;
    return [Math.max(sorted[0], quarter - reach), Math.min(sorted.at(-1), half + reach)];
  });
}

// Bounds without a few extreme values if they are outliers, for values of curves.
export function nearlyAll(measure, values) {
  return fitted(measure, values, (sorted) => {
    const [low, high] = [quantile(sorted, 0.002), quantile(sorted, 0.998)];
    const span = high - low || Infinity;
    return [sorted[0] < low - span ? low : sorted[0], sorted.at(-1) > high + span ? high : sorted.at(-1)];
  });
}

// Maps values within the bounds to [from, to], with ticks and labels. Values beyond the bounds are mapped to the edge.
export function valueScale(measure, { low, high, log }, from, to, most) {
  const marks = log ? logTicks(low, high, most) : ticks(low, high, most);
  const free = (log ? logarithmic : linear)(low, high, from, to);
  return { place: (value) => free(Math.min(high, Math.max(low, value))), marks, labels: log ? marks.map(number) : tickLabels(measure.share, marks) };
}
