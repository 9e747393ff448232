// The page of one study. Passes the study's data and events to the parts of the page.

import { byId } from "./dom.js";
import { follow } from "./live.js";
import { showNotice } from "./parts.js";
import { drawingOf } from "./reports.js";
import { readAddress, writeAddress } from "./study/address.js";
import { Charts } from "./study/charts.js";
import { ConfirmationPanel } from "./study/confirmation.js";
import { Controls } from "./study/controls.js";
import { Curves } from "./study/curves.js";
import { key, take } from "./study/early.js";
import { ExtendDialog } from "./study/extend.js";
import { showFigures, showHead } from "./study/head.js";
import { History, legend } from "./study/history.js";
import { Measurements } from "./study/measurements.js";
import { Model } from "./study/model.js";
import { Parallel } from "./study/parallel.js";
import { PruningPanel } from "./study/pruning.js";
import { QueueDialog } from "./study/queue.js";
import { showBest, showFacts } from "./study/summary.js";
import { Table } from "./study/table.js";

const TICK_MILLISECONDS = 1000;
const STALE_MILLISECONDS = 2000; // minimum time between two reads of the study while only reports arrive

const model = new Model(key);
const measurements = new Measurements(key);
let parts = null;
let analysis = null; // the panel of Plotly figures, loaded last
let stream = null; // the event stream
let frame = null;
let later = null; // timer of a scheduled read
let reading = Promise.resolve();

function makeParts() {
  const controls = new Controls(model, draw);
  const table = new Table(byId("trials"), model, { picked: controls.picked, sort: (column) => controls.sortBy(column), pick: (number) => controls.pick(number) });
  const setFilter = (text) => {
    byId("filter").value = text;
    controls.setFilter(text);
  };
  const queue = new QueueDialog(byId("queue-dialog"), model, refresh);
  const extend = new ExtendDialog(byId("extend-dialog"), model, commanded);
  byId("extend").addEventListener("click", () => extend.open());
  byId("queue").addEventListener("click", () => queue.open([...controls.picked][0] ?? null));
  byId("unpick").addEventListener("click", () => controls.unpick());
  const history = new History(byId("history"), model);
  const parallel = new Parallel(byId("parallel"), model, { filter: () => controls.filter, setFilter });
  const charts = new Charts(model, [
    () => showBest(model),
    () => {
      history.update();
      byId("history-legend").replaceChildren(...legend(model.study.counts));
      byId("history-empty").hidden = history.points.length > 0;
    },
    (passes, filter) => showParallel(parallel, passes, filter),
    () => showFacts(model),
    showMetrics,
    () => analysis?.update(model.study, model.parameters),
  ]);
  return {
    controls, table, queue, charts, history, parallel, curves: new Curves(byId("curves"), model, measurements),
    confirmation: new ConfirmationPanel(key, confirmedBy), pruning: new PruningPanel(key),
  };
}

// The confirmed recommendation replaces the best trial of the search.
function confirmedBy(verdict) {
  model.verdict = verdict;
  showBest(model);
}

function show() {
  showHead(model, commanded);
  parts.confirmation.update(model.study);
  parts.pruning.update(model.study);
  const chosen = parts.controls.choose();
  parts.table.show(chosen.trials, chosen.shown, chosen.order);
  parts.controls.draw(chosen.trials.length);
  if (measurements.seen !== null) parts.curves.update();
  parts.charts.due(JSON.stringify([parts.controls.filter, [...parts.controls.states]]), chosen.passes);
}

function showParallel(parallel, passes, filter) {
  parallel.update(passes, filter);
  byId("parallel-scale").hidden = !parallel.trials.length;
  byId("parallel-empty").hidden = parallel.trials.length > 0;
  const ends = parallel.scaleWords();
  if (ends) [byId("scale-worst").textContent, byId("scale-best").textContent] = ends;
}

