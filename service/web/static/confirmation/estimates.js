// Numbers with the intervals that hold them, as people read them: shares in percent, their differences in points.

import { isShare, number } from "../format.js";

const MINUS = "−";
const FINE = 0.005; // an interval of shares that is narrower is told to a hundredth of a point

const digits = (low, high) => (high - low < FINE ? 2 : 1);
const percent = (value, places) => (100 * value).toFixed(places);
const signed = (text, value) => `${value < 0 ? MINUS : value > 0 ? "+" : "±"}${text}`;

export const level = (estimate) => `${Math.round(100 * estimate.level)} % interval`;

// A value with as many digits as its interval bears.
export function middle(name, { value, low, high }) {
  return isShare(name) ? `${percent(value, digits(low, high))} %` : number(value);
}

export function interval(name, { low, high }) {
  if (!isShare(name)) return `${number(low)} to ${number(high)}`;
  const places = digits(low, high);
  return `${percent(low, places)} to ${percent(high, places)} %`;
}

function by(name, value, places) {
  return signed(isShare(name) ? percent(Math.abs(value), places) : number(Math.abs(value)), value);
}

const unit = (name) => (isShare(name) ? " points" : "");

// How much better something is: above 0 where it is the better one.
export const gain = (name, value, places = 1) => `${by(name, value, places)}${unit(name)}`;

export const gainOf = (name, { value, low, high }) => gain(name, value, digits(low, high));

export function gainInterval(name, { low, high }) {
  const places = digits(low, high);
  return `${by(name, low, places)} to ${by(name, high, places)}${unit(name)}`;
}
