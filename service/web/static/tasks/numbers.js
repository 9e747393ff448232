// Page module of the target `numbers`: predictions by target, residuals, and the examples with the largest residuals.

import { mark, stepless } from "../axis.js";
import { cell, row, table } from "../compare/tables.js";
import { at, el, svg } from "../dom.js";
import { number, plural } from "../format.js";
import { columnsOf } from "./examples.js";

document.head.append(el("link", { rel: "stylesheet", href: at("/static/tasks/numbers.css") }));

export const target = "numbers";

const PARTS = { train: "training", validation: "validation", test: "test" };
const QUANTILES = ["5 %", "25 %", "50 %", "75 %", "95 %"];
const WIDTH = 560;
const HEIGHT = 320;
const EDGE = { left: 62, right: 12, top: 12, bottom: 44 };
const PLAIN = { share: false, low: -Infinity, high: Infinity };

const absent = () => el("p", { class: "quiet" }, "Available for complete trials.");
const heads = (...names) => el("thead", {}, el("tr", {}, names.map(([name, numeric]) => el("th", { scope: "col", class: numeric ? "number" : null }, name))));
const scrolled = (label, node) => el("div", { class: "scroll", tabindex: 0, role: "group", "aria-label": label }, node);
const signed = (value) => `${value > 0 ? "+" : value < 0 ? "−" : ""}${number(Math.abs(value))}`;

// Rows of the panel "Data and model".
export function facts({ facts: known }) {
  const ranges = Object.entries(known.numbers ?? {}).map(([part, found]) => `${PARTS[part]} ${number(found.min)} to ${number(found.max)}, mean ${number(found.mean)}, deviation ${number(found.std)}`);
  return ranges.length ? [["Targets", ranges.map((text) => el("p", {}, text))]] : [];
}

// The chart of predictions by target: a bar from 10 to 90 % of the predictions of each bin, its mean, and the line of right predictions.
function chart(bins, noun) {
  const values = bins.flatMap((bin) => [bin.target, bin.p10, bin.p90, bin.predicted]);
  const axis = (from, to) => stepless(Math.min(...values), Math.max(...values), from, to);
  const x = axis(EDGE.left, WIDTH - EDGE.right);
  const y = axis(HEIGHT - EDGE.bottom, EDGE.top);
  const label = `Predictions by target in ${plural(bins.length, "bin", "bins")}. ${bins.map((bin) => `target ${number(bin.target)}: predicted ${number(bin.predicted)}`).join("; ")}`;
  return svg("svg", { class: "by-target", viewBox: `0 0 ${WIDTH} ${HEIGHT}`, role: "img", "aria-label": label },
    y.marks.map((value) => [
      svg("line", { class: "grid", x1: EDGE.left, x2: WIDTH - EDGE.right, y1: y.place(value), y2: y.place(value) }),
      svg("text", { class: "tick", x: EDGE.left - 8, y: y.place(value) + 4, "text-anchor": "end" }, mark(PLAIN, value)),
    ]),
    x.marks.map((value) => svg("text", { class: "tick", x: x.place(value), y: HEIGHT - EDGE.bottom + 18, "text-anchor": "middle" }, mark(PLAIN, value))),
    svg("text", { class: "tick", x: (EDGE.left + WIDTH) / 2, y: HEIGHT - 6, "text-anchor": "middle" }, "target"),
    svg("line", { class: "right", x1: x.place(x.low), y1: y.place(x.low), x2: x.place(x.high), y2: y.place(x.high) }),
    bins.map((bin) => svg("g", { class: "bin" },
      svg("title", {}, `${plural(bin.count, noun, `${noun}s`)} with targets from ${number(bin.low)} to ${number(bin.high)}: predicted ${number(bin.predicted)} on average, 80 % between ${number(bin.p10)} and ${number(bin.p90)}`),
      svg("line", { x1: x.place(bin.target), x2: x.place(bin.target), y1: y.place(bin.p10), y2: y.place(bin.p90) }),
      svg("circle", { cx: x.place(bin.target), cy: y.place(bin.predicted), r: 4 }))));
}

function residualsTable(report) {
  return el("table", { class: "residuals" }, heads(["Share of residuals below"], ["Residual", true]),
    el("tbody", {}, QUANTILES.map((share, index) => el("tr", {}, el("th", { scope: "row" }, share), el("td", { class: "number" }, signed(report.residual_quantiles[index]))))));
}

function residuals(report, { task }) {
  if (!report.residual_quantiles) return absent();
  return [
    report.bins?.length ? chart(report.bins, task.example) : null,
    report.bins?.length ? el("p", { class: "quiet" }, "Mean prediction of each bin of targets, with the range of 80 % of its predictions. On the dashed line predictions are right.") : null,
    el("details", { class: "disclosure" }, el("summary", {}, "Residuals (prediction less target)"), residualsTable(report)),
  ];
}

function worst(report, { task }) {
  if (!report.residual_quantiles) return absent();
  if (!report.worst_numbers?.length) return el("p", { class: "quiet" }, "The report names no examples.");
  const first = columnsOf(report.worst_numbers, task.example);
  return scrolled("Largest residuals", el("table", { class: "worst-examples" },
    heads(...first.heads, ["Target", true], ["Prediction", true], ["Residual", true]),
    el("tbody", {}, report.worst_numbers.map((one) => el("tr", {},
      first.cells(one),
      el("td", { class: "number" }, number(one.target)), el("td", { class: "number" }, number(one.predicted)), el("td", { class: "number" }, signed(one.predicted - one.target)))))));
}

// Panels of a trial, for the report on the validation examples.
export const panels = [
  { id: "residuals", title: "Predictions by target", draw: residuals },
  { id: "worst", title: "Largest residuals", draw: worst },
];

// The report on the test examples, shown below its metrics.
export function test(report, study) {
  return el("details", { class: "disclosure" }, el("summary", {}, `Predictions by target on the test ${study.task.example}s`), residuals(report, study));
}

function besides(columns) {
  const reports = columns.map(({ trial }) => trial.result.residual_quantiles ?? null);
  if (reports.every((one) => one === null)) return absent();
  return scrolled("Residuals", table("Share of residuals below", columns, QUANTILES.map((share, index) => row(share, reports.map((one) => cell(one ? signed(one[index]) : "–", false))))));
}

const chartOf = ({ study, trial, letter, number: name }) =>
  el("section", { "aria-label": `Predictions of ${letter}` }, el("h3", {}, el("b", {}, letter), ` ${study.name}, trial ${name}`), trial.result.bins?.length ? chart(trial.result.bins, study.task.example) : absent());

// Panels of a comparison.
export const comparison = [
  { id: "residuals", title: "Predictions by target", wide: true, draw: (columns) => el("div", { class: "charts-by-target" }, columns.map(chartOf)) },
  { id: "quantiles", title: "Residuals", draw: besides },
];
