// Page module of the target `labels`: results by label, the threshold, and the examples with the largest losses.

import { bestPlaces, cell, row, table } from "../compare/tables.js";
import { at, el } from "../dom.js";
import { count, number, plural } from "../format.js";
import { capital } from "../measures.js";
import { share, shareBar } from "./confusion.js";
import { columnsOf } from "./examples.js";

document.head.append(el("link", { rel: "stylesheet", href: at("/static/tasks/labels.css") }));

export const target = "labels";

const MOST_NAMED = 24; // labels in the panel "Data and model"
const FEW = 25; // rows shown first in a longer table

const absent = () => el("p", { class: "quiet" }, "Available for complete trials.");
const heads = (...names) => el("thead", {}, el("tr", {}, names.map(([name, numeric]) => el("th", { scope: "col", class: numeric ? "number" : null }, name))));
const scrolled = (label, node) => el("div", { class: "scroll", tabindex: 0, role: "group", "aria-label": label }, node);
const known = (value) => (value === null || value === undefined ? "–" : share(value));

// Texts of the form for a new study.
export const form = { strata: "of each label" };

// Rows of the panel "Data and model".
export function facts({ facts: found, task }) {
  const names = found.labels ?? [];
  if (!names.length) return [];
  const without = Object.values(found.without_labels ?? {}).reduce((total, value) => total + value, 0);
  return [
    ["Labels", `${count(names.length)}: ${names.slice(0, MOST_NAMED).join(", ")}${names.length > MOST_NAMED ? ", …" : ""}`],
    ...(without ? [["Without a label", plural(without, task.example, `${task.example}s`)]] : []),
  ];
}

// A table with its first rows, and a button that shows the others.
function beginning(label, node, rows, line) {
  const body = node.tBodies[0];
  body.replaceChildren(...rows.slice(0, FEW).map(line));
  const more = el("button", { class: "button small", type: "button", onclick: () => { body.replaceChildren(...rows.map(line)); more.remove(); } }, `Show all ${count(rows.length)} labels`);
  return [scrolled(label, node), rows.length > FEW ? more : null];
}

// One row for each label; for many labels, lowest F1 first.
function byLabel(report, { task }) {
  const rows = Object.entries(report.per_label ?? {});
  if (!rows.length) return absent();
  const many = rows.length > FEW;
  if (many) rows.sort(([, one], [, other]) => one.f1 - other.f1);
  const line = ([name, one]) => el("tr", {},
    el("th", { scope: "row" }, name),
    el("td", { class: "number" }, count(one.examples)), el("td", { class: "number" }, count(one.predicted)),
    el("td", { class: "number" }, known(one.precision)), el("td", { class: "number" }, known(one.recall)), el("td", { class: "number" }, shareBar(one.f1, task.example)),
    el("td", { class: "number" }, known(one.auroc)), el("td", { class: "number" }, known(one.average_precision)));
  const node = el("table", { class: "by-label" },
    heads(["Label"], [`${capital(task.example)}s`, true], ["Predicted", true], ["Precision", true], ["Recall", true], ["F1", true], ["AUROC", true], ["Average precision", true]), el("tbody", {}));
  return [
    el("p", { class: "quiet" }, `A label is predicted from a probability of ${number(report.threshold)} on, chosen by the F1 on the validation ${task.example}s.${many ? " Lowest F1 first." : ""}`),
    beginning("Results by label", node, rows, line),
  ];
}

function worst(report, { task }) {
  if (!report.per_label) return absent();
  if (!report.worst_labels?.length) return el("p", { class: "quiet" }, "The report names no examples.");
  const first = columnsOf(report.worst_labels, task.example);
  return scrolled("Largest losses", el("table", { class: "worst-examples" },
    heads(...first.heads, ["Not predicted"], ["Wrongly predicted"], ["Loss", true]),
    el("tbody", {}, report.worst_labels.map((one) => el("tr", {},
      first.cells(one), el("td", {}, one.missing.join(", ") || "–"), el("td", {}, one.extra.join(", ") || "–"), el("td", { class: "number" }, number(one.loss)))))));
}

// Panels of a trial, for the report on the validation examples.
export const panels = [
  { id: "labels", title: "Results by label", draw: byLabel },
  { id: "worst", title: "Largest losses", draw: worst },
];

// The report on the test examples, shown below its metrics.
export function test(report, study) {
  return el("details", { class: "disclosure" }, el("summary", {}, `Results by label on the test ${study.task.example}s`), byLabel(report, study));
}

// F1 of each label that at least one trial reported, with the best marked.
function besides(columns) {
  const tables = columns.map(({ trial }) => trial.result.per_label ?? {});
  const names = [...new Set(tables.flatMap(Object.keys))];
  if (!names.length) return absent();
  const line = (name) => {
    const values = tables.map((one) => one[name]?.f1 ?? null);
    const best = bestPlaces(values, "maximize");
    return row(name, values.map((value, index) => cell(known(value), best.has(index))));
  };
  return beginning("F1 by label", table("Label", columns, []), names, line);
}

// Panels of a comparison.
export const comparison = [{ id: "labels", title: "F1 of each label", draw: besides }];
