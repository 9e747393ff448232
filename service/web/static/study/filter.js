// Parses filters. Terms are `lr < 0.01`, `optimizer = sgd|adam`, `value = 0.9..0.95`, `"out of memory"`, or a single word.

import { scalar } from "../format.js";
import { current, note } from "../trials.js";

const TERM = /([A-Za-z_][\w.]*)\s*(<=|>=|!=|<|>|=|:)\s*("[^"]*"|[^\s,]+)|"([^"]*)"|([^\s,]+)/g;
const HALF_A_TERM = /^([A-Za-z_][\w.]*\s*)?(<=|>=|!=|<|>|=|:)$/;

const OWN = {
  number: (trial) => trial.number,
  state: (trial) => trial.state,
  value: (trial, objective) => current(trial, objective),
  step: (trial) => trial.step,
  epoch: (trial) => trial.step,
  worker: (trial) => trial.worker,
  attempt: (trial) => trial.attempt,
  source: (trial) => trial.source,
  reason: (trial) => trial.reason,
  speed: (trial) => trial.samples_per_second,
  spared: (trial) => trial.spared_seconds,
  time: (trial) => (trial.started_at === null ? null : ((trial.finished_at ?? Date.now()) - trial.started_at) / 1000),
};

// Resolves a name: first parameters, then fields of the trial, then metrics. `metric.lr` is a metric with the name of a parameter.
function reader(name, names) {
  if (names.parameters.includes(name)) return (trial) => trial.params[name];
  if (Object.hasOwn(OWN, name)) return OWN[name];
  const metric = name.startsWith("metric.") ? name.slice(7) : name;
  return names.metrics.includes(metric) ? (trial) => trial.metrics[metric] : null;
}

function asNumber(text) {
  const share = text.endsWith("%");
  const value = text === "" ? NaN : Number(share ? text.slice(0, -1) : text);
  return share ? value / 100 : value;
}

const bare = (text) => (text.startsWith('"') ? text.slice(1, -1) : text);

function equals(text) {
  const range = /^(\S+?)\.\.(\S+)$/.exec(text);
  if (range) {
    const [low, high] = [asNumber(range[1]), asNumber(range[2])];
    return (value) => typeof value === "number" && value >= low && value <= high;
  }
  const choices = text.split("|").map((choice) => choice.toLowerCase());
  const numbers = choices.map(asNumber);
  return (value) => value !== undefined && (typeof value === "number" ? numbers.some((one) => Math.abs(one - value) <= 1e-9 * Math.abs(value)) : choices.includes(String(value).toLowerCase()));
}

const ORDERS = {
  "<": (bound) => (value) => value < bound,
  "<=": (bound) => (value) => value <= bound,
  ">": (bound) => (value) => value > bound,
  ">=": (bound) => (value) => value >= bound,
};

function comparison(sign, text) {
  if (ORDERS[sign]) {
    const inOrder = ORDERS[sign](asNumber(text));
    return (value) => typeof value === "number" && inOrder(value);
  }
  const same = equals(text);
  return sign === "!=" ? (value) => !same(value) : same;
}

function everyWord(trial) {
  const params = Object.entries(trial.params).map(([name, value]) => `${name} ${scalar(value)}`);
  return [trial.number, trial.state, trial.worker, note(trial), ...params].join(" ").toLowerCase();
}

// Returns `matches(trial)` and the terms that cannot be parsed. `names` has the study's parameters and metrics.
export function parse(text, names, objective) {
  const tests = [];
  const unknown = [];
  for (const [whole, name, sign, wanted, quoted, word] of text.matchAll(TERM)) {
    if (name === undefined) {
      const sought = (quoted ?? word).toLowerCase();
      if (HALF_A_TERM.test(sought)) unknown.push(whole);
      else if (sought) tests.push((trial) => everyWord(trial).includes(sought));
      continue;
    }
    const read = reader(name, names);
    const test = comparison(sign, bare(wanted));
    if (read === null || (ORDERS[sign] && Number.isNaN(asNumber(bare(wanted))))) unknown.push(whole);
    else tests.push((trial) => test(read(trial, objective)));
  }
  return { matches: (trial) => tests.every((test) => test(trial)), unknown };
}

// The filter text with the term for the name replaced, or removed if there is no new term.
export function withTerm(text, name, term) {
  const others = [...text.matchAll(TERM)].filter(([, own]) => own !== name).map(([whole]) => whole);
  return [...others, ...(term ? [term] : [])].join(" ");
}

export const quoted = (value) => (/^[^\s,"|]+$/.test(String(value)) ? String(value) : `"${value}"`);
