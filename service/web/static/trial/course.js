// Applies report events to a trial. All other changes are read from the server.

import { paceOf } from "../pace.js";

const number = (value) => (typeof value === "number" ? value : null); // values that are not finite arrive as strings
const numbers = (metrics) => Object.fromEntries(Object.entries(metrics).map(([name, value]) => [name, number(value)]));

// The rows of metrics by step, updated with the reports.
export function withReports(rows, reports) {
  const known = new Map(rows.map((row) => [row.step, row]));
  for (const { step, metrics } of reports) known.set(step, { step, metrics: { ...known.get(step)?.metrics, ...numbers(metrics) } });
  return [...known.values()].sort((one, other) => one.step - other.step);
}

// The trial after a report event; null if the event is not a report or does not contain all changes.
export function afterReport(trial, event) {
  if (event.kind !== "trial_reported" || trial.state !== "running" || event.attempt !== trial.attempt || !event.reports.length) return null;
  const reported = event.pace;
  if (reported && !trial.pace && !trial.reuse) return null; // with the first pace, `reuse` may have been reported too, which the event lacks
  return {
    ...trial,
    step: event.step,
    metrics: numbers(event.metrics),
    pace: reported ? paceOf(reported) : trial.pace,
    reuse: reported && trial.reuse ? { ...trial.reuse, saved_seconds: reported.saved_seconds ?? null } : trial.reuse,
  };
}

// The points of a metric: [step, value or null].
export const pointsOf = (rows, name) => rows.filter((row) => Object.hasOwn(row.metrics, name)).map((row) => [row.step, row.metrics[name]]);

// Names of all metrics in the rows.
export const namesOf = (rows) => [...new Set(rows.flatMap((row) => Object.keys(row.metrics)))];
