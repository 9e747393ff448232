// Page module of the target `classes`: the classes of the data, confusion matrix, recall of each class, and the examples that are most wrong.

import { bestPlaces, cell, row, table } from "../compare/tables.js";
import { el } from "../dom.js";
import { count } from "../format.js";
import { capital, examples } from "../measures.js";
import { byClass, classNames, confusion, share, shareBar } from "./confusion.js";
import { columnsOf } from "./examples.js";

const MOST_CLASSES = 24;
const FEW_CLASSES = 25; // rows shown first in a longer table
const FEW_PAIRS = 10; // most confused pairs shown for each compared trial

export const target = "classes";

function classes({ classes: names }) {
  return `${count(names.length)}: ${names.slice(0, MOST_CLASSES).join(", ")}${names.length > MOST_CLASSES ? ", …" : ""}`;
}

// Texts of the form for a new study.
export const form = { strata: "of each class" };

// Rows of the panel "Data and model": [name, content].
export const facts = ({ facts: known }) => [["Classes", classes(known)]];

const namesOf = (report, study) => classNames(report, study.facts);

const heads = (...names) => el("thead", {}, el("tr", {}, names.map(([name, number]) => el("th", { scope: "col", class: number ? "number" : null }, name))));
const scrolled = (label, node) => el("div", { class: "scroll", tabindex: 0, role: "group", "aria-label": label }, node);

// A table with its first rows, and a button that shows the others.
function beginning(label, node, rows, line) {
  const body = node.tBodies[0];
  body.replaceChildren(...rows.slice(0, FEW_CLASSES).map(line));
  const more = el("button", { class: "button small", type: "button", onclick: () => { body.replaceChildren(...rows.map(line)); more.remove(); } }, `Show all ${count(rows.length)} classes`);
  return [scrolled(label, node), rows.length > FEW_CLASSES ? more : null];
}

// One row for each class; for many classes, lowest recall first.
function recallOfEach(report, study) {
  const rows = byClass(report, namesOf(report, study));
  const noun = study.task.example;
  if (!rows.length) return el("p", { class: "quiet" }, "Available for complete trials.");
  const many = rows.length > FEW_CLASSES;
  if (many) rows.sort((one, other) => (one.recall ?? 2) - (other.recall ?? 2));
  const line = (one) => el("tr", {},
    el("th", { scope: "row" }, one.name),
    el("td", { class: "number" }, one.examples === null ? "–" : count(one.examples)),
    el("td", { class: "number" }, shareBar(one.recall, noun)),
    el("td", { class: "remark" }, one.taken ? `${one.taken[0]} (${count(one.taken[1])})` : "–"));
  const node = el("table", { class: "recall" }, heads(["Class"], [`${capital(noun)}s`, true], ["Recall", true], ["Most often predicted as"]), el("tbody", {}));
  return [many ? el("p", { class: "quiet" }, "Lowest recall first.") : null, beginning("Recall by class", node, rows, line)];
}

// Wrong predictions, lowest probability of the true class first.
function worst(report, study) {
  if (!report.confusion_matrix) return el("p", { class: "quiet" }, "Available for complete trials.");
  if (!report.worst_classes) return el("p", { class: "quiet" }, "The report names no examples.");
  if (!report.worst_classes.length) return el("p", { class: "quiet" }, `No validation ${study.task.example} was predicted wrongly.`);
  const first = columnsOf(report.worst_classes, study.task.example);
  return scrolled("Most wrong predictions", el("table", { class: "worst-examples" },
    heads(...first.heads, ["True class"], ["Its probability", true], ["Predicted class"], ["Its probability", true]),
    el("tbody", {}, report.worst_classes.map((one) => el("tr", {},
      first.cells(one),
      el("td", {}, one.target), el("td", { class: "number" }, share(one.target_probability)), el("td", {}, one.predicted), el("td", { class: "number" }, share(one.probability)))))));
}

// Panels of a trial, for the report on the validation examples.
export const panels = [
  { id: "confusion", title: "Confusion", draw: (report, study) => confusion(report, namesOf(report, study), study.task.example) },
  { id: "recall", title: "Recall of each class", draw: recallOfEach },
  { id: "worst", title: "Most wrong predictions", draw: worst },
];

// The report on the test examples, shown below its metrics.
export function test(report, study) {
  return el("details", { class: "disclosure" }, el("summary", {}, `Confusion on the test ${examples(study)}`), confusion(report, namesOf(report, study), study.task.example));
}

const confusionOf = ({ study, trial, letter, number }) =>
  el("section", { class: "matrix", "aria-label": `Confusion of ${letter}` },
    el("h3", {}, el("b", {}, letter), ` ${study.name}, trial ${number}`), confusion(trial.result, namesOf(trial.result, study), study.task.example, FEW_PAIRS));

// The difference between the largest and smallest known value.
function spread(values) {
  const known = values.filter((value) => value !== null);
  return known.length ? Math.max(...known) - Math.min(...known) : -1;
}

// Recall of each class that at least one trial reported, with the best marked; for many classes, largest differences first.
function recallBesides(columns) {
  const recalls = columns.map(({ study, trial }) => new Map(byClass(trial.result, namesOf(trial.result, study)).map((one) => [one.name, one.recall])));
  const names = [...new Set(recalls.flatMap((one) => [...one.keys()]))];
  if (!names.length) return el("p", { class: "quiet" }, "Available for complete trials.");
  const values = new Map(names.map((name) => [name, recalls.map((one) => one.get(name) ?? null)]));
  const many = names.length > FEW_CLASSES;
  if (many) names.sort((one, other) => spread(values.get(other)) - spread(values.get(one)));
  const line = (name) => {
    const best = bestPlaces(values.get(name), "maximize");
    return row(name, values.get(name).map((value, index) => cell(value === null ? "–" : share(value), best.has(index))));
  };
  return [many ? el("p", { class: "quiet" }, "Largest differences between the trials first.") : null, beginning("Recall by class", table("Class", columns, []), names, line)];
}

// Panels of a comparison; a `wide` panel has the full width of the page.
export const comparison = [
  { id: "confusion", title: "Confusion", wide: true, draw: (columns) => el("div", { class: "matrices" }, columns.map(confusionOf)) },
  { id: "recall", title: "Recall of each class", draw: recallBesides },
];
