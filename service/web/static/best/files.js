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

const OF_MODELS = ["python", "card", "requirements"];

// The formats that the study's task supports; all formats before the study is read.
export function offered(study) {
  if (study?.task.external) return NAMES.filter((name) => !OF_MODELS.includes(name));
  return NAMES.filter((name) => name !== "python" || !study || study.task.script_needs !== null);
}

export function chosenFormat(study) {
  const asked = new URLSearchParams(location.search).get("format");
  return offered(study).includes(asked) ? asked : "yaml";
}

export async function readText(key, format) {
  const answer = await fetch(bestAddress(key, format));
  if (!answer.ok) throw new Error((await answer.json().catch(() => ({}))).detail ?? "The server does not answer.");
  return answer.text();
}

// Whether a script is one without Thawline: only those describe in their first lines how torchrun runs them.
const usesTorchrun = (script) => /^ {4}torchrun /m.test(script);

// The commands that use the files: [name, command line, explanation]. `code`: the text of the script, empty if the task has none.
export function commands(study, format, confirmed, code) {
  const configuration = fileName(study, format === "json" ? "json" : "yaml");
  const script = fileName(study, "python");
  if (study.task.external) {
    const { workdir } = study.spec;
    return [
      ["train", `thaw train ${configuration} --out trained --allow-scripts ${workdir}`, "Runs the script with these parameters and the trial's seed, if its files are unchanged, and compares the result with the stated metric."],
      confirmed ? ["verify", `thaw verify ${configuration} --allow-scripts ${workdir}`, "Runs it with a new seed and checks whether the metric is within the stated interval."] : null,
    ].filter(Boolean);
  }
  return [
    ["train", `thaw train ${configuration} --out model`, "Trains with this file, on the same data and split, and compares the result with the stated metric. Writes a model card next to the model."],
    confirmed ? ["verify", `thaw verify ${configuration}`, "Trains again with a new seed and checks whether the metric is within the stated interval."] : null,
    study.task.script_needs === null ? null : ["script", `python ${script}`, usesTorchrun(code)
      ? `Trains from one file, which requires only ${study.task.script_needs}.`
      : "Trains from one file, which uses Thawline; its first lines state the reason."],
    usesTorchrun(code) ? ["torchrun", `torchrun --nproc-per-node 4 ${script}`, "Runs the script on several GPUs; each batch is split among them."] : null,
  ].filter(Boolean);
}
