// Tables with a column a trial: parameters, results, recall by class, and cost.

import { byClass, classNames, share } from "../confusion.js";
import { el } from "../dom.js";
import { bytes, count, duration, metric, percent, scalar } from "../format.js";
import { hasEnded } from "../trial/story.js";

const SMALLER_IS_BETTER = new Set(["loss", "train_loss"]);
const WITHOUT_BETTER = new Set(["lr"]);
const FEW_CLASSES = 25;

const head = (title, columns) => el("thead", {}, el("tr", {}, el("th", { scope: "col" }, title), columns.map((one) => el("th", { scope: "col", class: "number" }, one.letter))));

function table(title, columns, rows) {
  const node = el("table", { class: "aside" }, head(title, columns), el("tbody", {}, rows));
  node.style.setProperty("--columns", columns.length);
  return node;
}

function row(name, cells, mark) {
  return el("tr", { class: mark ? "differing" : null },
    el("th", { scope: "row" }, mark ? el("span", { class: "unequal", role: "img", "aria-label": "differs:" }, "≠ ") : null, name), cells);
}

const cell = (text, best) => el("td", { class: `number ${best ? "winner" : ""}` }, best ? el("span", { class: "star", role: "img", "aria-label": "best:" }, "★ ") : null, text);

// Places of the best of these values, of which null is none; no place when all that there are, are equal.
function bestPlaces(values, smaller) {
  const known = values.filter((value) => value !== null);
  if (known.length < 2) return new Set();
  const best = known.reduce((one, other) => (smaller ? Math.min(one, other) : Math.max(one, other)));
  if (known.every((value) => value === best)) return new Set();
  return new Set(values.flatMap((value, index) => (value === best ? [index] : [])));
}

// What the trial trains with: its parameters, what its study fixes, and, where studies differ, what it trains on.
function settings({ study, trial }) {
  const { spec } = study;
  return new Map([...Object.entries(spec.fixed), ...Object.entries(trial.params), ["model", spec.model.name], ["weights", spec.model.weights ?? "none"], ["data", spec.data.path]]);
}

const shown = (value) => (value === undefined ? "default" : scalar(value));

// Parameters that differ, marked, and those that are equal: [table or sentence, number of equal ones, table of these].
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

// The last value of each metric, the best of each marked.
export function resultsTable(columns, names) {
  const line = (name) => {
    const values = columns.map(({ trial }) => trial.metrics[name] ?? null);
    const best = WITHOUT_BETTER.has(name) ? new Set() : bestPlaces(values, SMALLER_IS_BETTER.has(name));
    const objective = columns.every(({ study }) => study.spec.objective.metric === name);
    return row([name, objective ? el("span", { class: "quiet" }, " (objective)") : null], columns.map(({ trial }, index) =>
      cell(Object.hasOwn(trial.metrics, name) && values[index] === null ? "not finite" : metric(name, values[index]), best.has(index))));
  };
  return table("Last value", columns, names.map(line));
}

// Recall of each class that some trial knows, the best marked; of many classes those first in which the trials differ most.
export function recallTable(columns) {
  const recalls = columns.map(({ study, trial }) => new Map(byClass(trial.result, classNames(trial.result, study.facts)).map((one) => [one.name, one.recall])));
  const names = [...new Set(recalls.flatMap((one) => [...one.keys()]))];
  if (!names.length) return [el("p", { class: "quiet" }, "Trials that run to their end leave it.")];
  const values = new Map(names.map((name) => [name, recalls.map((one) => one.get(name) ?? null)]));
  const many = names.length > FEW_CLASSES;
  if (many) names.sort((one, other) => spread(values.get(other)) - spread(values.get(one)));
  const line = (name) => {
    const best = bestPlaces(values.get(name), false);
    return row(name, values.get(name).map((value, index) => cell(value === null ? "–" : share(value), best.has(index))));
  };
  const shownTable = table("Class", columns, names.slice(0, FEW_CLASSES).map(line));
  const more = el("button", { class: "button small", type: "button", onclick: () => { shownTable.tBodies[0].replaceChildren(...names.map(line)); more.remove(); } }, `Show all ${count(names.length)} classes`);
  return [many ? el("p", { class: "quiet" }, "Those first in which the trials differ most.") : null, scrolled("Recall by class", shownTable), many ? more : null].filter(Boolean);
}

function spread(values) {
  const known = values.filter((value) => value !== null);
  return known.length ? Math.max(...known) - Math.min(...known) : -1;
}

const scrolled = (label, node) => el("div", { class: "scroll", tabindex: 0, role: "region", "aria-label": label }, node);

const seconds = (value) => (value == null ? "–" : value < 10 ? `${value.toFixed(1)} s` : duration(1000 * value));

function wallSeconds(trial) {
  if (!trial.started_at) return null;
  return ((trial.finished_at ? Date.parse(trial.finished_at) : Date.now()) - Date.parse(trial.started_at)) / 1000;
}

function spared({ study, trial }) {
  if (trial.duplicate_of !== null) return hasEnded(trial) ? `all of it, answered by trial ${trial.duplicate_of}` : "–";
  const saved = trial.reuse?.saved_seconds;
  if (!(saved > 0)) return study && trial.reuse ? "nothing" : "–";
  return trial.reuse.lanes > 1 ? `${seconds(saved)} for a pass of ${trial.reuse.lanes}` : seconds(saved);
}

// What each trial took.
export function costTable(columns) {
  const line = (name, value) => row(name, columns.map((one) => el("td", { class: "number" }, value(one))));
  return table("Cost", columns, [
    line("Time from start to end", ({ trial }) => seconds(wallSeconds(trial))),
    line("Training", ({ trial }) => seconds(trial.result.train_seconds)),
    line("Epochs", ({ trial }) => String(trial.step)),
    line("Attempts", ({ trial }) => String(trial.attempt)),
    line("Images a second", ({ trial }) => (trial.pace?.samples_per_second == null ? "–" : count(Math.round(trial.pace.samples_per_second)))),
    line("Device in use", ({ trial }) => (trial.pace?.utilization == null ? "–" : percent(trial.pace.utilization))),
    line("Memory at most", ({ trial }) => (trial.result.peak_memory == null ? "–" : bytes(trial.result.peak_memory))),
    line("Spared by reuse", spared),
  ]);
}
