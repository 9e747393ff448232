// One study, live: its state, progress, best configuration and trials.

import { bestAddress, changeStudy, getStudy, getTrial, listTrials } from "./api.js";
import { history } from "./chart.js";
import { byId, el, reconcile } from "./dom.js";
import { ago, count, elapsed, metric, scalar } from "./format.js";
import { follow } from "./live.js";
import { finishedTrials, progressBar, showNotice, statePill } from "./parts.js";
import { trialRow } from "./trials.js";

const key = decodeURIComponent(location.pathname.split("/")[2]);
const ROWS = 100;
const FEW = 20; // so many changed trials are read one by one; more are read by the page
const TICK_MILLISECONDS = 1000;

const trials = new Map(); // number → trial
let study = null;
let shown = ROWS;

async function readTrials() {
  for (let after = null, more = true; more; ) {
    const page = await listTrials(key, after);
    for (const trial of page.trials) trials.set(trial.number, trial);
    after = page.next;
    more = after !== null;
  }
}

async function readChanges(numbers) {
  if (numbers.length > FEW) await readTrials();
  else for (const trial of await Promise.all(numbers.map((number) => getTrial(key, number)))) trials.set(trial.number, trial);
}

function figure(name, value, note) {
  return el("div", { class: "figure" }, el("span", { class: "label" }, name), el("span", { class: "value" }, value), note);
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
    await refresh([]);
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

function showTrials(ordered) {
  const rows = inOrder([...ordered]).slice(0, shown).map((trial) => trialRow(study, trial));
  const empty = el("tr", { "data-key": "empty", "data-print": "empty" }, el("td", { colspan: 7, class: "quiet" }, "No trial yet. A worker starts the first one when it has checked the data."));
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

async function refresh(numbers) {
  try {
    const [latest] = await Promise.all([getStudy(key), readChanges(numbers)]);
    study = latest;
    show();
  } catch (error) {
    showNotice(byId("notice"), error.status === 404 ? "This study was deleted." : error.message);
  }
}

function showLive(word) {
  byId("live").textContent = { live: "live", waiting: "connecting again", ended: "ended" }[word];
  byId("live").className = `live ${word === "live" ? "on" : word}`;
}

async function start() {
  study = await getStudy(key);
  await readTrials();
  show();
  follow(key, study.seq, refresh, showLive);
  setInterval(() => study.finished_at || document.hidden || showFigures(), TICK_MILLISECONDS);
}

byId("order").addEventListener("change", () => study && show());
byId("more").addEventListener("click", () => {
  shown += ROWS;
  show();
});
start().catch((error) => {
  byId("name").textContent = key;
  showLive("ended");
  showNotice(byId("notice"), error.message);
});
