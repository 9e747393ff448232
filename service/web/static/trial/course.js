// A trial as its events change it: reports bring what they change with them, all else is read.

import { paceTold } from "../pace.js";

const number = (value) => (typeof value === "number" ? value : null); // words stand for what is not finite
const numbers = (metrics) => Object.fromEntries(Object.entries(metrics).map(([name, value]) => [name, number(value)]));

// The rows of metrics, by step, with those of the reports in place of older ones of their steps.
export function withReports(rows, reports) {
  const known = new Map(rows.map((row) => [row.step, row]));
  for (const { step, metrics } of reports) known.set(step, { step, metrics: { ...known.get(step)?.metrics, ...numbers(metrics) } });
  return [...known.values()].sort((one, other) => one.step - other.step);
}

// The trial with the event of a report applied; null when the event is none, or does not bring all that it changed.
export function afterReport(trial, event) {
  if (event.kind !== "trial_reported" || trial.state !== "running" || event.attempt !== trial.attempt || !event.reports.length) return null;
  const told = event.pace;
  if (told && !trial.pace && !trial.reuse) return null; // what the run reuses may have come with it
  return {
    ...trial,
    step: event.step,
    metrics: numbers(event.metrics),
    pace: told ? paceTold(told) : trial.pace,
    reuse: told && trial.reuse ? { ...trial.reuse, saved_seconds: told.saved_seconds ?? null } : trial.reuse,
  };
}

// [step, value or null] of each step that has the metric.
export const pointsOf = (rows, name) => rows.filter((row) => Object.hasOwn(row.metrics, name)).map((row) => [row.step, row.metrics[name]]);

// Names of all metrics that some row has.
export const namesOf = (rows) => [...new Set(rows.flatMap((row) => Object.keys(row.metrics)))];
