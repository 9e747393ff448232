// Sentences on a trial's origin, state and end.

import { elapsed, plural } from "../format.js";

const ORIGINS = {
  sampler: "proposed by the sampler", baseline: "the baseline: the study's starting point", user: "queued by hand",
  duplicate: "proposed again by the sampler", confirmation: "trained again with a new seed",
};
const REASONS = {
  out_of_memory: "It ran out of memory", diverged: "It diverged: its loss was no longer finite", crashed: "Its process crashed",
  timeout: "It took longer than the study allows", bad_data: "The data could not be used", script_error: "The training code failed",
  metric_missing: "It ended without a value of the objective",
  lost: "Its worker was lost", infeasible: "It cannot be trained with these parameters",
};
export const ENDINGS = {
  complete: "ran to its end", pruned: "stopped by the pruner", failed: "failed", cancelled: "cancelled", released: "released by its worker",
  lost: "its worker was lost", crashed: "its process crashed",
};
const ENDED = ["complete", "pruned", "failed", "cancelled"];

export const hasEnded = (trial) => ENDED.includes(trial.state);

export const origin = (trial) => ORIGINS[trial.source] ?? trial.source;

// The number of epochs that the trial is planned to have; null if it is unknown.
export const epochsOf = (study, trial) => trial.params.epochs ?? study.spec.fixed.epochs ?? null;

function stopped(study, trial) {
  const after = `after epoch ${trial.step}`;
  const why = trial.detail ? `: ${trial.detail}` : ".";
  switch (trial.state) {
    case "complete":
      return `It completed all its ${plural(trial.step, "epoch", "epochs")} in ${elapsed(trial.started_at, trial.finished_at)}.`;
    case "pruned":
      return `The pruner stopped it ${after}${why}`;
    case "failed":
      return `${REASONS[trial.reason] ?? "It failed"}${trial.step ? ` ${after}` : ""}${why}`;
    case "cancelled":
      return `It was cancelled${trial.step ? ` ${after}` : " before its first epoch was done"}${why}`;
    case "running":
      return trial.attempt > 1 ? `It is running, in its attempt ${trial.attempt}.` : "It is running.";
    default:
      return trial.attempt ? "It waits for a worker to resume it." : "It waits for a worker.";
  }
}

// The trial's state, or the reason of its end.
export function standing(study, trial) {
  if (trial.duplicate_of === null) return stopped(study, trial);
  return hasEnded(trial)
    ? `It was not trained: trial ${trial.duplicate_of} has the same parameters, and its result was copied.`
    : `It waits for trial ${trial.duplicate_of}, which has the same parameters.`;
}
