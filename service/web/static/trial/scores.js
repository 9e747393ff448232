// A trial of the confirmation: the configuration that it repeats, its round, and its scores on the test examples.

import { el } from "../dom.js";
import { metric, plural } from "../format.js";
import { examples, inOrder, measureOf } from "../measures.js";

// A sentence with a link to the trial whose configuration is trained again; null for a trial of the search.
export function confirms(trial, addressOf) {
  if (trial.confirms == null) return null;
  return [`Round ${trial.round} of the confirmation of `, el("a", { href: addressOf(trial.confirms) }, `trial ${trial.confirms}`)];
}

// The test scores; empty for a trial without them. `drawing`: the task's module.
export function testScores({ result, metrics }, study, drawing) {
  const { test } = result;
  if (!test) return [];
  const { task, sizes } = study;
  const scored = sizes?.test ? plural(sizes.test, task.example, examples(study)) : examples(study);
  const row = (name) => el("tr", {}, el("th", { scope: "row" }, name), el("td", { class: "number strong" }, metric(measureOf(task, name), test.metrics[name])), el("td", { class: "number" }, metric(measureOf(task, name), metrics[name])));
  return [
    el("p", { class: "quiet" }, `Scored once, after the last epoch, on ${scored} that no trial of the search has used.`),
    el("table", {},
      el("thead", {}, el("tr", {}, el("th", { scope: "col" }, "Metric"), el("th", { scope: "col", class: "number" }, `Test ${examples(study)}`), el("th", { scope: "col", class: "number" }, `Validation ${examples(study)}`))),
      el("tbody", {}, inOrder(task, Object.keys(test.metrics), study.spec.objective.metric).map(row))),
    drawing.test?.(test, study),
  ];
}
