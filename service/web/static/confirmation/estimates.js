// Formats estimates with their intervals: shares in percent, differences of shares in percentage points.

import { number } from "../format.js";

const MINUS = "−";
const FINE = 0.005; // narrower intervals of shares are shown with two decimals

const digits = (low, high) => (high - low < FINE ? 2 : 1);
const percent = (value, places) => (100 * value).toFixed(places);
const signed = (text, value) => `${value < 0 ? MINUS : value > 0 ? "+" : "±"}${text}`;

export const level = (estimate) => `${Math.round(100 * estimate.level)} % interval`;

// The estimate, with the number of digits that its interval justifies.
export function middle(measure, { value, low, high }) {
  return measure.share ? `${percent(value, digits(low, high))} %` : number(value);
}

export function interval(measure, { low, high }) {
  if (!measure.share) return `${number(low)} to ${number(high)}`;
  const places = digits(low, high);
  return `${percent(low, places)} to ${percent(high, places)} %`;
}

function by(measure, value, places) {
  return signed(measure.share ? percent(Math.abs(value), places) : number(Math.abs(value)), value);
}

const unit = (measure) => (measure.share ? " points" : "");

// An improvement with its sign; positive is better.
export const gain = (measure, value, places = 1) => `${by(measure, value, places)}${unit(measure)}`;

export const gainOf = (measure, { value, low, high }) => gain(measure, value, digits(low, high));

export function gainInterval(measure, { low, high }) {
  const places = digits(low, high);
  return `${by(measure, low, places)} to ${by(measure, high, places)}${unit(measure)}`;
}