function showMetrics() {
  const names = model.metricNames;
  const choice = byId("metric");
  if (choice.options.length === names.length) return;
  choice.replaceChildren(...names.map((name) => new Option(name, name)));
  choice.value = measurements.metric ?? names[0];
}

async function showCurves(metric, first = null) {
  byId("curves").setAttribute("aria-busy", "true");
  try {
    if (!(await measurements.choose(metric, first))) return;
    parts.curves.reset();
    byId("curves-empty").hidden = measurements.byNumber.size > 0;
  } catch (error) {
    showNotice(byId("curves-notice"), error.message);
  }
  byId("curves").setAttribute("aria-busy", "false");
}

// Redraws at most once for each animation frame.
function draw() {
  frame ??= requestAnimationFrame(() => {
    frame = null;
    if (model.study) show();
  });
}

async function update(all) {
  const { false: events = [], true: repeats = [] } = Object.groupBy(all, (event) => String(model.ofConfirmation(event)));
  parts.confirmation.apply(repeats);
  if (!events.length) return;
  if (events.some((event) => event.kind === "study_reranked")) return location.reload(); // every value and every figure changes
  for (const event of events) measurements.apply(event);
  if (measurements.byNumber.size) byId("curves-empty").hidden = true;
  const news = events.filter((event) => !model.apply(event));
  draw();
  if (news.length) await refresh();
  else refreshLater(); // reports change the study's own figures, such as the remaining time
}

// Reads run one after another, so that an older response never replaces a newer one.
function refresh() {
  reading = reading.then(read);
  return reading;
}

// After an action of this page, which can make an ended study active again: polls, so that the stream is reopened.
async function commanded() {
  await refresh();
  await stream.look();
}

function refreshLater() {
  later ??= setTimeout(() => {
    later = null;
    refresh();
  }, STALE_MILLISECONDS);
}

async function read() {
  try {
    await model.read();
    draw();
  } catch (error) {
    const deleted = error.status === 404;
    showNotice(byId("notice"), deleted ? "This study was deleted." : error.message);
    if (!deleted) refreshLater();
  }
}

function showLive(state) {
  byId("live").textContent = { live: "live", waiting: "reconnecting", ended: "ended" }[state];
  byId("live").className = `live ${state === "live" ? "on" : state}`;
}

// Opens the queue dialog for `?queue=NUMBER`, and removes the parameter from the URL.
function openQueue() {
  const wanted = new URLSearchParams(location.search).get("queue");
  if (wanted === null || byId("queue").hidden || document.documentElement.hasAttribute("data-read-only")) return;
  writeAddress({ queue: "" });
  parts.queue.open(wanted === "" ? null : Number(wanted));
}

async function drawReports() {
  model.drawing = await drawingOf(model.study.task);
  showFacts(model);
}

async function mountAnalysis() {
  const { mountFigures } = await import("./figures.js");
  analysis = mountFigures(byId("analysis"), key);
  analysis.update(model.study, model.parameters);
}

async function start() {
  await model.read(take("table"));
  parts = makeParts();
  show();
  drawReports();
  stream = follow(key, model.seen, update, showLive);
  setInterval(() => model.study.finished_at || document.hidden || showFigures(model), TICK_MILLISECONDS);
  openQueue();
  await parts.charts.whole();
  const { metric } = readAddress();
  const known = !metric || model.metricNames.includes(metric);
  await showCurves((known && metric) || model.objective.metric, known ? take("curves") : null);
  byId("metric").value = measurements.metric;
  await Promise.all([parts.history, parts.curves, parts.parallel].map((part) => part.plot.whole()));
  document.documentElement.dataset.drawn = "yes";
  await mountAnalysis();
}

byId("metric").addEventListener("change", () => {
  const { value } = byId("metric");
  writeAddress({ metric: value === model.objective.metric ? "" : value });
  showCurves(value);
});
start().catch((error) => {
  if (!model.study) {
    byId("name").textContent = key;
    showLive("ended");
  }
  showNotice(byId("notice"), error.message);
});
