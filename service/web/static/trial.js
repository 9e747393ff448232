// The page of one trial. It reads the trial again after events of the trial or its study, and after a new best trial.

import { cancelTrial, getMetrics, getStudy, getTrial } from "./api.js";
import { at, byId, el, pathParts } from "./dom.js";
import { follow } from "./live.js";
import { examples } from "./measures.js";
import { paceDetail } from "./pace.js";
import { confirmed, showNotice, statePill } from "./parts.js";
import { renew } from "./renew.js";
import { drawingOf, sections } from "./reports.js";
import { metricCharts } from "./trial/charts.js";
import { afterReport, withReports } from "./trial/course.js";
import { evidencePanel } from "./trial/evidence.js";
import { trialFigures } from "./trial/figures.js";
import { trialLog } from "./trial/log.js";
import { parametersTable } from "./trial/parameters.js";
import { attemptsTable, checkpointsTable, environmentFacts, facts, instant } from "./trial/record.js";
import { confirms, testScores } from "./trial/scores.js";
import { hasEnded, origin, standing } from "./trial/story.js";

const [, studyPart, , numberPart] = pathParts();
const key = decodeURIComponent(studyPart);
const number = Number(numberPart);
const AGAIN_MILLISECONDS = 2000; // after a failed read
const TICK_MILLISECONDS = 1000;
const BASELINE = 0; // number of the baseline trial, if the study has one
const CLOSED = ["complete", "stopped", "failed"]; // states in which a study accepts no more trials

let study = null;
let trial = null;
let rows = [];
let drawing = null; // the task's module
let reports = /** @type {any[] & { drawing?: object }} */ ([]); // panels of the task's module
let baseline = null; // the study's baseline trial, if it is not this trial
let seen = 0; // the last event included in all of the data above
let frame = null;
let reading = Promise.resolve();
const charts = metricCharts(byId("metrics"));
const log = trialLog(byId("log"), key, number);

const studyAddress = (rest = "") => at(`/studies/${encodeURIComponent(key)}${rest}`);
const trialAddress = (other) => studyAddress(`/trials/${other}`);

async function readBaseline() {
  if (number === BASELINE) return;
  const found = await getTrial(key, BASELINE);
  baseline = found.source === "baseline" ? found : null;
}

async function readAll() {
  study = await getStudy(key); // read first, so that later events cover every change after this read
  [trial, { rows }, drawing] = await Promise.all([getTrial(key, number), getMetrics(key, number), drawingOf(study.task), baseline && hasEnded(baseline) ? null : readBaseline()]);
  seen = Math.max(seen, study.seq);
}

const showFigures = () => byId("figures").replaceChildren(...trialFigures(study, trial, baseline));

function showActions() {
  const best = study.best && study.best.number !== number ? study.best.number : null;
  const rival = best ?? (baseline ? BASELINE : null);
  const one = (other) => `trial=${encodeURIComponent(`${study.name}:${other}`)}`;
  byId("compare").hidden = rival === null;
  if (rival !== null) {
    byId("compare").href = at(`/compare?${one(number)}&${one(rival)}`);
    byId("compare").textContent = best === null ? "Compare with the baseline" : "Compare with the best";
  }
  byId("again").hidden = CLOSED.includes(study.state) || study.phase === "running"; // the search is complete
  byId("again").href = studyAddress(`?queue=${number}`);
  byId("cancel").hidden = hasEnded(trial);
}

function showNeighbours() {
  for (const [id, other] of /** @type {[string, number][]} */ ([["previous", number - 1], ["next", number + 1]])) {
    const there = other >= 0 && other < study.created;
    byId(id).hidden = !there;
    if (there) byId(id).href = trialAddress(other);
  }
}

function showHead() {
  document.title = `Trial ${number} · ${study.name} · Thawline`;
  byId("study").textContent = study.name;
  byId("study").href = studyAddress();
  byId("state").replaceChildren(statePill(trial.state));
  byId("why").textContent = standing(study, trial);
  byId("origin").replaceChildren(...(confirms(trial, trialAddress) ?? [origin(trial)]), " · ", trial.duplicate_of === null ? "" : el("a", { href: trialAddress(trial.duplicate_of) }, `as trial ${trial.duplicate_of}`), trial.duplicate_of === null ? "" : " · ", "queued ", instant(trial.queued_at));
}

function showParameters() {
  const others = [];
  if (study.best && study.best.number !== number) others.push({ title: `Best (trial ${study.best.number})`, params: study.best.params });
  if (baseline && study.best?.number !== BASELINE) others.push({ title: "Baseline", params: baseline.params });
  renew(byId("parameters"), [trial.params, others], () => parametersTable(trial.params, others));
}

