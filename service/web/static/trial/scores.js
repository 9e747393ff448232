// A trial that confirms: which one, in which round, and what it scored on the test images.

import { classNames, confusion } from "../confusion.js";
import { el } from "../dom.js";
import { metric, plural } from "../format.js";

const NAMES = ["accuracy", "f1", "precision", "recall", "loss"];

const known = (metrics) => [...NAMES.filter((name) => name in metrics), ...Object.keys(metrics).filter((name) => !NAMES.includes(name)).sort()];

// Whose configuration it trains again, as a sentence with a link; null for a trial of the search.
export function confirms(trial, addressOf) {
  if (trial.confirms == null) return null;
  return [`Round ${trial.round} of the confirmation of `, el("a", { href: addressOf(trial.confirms) }, `trial ${trial.confirms}`)];
}

// Nothing for a trial that was not scored on them.
export function testScores({ result, metrics }, facts) {
  const { test } = result;
  if (!test) return [];
  const names = classNames(test, facts);
  const images = test.confusion_matrix.flat().reduce((sum, value) => sum + value, 0);
  const row = (name) => el("tr", {}, el("th", { scope: "row" }, name), el("td", { class: "number strong" }, metric(name, test.metrics[name])), el("td", { class: "number" }, metric(name, metrics[name])));
  return [
    el("p", { class: "quiet" }, `Scored once, after the last epoch, on ${plural(images, "image", "images")} that no trial of the search has seen.`),
    el("table", {},
      el("thead", {}, el("tr", {}, el("th", { scope: "col" }, "Metric"), el("th", { scope: "col", class: "number" }, "Test images"), el("th", { scope: "col", class: "number" }, "Validation images"))),
      el("tbody", {}, known(test.metrics).map(row))),
    el("details", { class: "disclosure" }, el("summary", {}, "Confusion on the test images"), confusion(test, names)),
  ];
}
