// Loads the two modules of static/tasks/ that a task is drawn by: that of its target, which draws the report of its runs, and that of its
// input. For a task without a module, the single numbers and strings of the report are shown as a table; for one without a report, nothing.
//
// The target's module exports:
//   target                         its name
//   panels, comparison             panels of a trial and of a comparison: [{id, title, wide, draw}]
//   test(report, study)            draws the report on the test examples
// The module of the input may export:
//   leftOut(facts)                 unused files
//   reuse(reuse)                   rows on the work that a run shares with others
// Both may export:
//   facts(study)                   rows of the panel "Data and model"
//   form                           defaults, texts and choices of the form for a new study: {first, strata, name, weights, models, model},
//                                  `paths`, texts on the path of the data by target, and `columns`, further fields of the data, each
//                                  [field, label, placeholder]

import { cell, row, table } from "./compare/tables.js";
import { at, el } from "./dom.js";
import { scalar } from "./format.js";

const drawings = new Map(); // task's name → promise of its module

const isSingle = (value) => ["number", "string", "boolean"].includes(typeof value);

// The fields of the report that are single values. `result` also has fields that are common to all tasks.
const singles = (result, task) => task.report.filter((name) => isSingle(result[name])).map((name) => [name, result[name]]);

const titled = (name) => name.replaceAll("_", " ");
const none = (columns) => el("p", { class: "quiet" }, columns.some((report) => Object.keys(report).length) ? "The report has no single numbers." : "Available for complete trials.");

function single(report, { task }) {
  const found = singles(report, task);
  if (!found.length) return none([Object.fromEntries(task.report.filter((name) => name in report).map((name) => [name, true]))]);
  return el("table", {}, el("tbody", {}, found.map(([name, value]) => el("tr", {}, el("th", { scope: "row" }, titled(name)), el("td", { class: "number" }, scalar(value))))));
}

function besides(columns) {
  const reports = columns.map(({ study, trial }) => Object.fromEntries(singles(trial.result, study.task)));
  const names = [...new Set(reports.flatMap(Object.keys))];
  if (!names.length) return none(reports);
  return el("div", { class: "scroll", tabindex: 0, role: "group", "aria-label": "Report" },
    table("Field", columns, names.map((name) => row(titled(name), reports.map((report) => cell(name in report ? scalar(report[name]) : "–", false))))));
}

const PLAIN = { panels: [{ id: "fields", title: "Report", draw: single }], comparison: [{ id: "fields", title: "Report", draw: besides }], test: single };

const EMPTY = { ...PLAIN, panels: [], comparison: [] };

// What both modules export, the target's rows first.
function joined(drawing, input) {
  const form = { ...input.form, ...drawing.form, path: input.form?.paths?.[drawing.target] };
  return { ...input, ...drawing, form, facts: (study) => [drawing, input].flatMap((one) => one.facts?.(study) ?? []) };
}

async function load(task) {
  try {
    return joined(await import(at(task.module)), task.input_module === null ? {} : await import(at(task.input_module)));
  } catch {
    drawings.delete(task.name); // possibly a network error: the next call tries again
    return PLAIN;
  }
}

// The task's module, or the default.
export function drawingOf(task) {
  if (task.module === null) return Promise.resolve(task.report.length ? PLAIN : EMPTY);
  if (!drawings.has(task.name)) drawings.set(task.name, load(task));
  return drawings.get(task.name);
}

// Creates the sections of the panels: [{panel, node, section}]; `node` receives the panel's content.
export function sections(panels, first = true) {
  return panels.map((panel) => {
    const node = el("div", { id: first ? panel.id : null, class: "stack" });
    return { panel, node, section: el("section", { class: "panel", "aria-label": panel.title }, el("header", {}, el("h2", {}, panel.title)), node) };
  });
}
