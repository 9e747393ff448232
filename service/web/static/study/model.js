// The page's data of a study and its trials: read completely once, then updated by events and by reading changes.

import { getStudy, getTable } from "../api.js";
import { measureIn } from "../measures.js";
import { decode } from "../table.js";

const SILENT = ["trial_saved", "trial_logged"]; // events that this page does not show

const finite = (metrics) => Object.fromEntries(Object.entries(metrics).map(([name, value]) => [name, typeof value === "number" ? value : null]));

// The changing data of the section on data and model; notices depend on the budget.
const foundOf = ({ checked, notices, unavailable }) => JSON.stringify([checked, notices, unavailable]);

export class Model {
  constructor(key) {
    this.key = key;
    this.study = null;
    this.found = { facts: null, majority: null, notes: [], sizes: null }; // about the data
    this.trials = []; // by number
    this.seen = 0; // the last event included in the data
    this.readAt = 0; // milliseconds
    this.version = 0; // incremented when a read changes a trial or the facts about the data, and when an event adds a trial
    this.metrics = [];
    this.drawing = null; // the task's module, once it is loaded
    this.verdict = null; // the latest verdict of the confirmation
    this.sorted = null;
    this.repeats = new Set(); // numbers of the confirmation's trials, which are not part of this model
  }

  // `first`: a response with all trials that was requested earlier.
  async read(first = null) {
    for (let more = true; more; first = null) {
      const answer = await (first ?? getTable(this.key, this.seen));
      const changed = decode(answer);
      for (const trial of changed) this.trials[trial.number] = trial;
      const before = this.study;
      for (const name of answer.metrics) if (!this.metrics.includes(name)) this.metrics.push(name);
      this.study = { ...answer.study, ...this.found };
      ({ seq: this.seen, more } = answer);
      if (changed.length || !before || foundOf(before) !== foundOf(this.study)) this.touch();
    }
    if (this.study.checked && !this.found.facts) { // these fields are not part of the table's response, and never change
      const { facts, majority, notes, sizes } = await getStudy(this.key);
      this.found = { facts, majority, notes, sizes };
      Object.assign(this.study, this.found);
      this.touch(); // the page may have been drawn during the read
    }
    this.readAt = Date.now();
  }

  touch() {
    this.version += 1;
    this.sorted = null;
  }

  // All trials by number.
  list() {
    this.sorted ??= this.trials.filter(Boolean);
    return this.sorted;
  }

  get objective() {
    return this.study.spec.objective;
  }

  measureOf(name) {
    return measureIn(this.study, name);
  }

  get measure() {
    return this.measureOf(this.objective.metric);
  }

  // Parameters of the search space in its order, then parameters that only trials have.
  get parameters() {
    if (this.names?.version !== this.version) {
      const names = new Set(Object.keys(this.study.spec.search_space));
      for (const trial of this.list()) for (const name in trial.params) names.add(name);
      this.names = { version: this.version, all: [...names] };
    }
    return this.names.all;
  }

  // All reported metrics, the objective first.
  get metricNames() {
    return [this.objective.metric, ...this.metrics.filter((name) => name !== this.objective.metric)];
  }

  get baseline() {
    const trial = this.list().find((one) => one.source === "baseline");
    return trial?.state === "complete" && trial.value != null ? trial : null;
  }

  get best() {
    return this.study.best ? (this.trials[this.study.best.number] ?? null) : null;
  }

  // Negative if the left value is better.
  compare(left, right) {
    return this.objective.direction === "maximize" ? right - left : left - right;
  }

  // Whether the event is about a trial of the confirmation: by its `source`, or, for a trial that started before the page was opened, because the table has no trial of its number.
  ofConfirmation({ kind, number, source }) {
    if (number === undefined || this.repeats.has(number)) return number !== undefined;
    const confirms = source === undefined ? this.study.phase === "running" && !this.trials[number] && kind !== "trial_queued" : source === "confirmation";
    if (confirms) this.repeats.add(number);
    return confirms;
  }

  // Applies an event. Returns whether the data is now up to date; if not, the changes must be read.
  apply(event) {
    if (event.seq <= this.seen || SILENT.includes(event.kind)) return true;
    if (event.kind === "trial_reported") return this.report(event);
    if (["trial_queued", "trial_started"].includes(event.kind)) this.appear(event);
    return false;
  }

  report(event) {
    const trial = this.trials[event.number];
    if (trial?.state !== "running") return false;
    const metrics = finite(event.metrics);
    for (const name in metrics) if (!this.metrics.includes(name)) this.metrics.push(name);
    const speed = event.pace ? event.pace.samples_per_second : trial.samples_per_second;
    this.put({ ...trial, step: event.step, metrics: { ...trial.metrics, ...metrics }, samples_per_second: speed });
    return true;
  }

  // Adds a new trial from its event, without a read.
  appear({ kind, at, number, params, source = "sampler", worker = null, step = 0 }) {
    if (!params || this.trials[number]?.finished_at) return;
    const known = this.trials[number] ?? {
      number, value: null, attempt: 1, duplicate_of: null, reason: null, detail: null, queued_at: 1000 * at, started_at: null, finished_at: null,
      metrics: {}, spared_seconds: null, samples_per_second: null,
    };
    const running = kind === "trial_started";
    this.put({ ...known, params, source, worker, step, state: running ? "running" : "queued", started_at: running ? (known.started_at ?? 1000 * at) : known.started_at });
    this.touch();
  }

  put(trial) {
    this.trials[trial.number] = trial;
    this.sorted = null;
  }
}
