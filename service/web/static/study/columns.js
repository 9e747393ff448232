// The table's columns: the cell that each shows, and its sort key.

import { el } from "../dom.js";
import { between, count, duration, metric, scalar } from "../format.js";
import { capital, examples } from "../measures.js";
import { statePill } from "../parts.js";
import { current, note, trialAddress } from "../trials.js";

const number = (label, sort, show) => ({ label, sort, show, numeric: true });

function time(trial) {
  if (trial.started_at === null) return null;
  return (trial.finished_at ?? Date.now()) - trial.started_at;
}

function epochs(model, trial) {
  const all = trial.params.epochs ?? model.study.spec.fixed.epochs;
  return all ? `${trial.step} / ${all}` : String(trial.step);
}

function value(model, trial) {
  const { metric: name } = model.objective;
  const star = model.study.best?.number === trial.number ? el("span", { class: "star", title: "best so far" }, "★ ") : null;
  return el("span", { class: trial.state === "complete" ? "strong" : "quiet" }, star, metric(model.measure, current(trial, name)));
}

function own(model) {
  const { metric: name } = model.objective;
  return {
    number: { ...number("#", (trial) => trial.number, (trial) => el("a", { href: trialAddress(model.key, trial.number), tabindex: -1 }, String(trial.number))), rowHeader: true },
    state: { label: "State", sort: (trial) => trial.state, show: (trial) => statePill(trial.state) },
    value: number(name, (trial) => current(trial, name), (trial) => value(model, trial)),
    step: number("Epoch", (trial) => trial.step, (trial) => epochs(model, trial)),
  };
}

const more = (model) => ({
  time: number("Time", time, (trial) => between(trial.started_at, trial.finished_at ?? (trial.state === "running" ? null : trial.started_at))),
  worker: { label: "Worker", sort: (trial) => trial.worker, show: (trial) => trial.worker ?? "" },
  speed: number(`${capital(examples(model.study))}/s`, (trial) => trial.samples_per_second, (trial) => (trial.samples_per_second == null ? "" : count(Math.round(trial.samples_per_second)))),
  spared: number("Spared", (trial) => trial.spared_seconds, (trial) => (trial.spared_seconds > 0 ? duration(1000 * trial.spared_seconds) : "")),
  attempt: number("Attempt", (trial) => trial.attempt, (trial) => String(trial.attempt)),
  source: { label: "Source", sort: (trial) => trial.source, show: (trial) => trial.source },
  note: { label: "Note", sort: (trial) => note(trial) || null, show: (trial) => note(trial), wide: true },
});

// All columns by key, in order. A parameter's key is its name, a metric's begins with `metric.`.
export function columnsOf(model) {
  const columns = own(model);
  const others = more(model);
  for (const name of model.parameters) {
    const numeric = model.study.spec.search_space[name]?.type !== "categorical";
    const key = Object.hasOwn(columns, name) || Object.hasOwn(others, name) ? `param.${name}` : name;
    columns[key] = { label: name, numeric, parameter: true, sort: (trial) => trial.params[name], show: (trial) => (name in trial.params ? scalar(trial.params[name]) : "") };
  }
  for (const name of model.metricNames) {
    columns[`metric.${name}`] = number(name, (trial) => trial.metrics[name], (trial) => metric(model.measureOf(name), trial.metrics[name]));
  }
  return { ...columns, ...others };
}

// The default columns; fewer on a narrow screen.
export function usual(columns, narrow) {
  if (narrow) return ["number", "state", "value", "step", "note"];
  const parameters = Object.keys(columns).filter((key) => columns[key].parameter);
  return ["number", "state", "value", "step", ...parameters, "time", "note"];
}

function rank(left, right) {
  if (typeof left === "number" && typeof right === "number") return left - right;
  return String(left).localeCompare(String(right), "en", { numeric: true });
}

// Trials sorted by a column. Trials without a value come last in both directions.
export function sorted(trials, column, descending) {
  const keyed = trials.map((trial) => [column.sort(trial) ?? null, trial]);
  keyed.sort(([left, one], [right, other]) => {
    if (left === null || right === null) return Number(left === null) - Number(right === null) || one.number - other.number;
    return (descending ? -1 : 1) * rank(left, right) || one.number - other.number;
  });
  return keyed.map(([, trial]) => trial);
}
