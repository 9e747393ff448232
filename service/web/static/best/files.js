// The configuration in its forms: what each is for, its text, and the name it is saved under.

import { bestAddress } from "../api.js";

export const FORMATS = {
  yaml: { label: "YAML", end: "-best.yaml" },
  json: { label: "JSON", end: "-best.json" },
  python: { label: "Python script", end: "-train.py" },
  card: { label: "Model card", end: "-card.md" },
  requirements: { label: "Requirements", end: "-requirements.txt" },
};
export const NAMES = Object.keys(FORMATS);

const stem = (study) => study.name.replace(/[^A-Za-z0-9_-]+/g, "-").replace(/^-+|-+$/g, "").slice(0, 60) || study.id;

export const fileName = (study, format) => `${stem(study)}${FORMATS[format].end}`;

// Those that the task of the study has; a study that is not read yet has all.
export const offered = (study) => NAMES.filter((name) => name !== "python" || !study || study.task.script_needs !== null);

export function chosenFormat(study) {
  const asked = new URLSearchParams(location.search).get("format");
  return offered(study).includes(asked) ? asked : "yaml";
}

export async function readText(key, format) {
  const answer = await fetch(bestAddress(key, format));
  if (!answer.ok) throw new Error((await answer.json().catch(() => ({}))).detail ?? "The server does not answer.");
  return answer.text();
}

// The lines that use them, each with what it does.
export function commands(study, format, confirmed) {
  const configuration = fileName(study, format === "json" ? "json" : "yaml");
  const script = fileName(study, "python");
  return [
    ["train", `thaw train ${configuration} --out model`, "Trains with the file above, on the same data and split, and compares what it reaches with what is stated. Writes a model card beside the model."],
    confirmed ? ["verify", `thaw verify ${configuration}`, "Trains again with a fresh seed and says whether the metric falls within the stated interval."] : null,
    ...(study.task.script_needs === null ? [] : [
      ["script", `python ${script}`, `The same without Thawline: the script needs ${study.task.script_needs} alone.`],
      ["torchrun", `torchrun --nproc-per-node 4 ${script}`, "The script on several GPUs: each batch is divided among them."],
    ]),
  ].filter(Boolean);
}
