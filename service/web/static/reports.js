// The module of static/tasks/ that draws what a task's runs report beside their metrics. Of a task without one, single numbers and words of
// the report are shown as a table.
//
// Such a module exports what it has to show, all of it optional but the panels:
//   facts(study), leftOut(facts)   rows of the panel "Data and model", and files that are not used
//   reuse(reuse)                   rows on what a run took from others
//   panels, comparison             of a trial and of compared ones: [{id, title, wide, draw}]
//   test(report, study)            of the report on the test examples
//   form                           what the form of a new study begins with, says and offers: {first, path, strata, weights, models, model}

import { cell, row, table } from "./compare/tables.js";
import { at, el } from "./dom.js";
import { scalar } from "./format.js";

const drawings = new Map(); // task's name → promise of its module

const isSingle = (value) => ["number", "string", "boolean"].includes(typeof value);

// The report's fields that are single numbers or words. `result` has those of every task too.
const singles = (result, task) => task.report.filter((name) => isSingle(result[name])).map((name) => [name, result[name]]);

const titled = (name) => name.replaceAll("_", " ");
const none = (columns) => el("p", { class: "quiet" }, columns.some((report) => Object.keys(report).length) ? "It has no single numbers." : "A trial that runs to its end leaves it.");

function single(report, { task }) {
  const found = singles(report, task);
  if (!found.length) return none([Object.fromEntries(task.report.filter((name) => name in report).map((name) => [name, true]))]);
  return el("table", {}, el("tbody", {}, found.map(([name, value]) => el("tr", {}, el("th", { scope: "row" }, titled(name)), el("td", { class: "number" }, scalar(value))))));
}

function besides(columns) {
  const reports = columns.map(({ study, trial }) => Object.fromEntries(singles(trial.result, study.task)));
  const names = [...new Set(reports.flatMap(Object.keys))];
  if (!names.length) return none(reports);
  return el("div", { class: "scroll", tabindex: 0, role: "region", "aria-label": "Report" },
    table("Field", columns, names.map((name) => row(titled(name), reports.map((report) => cell(name in report ? scalar(report[name]) : "–", false))))));
}

const PLAIN = { panels: [{ id: "fields", title: "Report", draw: single }], comparison: [{ id: "fields", title: "Report", draw: besides }], test: single };

async function load(task) {
  try {
    return await import(at(task.module));
  } catch {
    drawings.delete(task.name); // perhaps the network: the next reading tries again
    return PLAIN;
  }
}

// The task's module, or what stands in for it.
export function drawingOf(task) {
  if (task.module === null) return Promise.resolve(PLAIN);
  if (!drawings.has(task.name)) drawings.set(task.name, load(task));
  return drawings.get(task.name);
}

// Panels in their order, each with the node that it fills: [{panel, node, section}].
export function sections(panels, first = true) {
  return panels.map((panel) => {
    const node = el("div", { id: first ? panel.id : null, class: "stack" });
    return { panel, node, section: el("section", { class: "panel", "aria-label": panel.title }, el("header", {}, el("h2", {}, panel.title)), node) };
  });
}
