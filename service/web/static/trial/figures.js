// Key figures of a trial: value with its difference from the best and the baseline, epochs, time, speed, memory.

import { el } from "../dom.js";
import { bytes, count, duration, elapsed, metric } from "../format.js";
import { capital, examples, objectiveOf } from "../measures.js";
import { inUse } from "../pace.js";
import { difference } from "./difference.js";
import { epochsOf, hasEnded } from "./story.js";

const figure = (name, value, note) => el("div", { class: "figure" }, el("span", { class: "label" }, name), el("span", { class: "value" }, value), el("span", { class: "note" }, note));

function valueNote(measure, best, trial, baseline, value) {
  const beside = best?.number === trial.number ? "★ the best so far" : difference(measure, value, best?.value, "the best");
  const notes = [beside, baseline?.state === "complete" ? difference(measure, value, baseline.value, "the baseline") : null].filter(Boolean);
  return notes.length ? notes.map((note) => el("span", { class: "line" }, note)) : "after its last epoch";
}

// For a trial of the confirmation, the value on the test examples.
function scoreFigure(study, measure, trial, value) {
  const test = trial.result.test?.metrics[measure.name];
  return figure(`${measure.name} on the test ${examples(study)}`, metric(measure, test), `${metric(measure, value)} on the validation ${examples(study)}`);
}

function speedFigure(study, trial) {
  const { samples_per_second: speed, seconds_left: left } = trial.pace ?? {};
  const notes = [left == null ? "over the last epoch" : `${duration(1000 * left)} left`, inUse(trial)];
  return figure(`${capital(examples(study))} a second`, speed == null ? "–" : count(Math.round(speed)), notes.filter(Boolean).join(", "));
}

function memoryFigure(trial) {
  const { peak_memory: peak, device_memory: needed } = trial.result;
  const now = trial.pace?.memory;
  const where = trial.result.environment?.accelerator === "cuda" ? "of the GPU" : "of the process";
  const notes = needed == null ? `peak, ${where}` : ["peak of the run's tensors on the GPU", `about ${bytes(needed)} of the GPU needed`].map((note) => el("span", { class: "line" }, note));
  if (peak != null && hasEnded(trial)) return figure("Memory", bytes(peak), notes);
  return figure("Memory", now == null ? "–" : bytes(now), now == null ? "not reported" : hasEnded(trial) ? `at its last report, ${where}` : `at present, ${where}`);
}

const attempts = ({ attempt }) => (attempt > 1 ? `${attempt} attempts` : attempt ? "one attempt" : "not started");

// `baseline`: the study's baseline trial, or null if it is this trial or does not exist.
export function trialFigures(study, trial, baseline) {
  const measure = objectiveOf(study);
  const { name } = measure;
  const value = trial.value ?? trial.metrics[name] ?? null;
  const whole = epochsOf(study, trial);
  return [
    trial.confirms == null ? figure(name, metric(measure, value), value === null ? "no value" : valueNote(measure, study.best, trial, baseline, value)) : scoreFigure(study, measure, trial, value),
    figure("Epochs", whole ? `${trial.step} / ${whole}` : String(trial.step), attempts(trial)),
    figure("Time", trial.started_at ? elapsed(trial.started_at, trial.finished_at) : "–", trial.started_at ? "since its first start" : "not started"),
    speedFigure(study, trial), memoryFigure(trial),
  ];
}
