// Notes on trials, and the URLs of their pages.

import { at } from "./dom.js";

const REASONS = {
  out_of_memory: "ran out of memory", diverged: "diverged", crashed: "crashed", timeout: "took too long", bad_data: "bad data",
  script_error: "script error", metric_missing: "metric missing", lost: "its worker was lost", infeasible: "cannot be trained with these parameters",
};

// The reason of the trial's end, or else its origin.
export function note(trial) {
  if (trial.duplicate_of != null) return `same as trial ${trial.duplicate_of}, not trained again`;
  if (trial.reason) return [REASONS[trial.reason] ?? trial.reason, trial.detail].filter(Boolean).join(": ");
  if (trial.detail) return trial.detail;
  if (trial.attempt > 1) return `attempt ${trial.attempt}`;
  return { baseline: "baseline", user: "queued by hand" }[trial.source] ?? "";
}

// The trial's value, or else the last reported value of the objective.
export const current = (trial, objective) => trial.value ?? trial.metrics[objective] ?? null;

export const trialAddress = (study, number) => at(`/studies/${encodeURIComponent(study)}/trials/${number}`);
