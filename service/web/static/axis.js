// Axes: round values for the marks, and the mapping from values to screen coordinates.

import { number } from "./format.js";
import { robustRange } from "./range.js";

const STEPS = [1, 2, 2.5, 5, 10];

// The label of an axis mark.
export function mark(measure, value) {
  if (measure.share) return `${Number((100 * value).toFixed(2))}%`;
  const rounded = Number(value.toPrecision(6));
  return number(rounded).includes("e") ? rounded.toExponential() : number(rounded);
}

function roundStep(span, count) {
  const size = 10 ** Math.floor(Math.log10(span / count));
  return size * STEPS.find((step) => step * size * count >= span * (1 - 1e-9));
}

function roundMarks(low, high, count) {
  const step = roundStep(high - low, count);
  const first = Math.ceil(low / step - 1e-9);
  const last = Math.floor(high / step + 1e-9);
  return Array.from({ length: last - first + 1 }, (_, index) => (first + index) * step);
}

function decades(low, high) {
  const first = Math.ceil(Math.log10(low) - 1e-9);
  const last = Math.floor(Math.log10(high) + 1e-9);
  const every = Math.ceil((last - first + 1) / 6);
  return Array.from({ length: Math.max(0, last - first + 1) }, (_, index) => first + index).filter((_, index) => index % every === 0).map((power) => 10 ** power);
}

// Maps values from [low, high] to screen coordinates [from, to], with `marks` at round values. `low` and `high` are finite and not equal.
function linear(low, high, from, to, count) {
  return { place: (value) => from + ((value - low) / (high - low)) * (to - from), marks: roundMarks(low, high, count), log: false };
}

function logarithmic(low, high, from, to) {
  const place = (value) => from + ((Math.log(value) - Math.log(low)) / (Math.log(high) - Math.log(low))) * (to - from);
  return { place, marks: decades(low, high), log: true };
}

// The axis of a metric's values. It stays within the metric's range, and is logarithmic for positive values over several decades.
// A few outliers do not extend its range: `low` and `high` are the extremes of the other values, and `place` maps an outlier to the
// nearest of these. `free` maps without this clamping; it is used for marks, which can be in the margin.
export function valueAxis(values, measure, from, to, count = 5) {
  const range = robustRange(values, measure.share);
  if (!range) return atEdge(linear(0, 1, from, to, count), 0, 1);
  const { low, high, log } = range;
  if (log) return atEdge(logarithmic(low / 1.3, high * 1.3, from, to), low, high);
  const margin = (high - low || Math.abs(high) || 1) * 0.07;
  const [bottom, top] = within(measure, low, high, margin);
  return atEdge(linear(bottom, top, from, to, count), low, high);
}

// The bounds extended by `margin`, but not beyond the metric's range.
export function within(measure, low, high, margin) {
  const bottom = low >= measure.low ? Math.max(measure.low, low - margin) : low - margin;
  const top = high <= measure.high ? Math.min(measure.high, high + margin) : high + margin;
  return [bottom, top];
}

function atEdge(axis, low, high) {
  const beyond = (value) => (value < low ? -1 : value > high ? 1 : 0);
  const place = (value) => axis.place(beyond(value) < 0 ? low : beyond(value) > 0 ? high : value);
  return { ...axis, place, free: axis.place, beyond, low, high };
}

// The axis of numbers that have no measure: it has all values from `low` to `high`.
export function stepless(low, high, from, to, count = 5) {
  const [bottom, top] = high > low ? [low, high] : [low - 1, high + 1];
  return { ...linear(bottom, top, from, to, count), low: bottom, high: top };
}

// The axis of epochs, with marks at whole numbers.
export function stepAxis(low, high, from, to, count) {
  const axis = high > low ? linear(low, high, from, to, count) : linear(low - 1, low + 1, from, to, 2);
  return { ...axis, marks: axis.marks.filter((step) => Number.isInteger(step) && step >= low && step <= high) };
}
