// One study, live: its state, progress, best configuration and trials.

import { bestAddress, changeStudy, getChanges } from "./api.js";
import { history } from "./chart.js";
import { byId, el, reconcile } from "./dom.js";
import { ago, count, duration, elapsed, metric, scalar } from "./format.js";
import { follow } from "./live.js";
import { paceRow, paceTold } from "./pace.js";
import { finishedTrials, progressBar, showNotice, statePill } from "./parts.js";
import { trialRow } from "./trials.js";

const key = decodeURIComponent(location.pathname.split("/")[2]);
const ROWS = 100;
const COLUMNS = 7;
const TICK_MILLISECONDS = 1000;
const STALE_MILLISECONDS = 2000; // while there are only reports, the study is read no more often
const SILENT = ["trial_saved", "trial_logged"]; // nothing of them is on this page
const ENDED = ["complete", "stopped", "failed"];

const trials = new Map(); // number → trial
const opened = new Set(); // numbers of the trials whose speed is shown
let study = null;
let seen = 0; // the last event that is in `study` and `trials`
let readAt = 0; // milliseconds
let shown = ROWS;
let frame = null;
let later = null; // a reading that is due
let reading = Promise.resolve();

async function readChanges() {
  for (let more = true; more; ) {
    const answer = await getChanges(key, seen);
    for (const trial of answer.trials) trials.set(trial.number, trial);
    ({ study, seq: seen, more } = answer);
  }
  readAt = Date.now();
}

// Whether the page is up to date with the event: a report brings what it changes with it, all else is read.
function apply(event) {
  if (event.seq <= seen || SILENT.includes(event.kind)) return true;
  const trial = trials.get(event.number);
  if (event.kind !== "trial_reported" || trial?.state !== "running") return false;
  const metrics = Object.fromEntries(Object.entries(event.metrics).map(([name, value]) => [name, typeof value === "number" ? value : null]));
  const pace = event.pace ? paceTold(event.pace) : trial.pace;
  trials.set(trial.number, { ...trial, step: event.step, metrics, pace });
  return true;
}

function figure(name, value, note) {
  return el("div", { class: "figure" }, el("span", { class: "label" }, name), el("span", { class: "value" }, value), note);
}

function savings({ features_seconds: features, duplicates_seconds: duplicates }) {
  const parts = [[features, "by stored outputs"], [duplicates, "by duplicates"]].filter(([value]) => value >= 1);
  return { total: parts.reduce((sum, [value]) => sum + value, 0), words: parts.map(([value, by]) => `${duration(1000 * value)} ${by}`).join(", ") };
}

function timeFigure() {
  const { total, words } = savings(study.saved);
  if (ENDED.includes(study.state)) return figure("Saved", total ? duration(1000 * total) : "–", el("span", { class: "note" }, words || "nothing to share"));
  const left = study.seconds_left == null ? "–" : duration(1000 * study.seconds_left - (Date.now() - readAt));
  return figure("Time left", left, el("span", { class: "note", title: words || null }, total ? `${duration(1000 * total)} saved` : "nothing saved yet"));
}

function showFigures() {
  const { counts, budget, best, spec } = study;
  const done = finishedTrials(counts);
  const share = budget.trials ? `${count(done)} / ${count(budget.trials)}` : count(done);
  const failed = counts.failed ? `${count(counts.failed)} failed` : "none failed";
  byId("figures").replaceChildren(
    figure(`Best ${spec.objective.metric}`, best ? metric(spec.objective.metric, best.value) : "–", el("span", { class: "note" }, best ? `trial ${best.number}` : "no trial is complete yet")),
    figure("Trials done", share, progressBar(study)),
    figure("Running", count(counts.running), el("span", { class: "note" }, `${count(counts.queued)} queued`)),
    figure("Pruned early", count(counts.pruned), el("span", { class: "note" }, failed)),
    figure("Elapsed", elapsed(study.started_at ?? study.created_at, study.finished_at), el("span", { class: "note" }, budget.hours ? `of ${budget.hours} h` : "no time limit")),
    timeFigure(),
  );
}

const ACTIONS = { pause: ["Pause", ["active"]], resume: ["Resume", ["paused"]], stop: ["Stop", ["active", "paused"]] };

function showActions() {
  const allowed = Object.entries(ACTIONS).filter(([, [, states]]) => states.includes(study.state));
  reconcile(byId("actions"), allowed.map(([change, [label]]) =>
    el("button", { class: `button ${change}`, type: "button", "data-key": change, "data-print": label, onclick: () => act(change) }, label)));
}

async function act(change) {
  if (change === "stop" && !confirm("Stop this study for good? Running trials are cancelled.")) return;
  try {
    await changeStudy(key, change);
    await refresh();
  } catch (error) {
    showNotice(byId("notice"), error.message);
  }
}

