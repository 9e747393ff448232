// What the verdict says the recommendation is worth: figures with their intervals. `verdict` is as measures.js words it.

import { el } from "../dom.js";
import { metric, plural } from "../format.js";
import { gain, gainInterval, gainOf, interval, level, middle } from "./estimates.js";

const helpedBy = (example) => ({
  yes: ["Yes", `better than the baseline on new ${example}s too, as far as these runs can tell`],
  unclear: ["Unclear", `better on these test ${example}s; so few cannot say whether on new ones too`],
  no: ["No", "it cannot be told from the baseline, or is the baseline"],
});

const figure = (name, value, ...notes) => el("div", { class: "figure" }, el("span", { class: "label" }, name), el("span", { class: "value" }, value), notes.filter(Boolean).map((note) => el("span", { class: "note line" }, note)));

function expected({ measure, example, expected: mean, test_images: tested }) {
  return figure(`Expected ${measure.name}`, middle(measure, mean), `${level(mean)} ${interval(measure, mean)}`, `mean over seeds, on these ${plural(tested, `test ${example}`, `test ${example}s`)}`);
}

function elsewhere({ measure, example, new_images: wider, single_run: single }) {
  if (!wider && !single) return null;
  return figure(`On new ${example}s`, wider ? interval(measure, wider) : "–", wider ? `${level(wider)}, for ${example}s of the same kind` : `the runs have no score of each ${example}`,
    single ? `one more run on these: ${interval(measure, single)}` : null);
}

function uplift({ measure, example, arms, recommended, uplift: by, uplift_new_images: wider }) {
  if (arms.some((arm) => arm.baseline && arm.trial === recommended)) return figure("Uplift over the baseline", "none", "the baseline itself is recommended");
  if (!by) return figure("Uplift over the baseline", "–", "the baseline has too few runs with a result");
  return figure("Uplift over the baseline", gainOf(measure, by), `${level(by)} ${gainInterval(measure, by)}`, wider ? `on new ${example}s ${gainInterval(measure, wider)}` : null);
}

function optimism({ measure, optimism: by }) {
  if (!by) return null;
  return figure("Optimism of the search", gain(measure, by.value), `its best, trial ${by.trial}, looked like ${metric(measure, by.searched)} and is ${metric(measure, by.confirmed)}`,
    by.value <= 0 ? "it did not flatter" : by.chosen > 0 ? `${gain(measure, by.chosen).slice(1)} of it were luck of the draw` : "none of it was luck of the draw");
}

function helped({ example, helped: word }) {
  return word ? figure("Did tuning help?", ...helpedBy(example)[word]) : null;
}

// Nothing before the last run: until then each run would move them.
export function worthFigures(verdict) {
  if (!verdict?.expected || verdict.state === "running") return [];
  return [expected(verdict), elsewhere(verdict), uplift(verdict), optimism(verdict), helped(verdict)].filter(Boolean);
}