function showEvidence() {
  const evidence = trial.state === "pruned" ? trial.result.evidence ?? null : null;
  byId("pruned").hidden = evidence === null;
  renew(byId("evidence"), evidence, () => (evidence === null ? [] : evidencePanel(study, key, evidence)));
}

const showPace = () => renew(byId("pace"), [trial.reuse, trial.pace], () => paceDetail(trial, study, drawing));

// The report, which arrives at the trial's end.
function showReports() {
  if (reports.drawing !== drawing) {
    reports = Object.assign(sections(drawing.panels), { drawing });
    byId("report").replaceChildren(...reports.map(({ section }) => section));
  }
  for (const { panel, node } of reports) renew(node, [trial.state, trial.attempt, study.checked], () => [panel.draw(trial.result, study)]);
}

function showRecord() {
  showReports();
  byId("scores-panel").hidden = !trial.result.test;
  byId("scores-title").textContent = `Test ${examples(study)}`;
  renew(byId("scores"), [trial.result.test, trial.metrics], () => testScores(trial, study, drawing));
  renew(byId("attempts"), [trial.attempts, trial.state], () => attemptsTable(trial));
  renew(byId("checkpoints"), trial.checkpoints, () => checkpointsTable(trial.checkpoints));
  showPace();
  const { seed, worker, started_at: started, finished_at: ended, result: { environment } } = trial;
  renew(byId("environment"), [seed, worker, started, ended, environment], () => [
    facts([["Seed", String(seed)], ["Worker", worker], ["Started", started && instant(started)], ["Ended", ended && instant(ended)]]), environmentFacts(environment)]);
}

function show() {
  showHead();
  showNeighbours();
  showActions();
  showFigures();
  showEvidence();
  showParameters();
  charts.draw(study, rows);
  showRecord();
  log.show(trial.attempts);
}

// Redraws the parts that a report changes, at most once for each animation frame.
function drawReport() {
  frame ??= requestAnimationFrame(() => {
    frame = null;
    showFigures();
    charts.draw(study, rows);
    showPace();
  });
}

const better = (value) => value != null && (study.best === null || (study.spec.objective.direction === "maximize" ? value > study.best.value : value < study.best.value));

// Applies an event. Returns whether the trial must be read again.
function asksForReading(event) {
  if (event.number === undefined) return true; // an event of the study
  if (event.number !== number) {
    study.created = Math.max(study.created, event.number + 1);
    return event.kind === "trial_completed" && (better(event.value) || event.number === baseline?.number);
  }
  if (event.kind === "trial_logged") return false;
  const after = afterReport(trial, event);
  if (after === null) return true;
  trial = after;
  rows = withReports(rows, event.reports);
  return false;
}

async function update(events) {
  const fresh = events.filter((event) => event.seq > seen);
  // Log events are not filtered by `seen`: a read of the trial does not include its log.
  for (const event of events) if (event.number === number && event.kind === "trial_logged") log.grown(event);
  const due = fresh.map(asksForReading).some(Boolean);
  seen = Math.max(seen, ...fresh.map((event) => event.seq));
  if (due) await refresh();
  else if (fresh.some((event) => event.number === number)) drawReport();
  else showNeighbours();
}

// Reads run one after another, so that an older response never replaces a newer one.
function refresh() {
  reading = reading.then(async () => {
    try {
      await readAll();
      show();
      showNotice(byId("notice"), null);
    } catch (error) {
      showNotice(byId("notice"), error.status === 404 ? "This study was deleted." : error.message);
      if (error.status !== 404) setTimeout(refresh, AGAIN_MILLISECONDS);
    }
  });
  return reading;
}

async function cancel() {
  const text = hasEnded(trial) ? "" : trial.state === "running" ? "Its run is stopped without a result. Reported metrics are kept." : "It will not be started.";
  if (!(await confirmed({ title: `Cancel trial ${number}?`, text, action: "Cancel the trial", danger: true }))) return;
  try {
    await cancelTrial(key, number);
    await refresh();
  } catch (error) {
    showNotice(byId("notice"), error.message);
  }
}

function showLive(state) {
  byId("live").textContent = { live: "live", waiting: "reconnecting", ended: "ended" }[state];
  byId("live").className = `live ${state === "live" ? "on" : state}`;
}

async function start() {
  await readAll();
  show();
  byId("content").hidden = false;
  follow(key, seen, update, showLive);
  setInterval(() => trial.state === "running" && !document.hidden && showFigures(), TICK_MILLISECONDS);
}

byId("number").textContent = `Trial ${numberPart}`;
byId("study").textContent = key;
byId("study").href = studyAddress();
byId("cancel").addEventListener("click", cancel);
start().catch((error) => {
  showLive("ended");
  showNotice(byId("notice"), error.message);
});
