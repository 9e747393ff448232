// Figures of the recommended configuration with their intervals. `verdict` comes from `worded` in measures.js.

import { el } from "../dom.js";
import { metric, plural } from "../format.js";
import { gain, gainInterval, gainOf, interval, level, middle } from "./estimates.js";

const helpedBy = (example, external) => ({
  yes: external ? ["Yes", "better than the baseline beyond the variation over seeds"] : ["Yes", `better than the baseline, also on new ${example}s, according to these runs`],
  unclear: ["Unclear", `better on these test ${example}s; they are too few to decide whether it is better on new ones`],
  no: ["No", "not distinguishable from the baseline, or the baseline itself"],
});

const figure = (name, value, ...notes) => el("div", { class: "figure" }, el("span", { class: "label" }, name), el("span", { class: "value" }, value), notes.filter(Boolean).map((note) => el("span", { class: "note line" }, note)));

function expected({ measure, example, external, expected: mean, test_images: tested }) {
  if (external) return figure(`Expected ${measure.name}`, middle(measure, mean), `${level(mean)} ${interval(measure, mean)}`, "mean over seeds, on the data that the script chooses");
  return figure(`Expected ${measure.name}`, middle(measure, mean), `${level(mean)} ${interval(measure, mean)}`, `mean over seeds, on these ${plural(tested, `test ${example}`, `test ${example}s`)}`);
}

function elsewhere({ measure, example, external, new_images: wider, single_run: single }) {
  if (!wider && !single) return null;
  if (external) return figure("One more run", interval(measure, single), "with a fresh seed, 19 times in 20");
  return figure(`On new ${example}s`, wider ? interval(measure, wider) : "–", wider ? `${level(wider)}, for ${example}s of the same kind` : `the runs have no scores of single ${example}s`,
    single ? `one more run on these ${example}s: ${interval(measure, single)}` : null);
}

function uplift({ measure, example, arms, recommended, uplift: by, uplift_new_images: wider }) {
  if (arms.some((arm) => arm.baseline && arm.trial === recommended)) return figure("Uplift over the baseline", "none", "the baseline itself is recommended");
  if (!by) return figure("Uplift over the baseline", "–", "the baseline has too few runs with a result");
  return figure("Uplift over the baseline", gainOf(measure, by), `${level(by)} ${gainInterval(measure, by)}`, wider ? `on new ${example}s ${gainInterval(measure, wider)}` : null);
}

function optimism({ measure, example, external, optimism: by }) {
  if (!by) return null;
  const bias = !external && by.chosen > by.value
    ? `selection bias is ${gain(measure, by.chosen).slice(1)}; the test ${example}s are easier than the validation ${example}s by ${gain(measure, by.chosen - by.value).slice(1)}`
    : `${gain(measure, by.chosen).slice(1)} of it is selection bias`;
  return figure("Optimism of the search", gain(measure, by.value), `its best, trial ${by.trial}, has ${metric(measure, by.searched)} in the search and ${metric(measure, by.confirmed)} in the confirmation`,
    by.value <= 0 ? "the search was not optimistic" : by.chosen > 0 ? bias : "none of it is selection bias");
}

function helped({ example, external, helped: answer }) {
  return answer ? figure("Did tuning help?", ...helpedBy(example, external)[answer]) : null;
}

// Empty before the last run is complete: until then each run would change the figures.
export function worthFigures(verdict) {
  if (!verdict?.expected || verdict.state === "running") return [];
  return [expected(verdict), elsewhere(verdict), uplift(verdict), optimism(verdict), helped(verdict)].filter(Boolean);
}
