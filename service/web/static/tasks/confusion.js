// What was taken for what: a confusion matrix as a table that is shaded, or of many classes the pairs that are confused most; and each class's
// recall. `noun` is what an example is called.

import { at, el } from "../dom.js";
import { count, plural } from "../format.js";
import { capital } from "../measures.js";

document.head.append(el("link", { rel: "stylesheet", href: at("/static/tasks/confusion.css") }));

const MATRIX_CLASSES = 25; // of more, only the most confused pairs are shown
const LARGE = 12; // a matrix of more classes needs the width of the page
const PAIRS = 25;
const DEEP = 0.78; // a cell of a greater share has light text

const sum = (row) => row.reduce((total, value) => total + value, 0);
export const share = (value) => `${(100 * value).toFixed(1).replace(/\.0$/, "")} %`;

// Names of the classes in the order of the matrix: the study's, or those of the recall when the study has none that fit.
export function classNames(result, facts) {
  const size = result.confusion_matrix?.length ?? Object.keys(result.per_class_recall ?? {}).length;
  const known = facts?.classes ?? [];
  if (known.length === size) return known;
  const named = Object.keys(result.per_class_recall ?? {});
  return Array.from({ length: size }, (_, index) => named[index] ?? `class ${index}`);
}

// A row a class, by the order of the names: {name, examples, right, recall, taken: [name, how often] or null}. Numbers that are unknown are null.
export function byClass(result, names) {
  return names.map((name, index) => {
    const row = result.confusion_matrix?.[index];
    const told = result.per_class_recall?.[name] ?? null;
    if (!row) return { name, examples: null, right: null, recall: told, taken: null };
    const examples = sum(row);
    const [most, often] = row.reduce((found, value, other) => (other !== index && value > found[1] ? [other, value] : found), [null, 0]);
    return { name, examples, right: row[index], recall: examples ? row[index] / examples : null, taken: often ? [names[most], often] : null };
  });
}

// The pairs of classes that are confused most, the most often first: {actual, predicted, often, share}.
function pairs(matrix, names) {
  const found = [];
  matrix.forEach((row, actual) => {
    const examples = sum(row);
    row.forEach((often, predicted) => {
      if (often && actual !== predicted) found.push({ actual: names[actual], predicted: names[predicted], often, share: often / examples });
    });
  });
  return found.sort((one, other) => other.often - one.often || other.share - one.share);
}

function cell(value, part, right) {
  const node = el("td", { class: `cell ${right ? "right" : "wrong"} ${(right ? part : Math.sqrt(part)) > DEEP ? "deep" : ""} ${value ? "" : "zero"}` }, count(value));
  node.style.setProperty("--share", (right ? part : Math.sqrt(part)).toFixed(4)); // few faults are to be seen too
  return node;
}

function matrixTable(matrix, names) {
  return el("table", { class: names.length > LARGE ? "confusion large" : "confusion" },
    el("caption", {}, "Rows are the true classes, columns what they were taken for."),
    el("thead", {}, el("tr", {}, el("td", {}), names.map((name) => el("th", { scope: "col", title: name }, el("span", {}, name))))),
    el("tbody", {}, matrix.map((row, actual) => {
      const examples = sum(row);
      return el("tr", {}, el("th", { scope: "row", title: names[actual] }, names[actual]), row.map((value, predicted) => cell(value, examples ? value / examples : 0, actual === predicted)));
    })));
}

function pairsTable(matrix, names, noun, most) {
  const all = pairs(matrix, names);
  const wrong = all.reduce((total, pair) => total + pair.often, 0);
  if (!all.length) return el("p", { class: "quiet" }, `All ${count(names.length)} classes were told apart without a fault.`);
  return [
    el("p", { class: "quiet" }, `${plural(wrong, noun, `${noun}s`)} of ${count(sum(matrix.map(sum)))} taken for another class, in ${plural(all.length, "pair", "pairs")} of ${count(names.length)} classes${all.length > most ? `; the ${most} most frequent` : ""}:`),
    el("div", { class: "scroll", tabindex: 0, role: "region", "aria-label": "Most confused classes" },
      el("table", { class: "pairs" },
        el("thead", {}, el("tr", {}, el("th", { scope: "col" }, "True class"), el("th", { scope: "col" }, "Taken for"), el("th", { scope: "col", class: "number" }, `${capital(noun)}s`), el("th", { scope: "col", class: "number" }, "Of its class"))),
        el("tbody", {}, all.slice(0, most).map((pair) => el("tr", {}, el("th", { scope: "row" }, pair.actual), el("td", {}, pair.predicted), el("td", { class: "number" }, count(pair.often)), el("td", { class: "number" }, share(pair.share))))))),
  ];
}

// The matrix, or the `most` frequent pairs of many classes. A sentence where the result has none.
export function confusion(result, names, noun, most = PAIRS) {
  const matrix = result.confusion_matrix;
  if (!matrix?.length) return [el("p", { class: "quiet" }, "A trial that runs to its end leaves one.")];
  if (matrix.length > MATRIX_CLASSES) return [pairsTable(matrix, names, noun, most)].flat();
  return [el("div", { class: "scroll", tabindex: 0, role: "region", "aria-label": "Confusion matrix" }, matrixTable(matrix, names))];
}

// A share with a bar as long as it is.
export function shareBar(value, noun) {
  if (value === null) return el("span", { class: "quiet" }, `no ${noun}s`);
  const bar = el("span", { class: "share-bar", "aria-hidden": "true" });
  bar.style.setProperty("--share", value);
  return el("span", { class: "share" }, el("span", {}, share(value)), bar);
}
