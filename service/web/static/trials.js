// What is said of a trial in words, and where its page is.

import { at } from "./dom.js";

const REASONS = {
  out_of_memory: "ran out of memory", diverged: "diverged", crashed: "crashed", timeout: "took too long", bad_data: "bad data",
  script_error: "script error", lost: "its worker was lost", infeasible: "cannot be trained with these parameters",
};

// Why it ended as it did; else where it came from.
export function note(trial) {
  if (trial.duplicate_of != null) return `same as trial ${trial.duplicate_of}, not trained again`;
  if (trial.reason) return [REASONS[trial.reason] ?? trial.reason, trial.detail].filter(Boolean).join(": ");
  if (trial.detail) return trial.detail;
  if (trial.attempt > 1) return `attempt ${trial.attempt}`;
  return { baseline: "baseline", user: "queued by hand" }[trial.source] ?? "";
}

// The objective: the value of a trial that has one, else what it last reported.
export const current = (trial, objective) => trial.value ?? trial.metrics[objective] ?? null;

export const trialAddress = (study, number) => at(`/studies/${encodeURIComponent(study)}/trials/${number}`);
