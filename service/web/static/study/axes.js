// The axes of the parallel coordinates: positions of values, and filter terms for ranges.

import { number, scalar } from "../format.js";
import { beyondWords, robustRange } from "../range.js";
import { quoted } from "./filter.js";
import { linear, logarithmic, logTicks, tickLabels, ticks } from "./scales.js";

const OUTSIDE = 9; // px between the end of the axis and values beyond it
const MOST_PLACES = 14; // maximum number of labels on a categorical axis

function spread(values, low, high) {
  return high > low ? [low, high] : [low - Math.abs(low || 1) * 0.1, high + Math.abs(high || 1) * 0.1];
}

// Rounds a bound outwards to three significant digits, so that a trial at the end of the range stays in it.
function outward(value, round) {
  if (value === 0) return 0;
  const unit = 10 ** (Math.floor(Math.log10(Math.abs(value))) - 2);
  return Number((round(Number((value / unit).toPrecision(9))) * unit).toPrecision(3));
}

function extent(values) {
  let [low, high] = [Infinity, -Infinity];
  for (const value of values) {
    if (value < low) low = value;
    if (value > high) high = value;
  }
  return spread(values, low, high);
}

function ofNumbers(name, { label, share = false }, values, log, top, bottom, [low, high] = extent(values)) {
  const marks = log && low > 0 ? logTicks(low, high) : ticks(low, high, 5);
  const labels = log && low > 0 ? marks.map(number) : tickLabels(share, marks);
  const place = (log && low > 0 ? logarithmic : linear)(low, high, bottom, top);
  const back = (y) => (log && low > 0 ? low * (high / low) ** ((bottom - y) / (bottom - top)) : low + ((bottom - y) / (bottom - top)) * (high - low));
  return {
    name, label, marks: marks.map((mark, index) => [place(mark), labels[index]]), place,
    range: (from, to) => `${name} = ${outward(Math.min(back(from), back(to)), Math.floor)}..${outward(Math.max(back(from), back(to)), Math.ceil)}`,
  };
}

function ofChoices(name, choices, top, bottom) {
  const place = linear(-0.5, choices.length - 0.5, bottom, top);
  const places = new Map(choices.map((choice, index) => [choice, place(index)]));
  const each = Math.ceil(choices.length / MOST_PLACES);
  const marks = choices.map((choice) => [places.get(choice), scalar(choice)]).filter((_, index) => index % each === 0);
  const within = (from, to) => choices.filter((choice) => places.get(choice) >= Math.min(from, to) && places.get(choice) <= Math.max(from, to));
  return {
    name, label: name, marks, place: (value) => places.get(value),
    range: (from, to) => (within(from, to).length ? `${name} = ${within(from, to).map(quoted).join("|")}` : ""),
  };
}

function ofParameter(name, definition, trials, top, bottom) {
  const values = trials.map((trial) => trial.params[name]).filter((value) => value !== undefined);
  const numeric = values.every((value) => typeof value === "number");
  if (definition?.type === "categorical" || !numeric || !values.length) {
    return ofChoices(name, definition?.choices ?? [...new Set(values)], top, bottom);
  }
  const bounds = definition ? [definition.low, definition.high ?? Math.max(...values)] : [];
  return ofNumbers(name, { label: name }, [...values, ...bounds], definition?.log, top, bottom);
}

// One axis for each parameter, and the last one for the objective. `place(value)` returns a y coordinate; undefined without a value.
export function axesOf(model, trials, top, bottom) {
  const space = model.study.spec.search_space;
  const used = model.parameters.map((name) => ofParameter(name, space[name], trials, top, bottom));
  const { measure } = model;
  const values = trials.map((trial) => trial.value);
  const range = robustRange(values, measure.share) ?? { low: 0, high: 1, log: false };
  const value = ofNumbers("value", { label: measure.name, share: measure.share }, values, range.log, top, bottom, spread(values, range.low, range.high));
  const { place } = value;
  value.place = (each) => (each > range.high ? top - OUTSIDE : each < range.low ? bottom + OUTSIDE : place(each));
  value.beyond = beyondWords(measure, values, range.low, range.high);
  return [...used.map((axis) => ({ ...axis, of: (trial) => trial.params[axis.name] })), { ...value, of: (trial) => trial.value }];
}
