// The formats of the exported configuration: labels, texts, file names and commands.

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

// The formats that the study's task supports; all formats before the study is read.
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

// The commands that use the files: [name, command line, explanation].
export function commands(study, format, confirmed) {
  const configuration = fileName(study, format === "json" ? "json" : "yaml");
  const script = fileName(study, "python");
  return [
    ["train", `thaw train ${configuration} --out model`, "Trains with this file, on the same data and split, and compares the result with the stated metric. Writes a model card next to the model."],
    confirmed ? ["verify", `thaw verify ${configuration}`, "Trains again with a new seed and checks whether the metric is within the stated interval."] : null,
    ...(study.task.script_needs === null ? [] : [
      ["script", `python ${script}`, `Trains from one file. It requires only ${study.task.script_needs}, or says at its top why it uses Thawline.`],
      ["torchrun", `torchrun --nproc-per-node 4 ${script}`, "Runs a script without Thawline on several GPUs; each batch is split among them."],
    ]),
  ].filter(Boolean);
}
