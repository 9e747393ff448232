// What the verdict says the recommendation is worth: figures with their intervals.

import { el } from "../dom.js";
import { metric, plural } from "../format.js";
import { gain, gainInterval, gainOf, interval, level, middle } from "./estimates.js";

const HELPED = {
  yes: ["Yes", "better than the baseline on new images too, as far as these runs can tell"],
  unclear: ["Unclear", "better on these test images; so few cannot say whether on new ones too"],
  no: ["No", "it cannot be told from the baseline, or is the baseline"],
};

const figure = (name, value, ...notes) => el("div", { class: "figure" }, el("span", { class: "label" }, name), el("span", { class: "value" }, value), notes.filter(Boolean).map((note) => el("span", { class: "note line" }, note)));

function expected({ objective: { metric: name }, expected: mean, test_images: images }) {
  return figure(`Expected ${name}`, middle(name, mean), `${level(mean)} ${interval(name, mean)}`, `mean over seeds, on these ${plural(images, "test image", "test images")}`);
}

function elsewhere({ objective: { metric: name }, new_images: wider, single_run: single }) {
  if (!wider && !single) return null;
  return figure("On new images", wider ? interval(name, wider) : "–", wider ? `${level(wider)}, for images of the same kind` : "the runs did not tell of each image",
    single ? `one more run on these: ${interval(name, single)}` : null);
}

function uplift({ objective: { metric: name }, arms, recommended, uplift: by, uplift_new_images: wider }) {
  if (arms.some((arm) => arm.baseline && arm.trial === recommended)) return figure("Uplift over the baseline", "none", "the baseline itself is recommended");
  if (!by) return figure("Uplift over the baseline", "–", "the baseline has too few runs with a result");
  return figure("Uplift over the baseline", gainOf(name, by), `${level(by)} ${gainInterval(name, by)}`, wider ? `on new images ${gainInterval(name, wider)}` : null);
}

function optimism({ objective: { metric: name }, optimism: by }) {
  if (!by) return null;
  return figure("Optimism of the search", gain(name, by.value), `its best, trial ${by.trial}, looked like ${metric(name, by.searched)} and is ${metric(name, by.confirmed)}`,
    by.value <= 0 ? "it did not flatter" : by.chosen > 0 ? `${gain(name, by.chosen).slice(1)} of it were luck of the draw` : "none of it was luck of the draw");
}

function helped({ helped: word }) {
  return word ? figure("Did tuning help?", ...HELPED[word]) : null;
}

// Nothing before the last run: until then each run would move them.
export function worthFigures(verdict) {
  if (!verdict?.expected || verdict.state === "running") return [];
  return [expected(verdict), elsewhere(verdict), uplift(verdict), optimism(verdict), helped(verdict)].filter(Boolean);
}
