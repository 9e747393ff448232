// Page module of tasks with images as input: facts about the images, and the form for a new study.

import { getModel, listModels } from "../api.js";
import { el } from "../dom.js";
import { count, plural } from "../format.js";

const MOST_EXAMPLES = 3;

const NORMALISATION_SOURCES = {
  study: "stated by the study",
  weights: "belongs to these published weights",
  metadata: "stated in the weights file",
  assumed: "assumed: ImageNet's, because the weights file does not state its own; set model.mean and model.std if it was trained with others",
  default: "ImageNet's",
};
const PIXELS = { decoded: "decoded by this run", cached: "read from the cache", streamed: "streamed, too large for the cache" };

function normalisation({ mean, std, source }) {
  return `mean ${mean.join(", ")}; standard deviation ${std.join(", ")} (${NORMALISATION_SOURCES[source]})`;
}

// Near-duplicates: images with different files and nearly the same content.
function nearDuplicates({ groups, images, crossing, mixed, examples, across = 0 }) {
  if (!groups) return "none found";
  const apart = crossing ? ` ${count(crossing)} would have been divided.` : "";
  const named = examples.slice(0, MOST_EXAMPLES).map((names) => names.join(" = "));
  return [
    el("p", {}, `${plural(images, "image", "images")} in ${plural(groups, "group", "groups")}${across ? "" : ", each kept in one part of the split"}.${apart}`),
    across ? el("p", { class: "fault" }, `${plural(across, "group has", "groups have")} images in several parts of the data's own split and ${across === 1 ? "was" : "were"} not moved: scores may look better than they are.`) : null,
    mixed ? el("p", { class: "fault" }, `${plural(mixed, "group has", "groups have")} more than one label: one of the images may have a wrong label.`) : null,
    named.length ? el("details", { class: "disclosure" }, el("summary", {}, "Examples"), el("ul", { class: "examples" }, named.map((names) => el("li", { class: "mono" }, names)))) : null,
  ];
}

// Defaults and texts of the form for a new study; `paths` by the target.
export const form = {
  first: { model: { name: "resnet18", weights: "DEFAULT" } },
  paths: {
    classes: "a folder with one folder of images for each class, or a CSV file with the columns path and label",
    numbers: "a CSV file with the columns path and target, a number in each row",
    labels: "a CSV file with the columns path and target, the target being label names joined by |",
  },
  weights: "a .safetensors, .pt or .pth file, or the name of torchvision weights, which a worker downloads",
  models: async () => (await listModels()).models,
  model: getModel,
};

// Rows of the panel "Data and model": [name, content].
export function facts({ facts: known }) {
  return [
    ...(known.normalisation ? [["Normalisation", normalisation(known.normalisation)]] : []),
    ...(known.near_duplicates ? [["Near-duplicates", nearDuplicates(known.near_duplicates)]] : []),
  ];
}

// Unused files that the listing does not name, one row for each reason.
export function leftOut({ unreadable }) {
  return unreadable ? [{ reason: "cannot be read as an image", ...unreadable }] : [];
}

// Rows on the work that a run shares with others.
export function reuse({ pixels }) {
  return [["Pixels", PIXELS[pixels] ?? pixels]];
}
