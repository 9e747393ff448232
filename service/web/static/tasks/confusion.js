// The confusion matrix as a shaded table or, for many classes, the most confused pairs; and the recall of each class. `noun`: the noun for an
// example.

import { at, el } from "../dom.js";
import { count, plural } from "../format.js";
import { capital } from "../measures.js";

document.head.append(el("link", { rel: "stylesheet", href: at("/static/tasks/confusion.css") }));

const MATRIX_CLASSES = 25; // classes; for more, only the most confused pairs are shown
const LARGE = 12; // classes; a larger matrix has the full width of the page
const PAIRS = 25;
const DEEP = 0.78; // cells with a greater share have light text

const sum = (row) => row.reduce((total, value) => total + value, 0);
export const share = (value) => `${(100 * value).toFixed(1).replace(/\.0$/, "")} %`;

// Class names in the order of the matrix: the study's, or those of the recall if the study's do not match.
export function classNames(result, facts) {
  const size = result.confusion_matrix?.length ?? Object.keys(result.per_class_recall ?? {}).length;
  const known = facts?.classes ?? [];
  if (known.length === size) return known;
  const named = Object.keys(result.per_class_recall ?? {});
  return Array.from({ length: size }, (_, index) => named[index] ?? `class ${index}`);
}

// One row for each class, in the order of the names: {name, examples, right, recall, taken: [name, count] or null}. Unknown numbers are null.
export function byClass(result, names) {
  return names.map((name, index) => {
    const row = result.confusion_matrix?.[index];
    const reported = result.per_class_recall?.[name] ?? null;
    if (!row) return { name, examples: null, right: null, recall: reported, taken: null };
    const examples = sum(row);
    const [most, often] = row.reduce((found, value, other) => (other !== index && value > found[1] ? [other, value] : found), [null, 0]);
    return { name, examples, right: row[index], recall: examples ? row[index] / examples : null, taken: often ? [names[most], often] : null };
  });
}

// The most confused pairs of classes, most frequent first: {actual, predicted, often, share}.
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
  node.style.setProperty("--share", (right ? part : Math.sqrt(part)).toFixed(4)); // a minimum shade, so that few errors are visible
  return node;
}

function matrixTable(matrix, names) {
  return el("table", { class: names.length > LARGE ? "confusion large" : "confusion" },
    el("caption", {}, "Rows are the true classes, columns the predicted classes."),
    el("thead", {}, el("tr", {}, el("td", {}), names.map((name) => el("th", { scope: "col", title: name }, el("span", {}, name))))),
    el("tbody", {}, matrix.map((row, actual) => {
      const examples = sum(row);
      return el("tr", {}, el("th", { scope: "row", title: names[actual] }, names[actual]), row.map((value, predicted) => cell(value, examples ? value / examples : 0, actual === predicted)));
    })));
}

function pairsTable(matrix, names, noun, most) {
  const all = pairs(matrix, names);
  const wrong = all.reduce((total, pair) => total + pair.often, 0);
  if (!all.length) return el("p", { class: "quiet" }, `All ${count(names.length)} classes were predicted without an error.`);
  return [
    el("p", { class: "quiet" }, `${plural(wrong, noun, `${noun}s`)} of ${count(sum(matrix.map(sum)))} assigned to another class, in ${plural(all.length, "pair", "pairs")} of ${count(names.length)} classes${all.length > most ? `; the ${most} most frequent` : ""}:`),
    el("div", { class: "scroll", tabindex: 0, role: "group", "aria-label": "Most confused classes" },
      el("table", { class: "pairs" },
        el("thead", {}, el("tr", {}, el("th", { scope: "col" }, "True class"), el("th", { scope: "col" }, "Predicted class"), el("th", { scope: "col", class: "number" }, `${capital(noun)}s`), el("th", { scope: "col", class: "number" }, "Share of its class"))),
        el("tbody", {}, all.slice(0, most).map((pair) => el("tr", {}, el("th", { scope: "row" }, pair.actual), el("td", {}, pair.predicted), el("td", { class: "number" }, count(pair.often)), el("td", { class: "number" }, share(pair.share))))))),
  ];
}

// The matrix, or the `most` frequent pairs of many classes; a sentence if the result has no matrix.
export function confusion(result, names, noun, most = PAIRS) {
  const matrix = result.confusion_matrix;
  if (!matrix?.length) return [el("p", { class: "quiet" }, "Available for complete trials.")];
  if (matrix.length > MATRIX_CLASSES) return [pairsTable(matrix, names, noun, most)].flat();
  return [el("div", { class: "scroll", tabindex: 0, role: "group", "aria-label": "Confusion matrix" }, matrixTable(matrix, names))];
}

// A share with a bar of proportional length.
export function shareBar(value, noun) {
  if (value === null) return el("span", { class: "quiet" }, `no ${noun}s`);
  const bar = el("span", { class: "share-bar", "aria-hidden": "true" });
  bar.style.setProperty("--share", value);
  return el("span", { class: "share" }, el("span", {}, share(value)), bar);
}