function showHead() {
  document.title = `${study.name} · Thawline`;
  byId("name").textContent = study.name;
  byId("state").replaceChildren(statePill(study.state));
  byId("subtitle").textContent = `${study.spec.model.name} · ${study.spec.sampler.name} sampler · ${study.spec.pruner.name} pruner · created ${ago(study.created_at)}`;
  byId("metric").textContent = study.spec.objective.metric;
  showNotice(byId("notice"), study.reason);
}

function showBest() {
  const { best } = study;
  const links = ["yaml", "json"].map((format) => el("a", { href: bestAddress(key, format), download: `${study.id}-best.${format}` }, format.toUpperCase()));
  byId("best-links").replaceChildren(...(best ? links : []));
  byId("best").replaceChildren(
    best
      ? el("dl", { class: "params" }, Object.entries(best.params).map(([name, value]) => el("div", {}, el("dt", {}, name), el("dd", {}, scalar(value)))))
      : el("p", { class: "quiet" }, "It appears here with the first complete trial."),
  );
}

function showHistory(ordered) {
  const drawn = history(ordered, study.spec.objective);
  byId("history").replaceChildren(drawn ?? el("p", { class: "quiet" }, "A point for each complete trial, and the best up to it."));
  byId("history-legend").textContent = drawn ? "line: best so far" : "";
}

function ranked(list) {
  const sign = study.spec.objective.direction === "maximize" ? -1 : 1;
  const worth = (trial) => (trial.state === "complete" && trial.value != null ? sign * trial.value : Infinity);
  return list.sort((left, right) => (worth(left) === worth(right) ? left.number - right.number : worth(left) - worth(right)));
}

function inOrder(list) {
  const order = byId("order").value;
  if (order === "best") return ranked(list);
  return order === "number" ? list : list.reverse();
}

function toggle(number) {
  if (!opened.delete(number)) opened.add(number);
  draw();
}

function rowsOf(trial) {
  const open = opened.has(trial.number);
  const row = trialRow(study, trial, open, toggle);
  return open ? [row, paceRow(trial, COLUMNS)] : [row];
}

function showTrials(ordered) {
  const rows = inOrder([...ordered]).slice(0, shown).flatMap(rowsOf);
  const empty = el("tr", { "data-key": "empty", "data-print": "empty" }, el("td", { colspan: COLUMNS, class: "quiet" }, "No trial yet. A worker starts the first one when it has checked the data."));
  reconcile(byId("trials").tBodies[0], rows.length ? rows : [empty]);
  byId("more").hidden = trials.size <= shown;
}

function showFacts() {
  const { spec, facts } = study;
  const known = [
    ["Data", spec.data.path],
    ["Weights", spec.model.weights ?? "none, random initial values"],
    ["Images", facts ? Object.entries(facts.images).map(([part, size]) => `${count(size)} ${part}`).join(", ") : "checked by the first worker"],
    ["Classes", facts ? `${count(facts.classes.length)}: ${facts.classes.slice(0, 24).join(", ")}${facts.classes.length > 24 ? ", …" : ""}` : "–"],
    ["Fixed", Object.entries(spec.fixed).map(([name, value]) => `${name} ${scalar(value)}`).join(", ") || "nothing"],
  ];
  byId("facts").replaceChildren(...known.map(([name, value]) => el("div", {}, el("dt", {}, name), el("dd", {}, value))));
}

function show() {
  const ordered = [...trials.values()].sort((left, right) => left.number - right.number);
  showHead();
  showActions();
  showFigures();
  showHistory(ordered);
  showBest();
  showTrials(ordered);
  showFacts();
}

// Once a frame, however much has changed until then.
function draw() {
  frame ??= requestAnimationFrame(() => {
    frame = null;
    show();
  });
}

async function update(events) {
  if (events.filter((event) => !apply(event)).length) {
    await refresh();
  } else {
    draw();
    refreshLater(); // the study's own figures move with the reports
  }
}

// One reading after the other: an older answer never replaces a newer one.
function refresh() {
  reading = reading.then(read);
  return reading;
}

function refreshLater() {
  later ??= setTimeout(() => {
    later = null;
    refresh();
  }, STALE_MILLISECONDS);
}

async function read() {
  try {
    await readChanges();
    draw();
  } catch (error) {
    const deleted = error.status === 404;
    showNotice(byId("notice"), deleted ? "This study was deleted." : error.message);
    if (!deleted) refreshLater();
  }
}

function showLive(word) {
  byId("live").textContent = { live: "live", waiting: "connecting again", ended: "ended" }[word];
  byId("live").className = `live ${word === "live" ? "on" : word}`;
}

async function start() {
  await readChanges();
  show();
  follow(key, seen, update, showLive);
  setInterval(() => study.finished_at || document.hidden || showFigures(), TICK_MILLISECONDS);
}

byId("order").addEventListener("change", () => study && draw());
byId("more").addEventListener("click", () => {
  shown += ROWS;
  draw();
});
start().catch((error) => {
  byId("name").textContent = key;
  showLive("ended");
  showNotice(byId("notice"), error.message);
});
