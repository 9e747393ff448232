// A trial that confirms: which one, in which round, and what it scored on the test examples.

import { el } from "../dom.js";
import { metric, plural } from "../format.js";
import { examples, inOrder, measureOf } from "../measures.js";

// Whose configuration it trains again, as a sentence with a link; null for a trial of the search.
export function confirms(trial, addressOf) {
  if (trial.confirms == null) return null;
  return [`Round ${trial.round} of the confirmation of `, el("a", { href: addressOf(trial.confirms) }, `trial ${trial.confirms}`)];
}

// Nothing for a trial that was not scored on them. `drawing` is the module of the task.
export function testScores({ result, metrics }, study, drawing) {
  const { test } = result;
  if (!test) return [];
  const { task, sizes } = study;
  const scored = sizes?.test ? plural(sizes.test, task.example, examples(study)) : examples(study);
  const row = (name) => el("tr", {}, el("th", { scope: "row" }, name), el("td", { class: "number strong" }, metric(measureOf(task, name), test.metrics[name])), el("td", { class: "number" }, metric(measureOf(task, name), metrics[name])));
  return [
    el("p", { class: "quiet" }, `Scored once, after the last epoch, on ${scored} that no trial of the search has seen.`),
    el("table", {},
      el("thead", {}, el("tr", {}, el("th", { scope: "col" }, "Metric"), el("th", { scope: "col", class: "number" }, `Test ${examples(study)}`), el("th", { scope: "col", class: "number" }, `Validation ${examples(study)}`))),
      el("tbody", {}, inOrder(task, Object.keys(test.metrics), study.spec.objective.metric).map(row))),
    drawing.test?.(test, study),
  ];
}
