// Scales, their bounds and ticks: what a chart needs to place numbers.

import { isShare, number } from "../format.js";

export function linear(low, high, from, to) {
  const span = high - low || 1;
  return (value) => from + ((value - low) / span) * (to - from);
}

export function logarithmic(low, high, from, to) {
  const place = linear(Math.log(low), Math.log(high), from, to);
  return (value) => place(Math.log(value));
}

function niceStep(span, most) {
  const rough = span / most;
  const power = 10 ** Math.floor(Math.log10(rough));
  return power * [1, 2, 2.5, 5, 10].find((factor) => factor * power >= rough * 0.999);
}

// Round numbers between two bounds, at most about `most` of them.
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

// The ticks in words, with as many digits as tell them apart.
export function tickLabels(name, values) {
  const step = values.length > 1 ? Math.abs(values[1] - values[0]) : Math.abs(values[0]) || 1;
  const unit = isShare(name) ? 100 * step : step;
  let digits = 0;
  while (digits < 6 && Math.abs(unit * 10 ** digits - Math.round(unit * 10 ** digits)) > 1e-6) digits += 1;
  if (isShare(name)) return values.map((value) => `${(100 * value).toFixed(digits)} %`);
  return values.map((value) => (Math.abs(value) >= 1e5 || unit < 1e-5 ? number(value) : value.toFixed(digits)));
}

function quantile(sorted, share) {
  return sorted[Math.min(sorted.length - 1, Math.floor(share * sorted.length))];
}

// Room around two bounds; never beyond what the metric can be.
function around(name, low, high) {
  const room = (high - low || Math.abs(high) * 0.1 || 0.1) * 0.06;
  return isShare(name) ? [Math.max(0, low - room), Math.min(1, high + room)] : [low >= 0 ? Math.max(0, low - room) : low - room, high + room];
}

// Bounds of values that belong together but for stray ones, which may lie far out: as those of trials.
export function bounds(name, values) {
  const sorted = Float64Array.from(values).sort();
  if (!sorted.length) return [0, 1];
  const [quarter, half] = [quantile(sorted, 0.25), quantile(sorted, 0.75)];
  const reach = 4 * (half - quarter) || Infinity;
  return around(name, Math.max(sorted[0], quarter - reach), Math.min(sorted.at(-1), half + reach));
}

// Bounds of all values but the few outermost, where those lie far out: as those of curves.
export function nearlyAll(name, values) {
  const sorted = Float64Array.from(values).sort();
  if (!sorted.length) return [0, 1];
  const [low, high] = [quantile(sorted, 0.002), quantile(sorted, 0.998)];
  const span = high - low || Infinity;
  return around(name, sorted[0] < low - span ? low : sorted[0], sorted.at(-1) > high + span ? high : sorted.at(-1));
}
