// Axes: round places for their marks, and where a value lies between two pixels.

import { number } from "./format.js";

const SHARES = new Set(["accuracy", "precision", "recall", "f1"]);
const STEPS = [1, 2, 2.5, 5, 10];
const DECADES_FOR_LOG = 3; // values further apart than this are drawn by their logarithm

export const isShare = (name) => SHARES.has(name);

// A short text for a mark of the axis.
export function mark(name, value) {
  if (isShare(name)) return `${Number((100 * value).toFixed(2))}%`;
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

// A value's place between the pixels `from` and `to`, with `marks` at round values. `low` and `high` are finite and not equal.
function linear(low, high, from, to, count) {
  return { place: (value) => from + ((value - low) / (high - low)) * (to - from), marks: roundMarks(low, high, count), log: false };
}

function logarithmic(low, high, from, to) {
  const place = (value) => from + ((Math.log(value) - Math.log(low)) / (Math.log(high) - Math.log(low))) * (to - from);
  return { place, marks: decades(low, high), log: true };
}

// The axis of a metric's values. Shares stay between 0 and 1; positive values over many decades are drawn by their logarithm.
export function valueAxis(values, share, from, to, count = 5) {
  const low = values.reduce((least, value) => Math.min(least, value), Infinity);
  const high = values.reduce((most, value) => Math.max(most, value), -Infinity);
  if (!Number.isFinite(low)) return linear(0, 1, from, to, count);
  if (low > 0 && high / low > 10 ** DECADES_FOR_LOG) return logarithmic(low / 1.3, high * 1.3, from, to);
  const margin = (high - low || Math.abs(high) || 1) * 0.07;
  const [bottom, top] = [low - margin, high + margin];
  return linear(share ? Math.max(0, bottom) : bottom, share ? Math.min(1, top) : top, from, to, count);
}

// The axis of epochs, with marks at whole numbers.
export function stepAxis(low, high, from, to, count) {
  const axis = high > low ? linear(low, high, from, to, count) : linear(low - 1, low + 1, from, to, 2);
  return { ...axis, marks: axis.marks.filter((step) => Number.isInteger(step) && step >= low && step <= high) };
}
