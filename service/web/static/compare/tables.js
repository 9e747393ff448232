// Tables with one column for each trial: parameters, results and cost.

import { el } from "../dom.js";
import { bytes, count, duration, metric, percent, scalar } from "../format.js";
import { capital, commonMeasure, examples, measureIn, subject } from "../measures.js";
import { hasEnded } from "../trial/story.js";

const head = (title, columns) => el("thead", {}, el("tr", {}, el("th", { scope: "col" }, title), columns.map((one) => el("th", { scope: "col", class: "number" }, one.letter))));

export function table(title, columns, rows) {
  const node = el("table", { class: "aside" }, head(title, columns), el("tbody", {}, rows));
  node.style.setProperty("--columns", columns.length);
  return node;
}

export function row(name, cells, mark) {
  return el("tr", { class: mark ? "differing" : null },
    el("th", { scope: "row" }, mark ? el("span", { class: "unequal", role: "img", "aria-label": "differs:" }, "≠ ") : null, name), cells);
}

export const cell = (text, best) => el("td", { class: `number ${best ? "winner" : ""}` }, best ? el("span", { class: "star", role: "img", "aria-label": "best:" }, "★ ") : null, text);

// Indices of the best values. Null values are ignored. Empty if all values are equal, or if the direction is unknown.
export function bestPlaces(values, direction) {
  if (direction === null) return new Set();
  const known = values.filter((value) => value !== null);
  if (known.length < 2) return new Set();
  const best = known.reduce((one, other) => (direction === "minimize" ? Math.min(one, other) : Math.max(one, other)));
  if (known.every((value) => value === best)) return new Set();
  return new Set(values.flatMap((value, index) => (value === best ? [index] : [])));
}

// The trial's settings: its parameters, and the fixed values, model, weights and data of its study.
function settings({ study, trial }) {
  const { spec } = study;
  const about = Object.fromEntries(subject(spec).map(([name, value]) => [name.toLowerCase(), value]));
  return new Map(Object.entries({ ...spec.fixed, ...trial.params, ...about, ...(spec.model ? { weights: spec.model.weights ?? "none" } : {}) }));
}

const shown = (value) => (value === undefined ? "default" : scalar(value));

// Tables of the parameters that differ and of those that are equal; null for an empty table.
export function parameterTables(columns) {
  const all = columns.map(settings);
  const names = [...new Set(all.flatMap((one) => [...one.keys()]))];
  const differs = (name) => columns.length > 1 && all.some((one) => one.get(name) !== all[0].get(name));
  const line = (name) => row(name, all.map((one) => el("td", { class: "number mono" }, shown(one.get(name)))), differs(name));
  const [different, equal] = [names.filter(differs), names.filter((name) => !differs(name))];
  return {
    differing: different.length ? table("Parameter", columns, different.map(line)) : null,
    equal: equal.length ? table("Parameter", columns, equal.map(line)) : null,
    equalCount: equal.length,
  };
}

// The last value of each metric, with the best one marked.
export function resultsTable(columns, names) {
  const line = (name) => {
    const values = columns.map(({ trial }) => trial.metrics[name] ?? null);
    const best = bestPlaces(values, commonMeasure(columns.map(({ study }) => study), name).direction);
    const objective = columns.every(({ study }) => study.spec.objective.metric === name);
    return row([name, objective ? el("span", { class: "quiet" }, " (objective)") : null], columns.map(({ study, trial }, index) =>
      cell(Object.hasOwn(trial.metrics, name) && values[index] === null ? "not finite" : metric(measureIn(study, name), values[index]), best.has(index))));
  };
  return table("Last value", columns, names.map(line));
}

const seconds = (value) => (value == null ? "–" : value < 10 ? `${value.toFixed(1)} s` : duration(1000 * value));

function wallSeconds(trial) {
  if (!trial.started_at) return null;
  return ((trial.finished_at ? Date.parse(trial.finished_at) : Date.now()) - Date.parse(trial.started_at)) / 1000;
}

function savedTime({ study, trial }) {
  if (trial.duplicate_of !== null) return hasEnded(trial) ? `all, result copied from trial ${trial.duplicate_of}` : "–";
  const saved = trial.reuse?.saved_seconds;
  if (!(saved > 0)) return study && trial.reuse ? "nothing" : "–";
  return trial.reuse.lanes > 1 ? `${seconds(saved)} for ${trial.reuse.lanes} trials trained together` : seconds(saved);
}

const examplesOf = (columns) => (new Set(columns.map(({ study }) => study.task.example)).size === 1 ? examples(columns[0].study) : "examples");

// Time, speed and memory of each trial.
export function costTable(columns) {
  const line = (name, value) => row(name, columns.map((one) => el("td", { class: "number" }, value(one))));
  return table("Cost", columns, [
    line("Time from start to end", ({ trial }) => seconds(wallSeconds(trial))),
    line("Training", ({ trial }) => seconds(trial.result.train_seconds)),
    line("Epochs", ({ trial }) => String(trial.step)),
    line("Attempts", ({ trial }) => String(trial.attempt)),
    line(`${capital(examplesOf(columns))} a second`, ({ trial }) => (trial.pace?.samples_per_second == null ? "–" : count(Math.round(trial.pace.samples_per_second)))),
    line("Device utilization", ({ trial }) => (trial.pace?.utilization == null ? "–" : percent(trial.pace.utilization))),
    line("Peak memory", ({ trial }) => (trial.result.peak_memory == null ? "–" : bytes(trial.result.peak_memory))),
    line("Saved by reuse", savedTime),
  ]);
}
