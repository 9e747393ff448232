// The page that compares trials, also of different studies. The URL names the trials.

import { listStudies } from "./api.js";
import { MOST, chosenMetric, chosenTrials, nameOf, setMetric, setTrials } from "./compare/address.js";
import { keepUp } from "./compare/live.js";
import { readAgain, readTrials } from "./compare/reading.js";
import { costTable, parameterTables, resultsTable } from "./compare/tables.js";
import { at, byId, el, reconcile } from "./dom.js";
import { metric, plural } from "./format.js";
import { lineChart, swatch } from "./lines.js";
import { commonMeasure, inOrder, objectiveOf } from "./measures.js";
import { showNotice, statePill } from "./parts.js";
import { renew } from "./renew.js";
import { sections } from "./reports.js";
import { namesOf, pointsOf } from "./trial/course.js";

const LETTERS = "ABCDEFGHIJKL";
const FEW = 2; // up to this number of trials, two tables are shown side by side

let columns = []; // the trials found, each with its letter
let missing = [];
let frame = null;
let stop = () => {};
let turn = 0; // incremented when the trials change; responses of an earlier turn are dropped
let reports = { print: null, parts: [] }; // the panels from the tasks' modules
const chart = lineChart();

const lettered = (found) => found.map((one, place) => ({ ...one, place, letter: LETTERS[place] }));

function remove(text) {
  setTrials(chosenTrials().map((one) => one.text).filter((other) => other !== text));
  load();
}

function card({ study, trial, number, letter, place, text, key }) {
  const measure = objectiveOf(study);
  const { name } = measure;
  const print = JSON.stringify([letter, trial.state, trial.value, trial.metrics[name]]);
  return el("li", { class: "panel contender", "data-key": text, "data-print": print },
    el("header", {}, el("span", { class: "contender-name" }, el("b", { class: "contender-letter" }, letter), swatch(place)), statePill(trial.state),
      el("button", { class: "button small plain", type: "button", "aria-label": `Remove ${text}`, onclick: () => remove(text) }, "✕")),
    el("a", { class: "strong", href: at(`/studies/${encodeURIComponent(key)}/trials/${number}`) }, `Trial ${number}`),
    el("a", { class: "contender-study", href: at(`/studies/${encodeURIComponent(key)}`) }, study.name),
    el("p", {}, el("span", { class: "value" }, metric(measure, trial.value ?? trial.metrics[name])), el("span", { class: "note" }, ` ${name}`)));
}

function showMissing() {
  const over = chosenTrials().length - MOST;
  byId("missing").replaceChildren(
    ...missing.map(({ text, why }) => el("li", { class: "notice" }, el("b", {}, text), `: ${why} `, el("button", { class: "button small", type: "button", onclick: () => remove(text) }, "Remove"))),
    ...(over > 0 ? [el("li", { class: "notice" }, `At most ${MOST} trials are shown side by side; the URL names ${over} more.`)] : []));
}

function showParameters() {
  const { differing, equal, equalCount } = parameterTables(columns);
  byId("differing").replaceChildren(differing ?? el("p", { class: "quiet alone" }, columns.length > 1 ? "The parameters do not differ." : "Add another trial to see what differs."));
  byId("equal-fold").hidden = !equal;
  byId("equal-count").textContent = columns.length > 1 ? `${equalCount} equal in all` : plural(equalCount, "parameter", "parameters");
  byId("equal").replaceChildren(equal ?? "");
}

function metricNames() {
  const { task, spec } = columns[0].study;
  return inOrder(task, namesOf(columns.flatMap(({ rows }) => rows)), spec.objective.metric);
}

function showCurves(names) {
  const select = byId("metric");
  const chosen = names.includes(chosenMetric()) ? chosenMetric() : names[0];
  if (select.dataset.names !== names.join("\n")) select.replaceChildren(...names.map((name) => el("option", { value: name }, name)));
  select.dataset.names = names.join("\n");
  if (chosen) select.value = chosen;
  byId("curves-empty").hidden = Boolean(chosen);
  chart.node.hidden = !chosen;
  if (!chosen) return;
  const measure = commonMeasure(columns.map(({ study }) => study), chosen);
  chart.draw(chosen, columns.map((one) => ({
    name: `${one.study.name}, trial ${one.number}`, measure, style: one.place, letter: one.letter, points: pointsOf(one.rows, chosen),
  })));
}

// The values on which the report panels depend; a report arrives at the end of its trial.
const measured = (some) => some.map(({ text, letter, trial, study }) => [text, letter, trial.state, trial.attempt, study.task.report.some((name) => name in trial.result)]);

// One group of report panels for each task.
function showReports() {
  const groups = [...Map.groupBy(columns, ({ study }) => study.task.name).values()];
  const print = JSON.stringify(groups.map((group) => group.map(({ text }) => text)));
  if (print !== reports.print) {
    const parts = groups.flatMap((group, index) => sections(group[0].drawing.comparison, index === 0).map((part) => ({ ...part, task: group[0].study.task.name })));
    reports = { print, parts };
    byId("report").replaceChildren(...parts.filter(({ panel }) => panel.wide).map(({ section }) => section));
    byId("report-beside").replaceChildren(...parts.filter(({ panel }) => !panel.wide).map(({ section }) => section));
  }
  for (const { panel, node, task } of reports.parts) {
    const own = columns.filter(({ study }) => study.task.name === task);
    renew(node, measured(own), () => [panel.draw(own)]);
  }
}

function showProgress() {
  reconcile(byId("contenders"), columns.map(card));
  const names = metricNames();
  showCurves(names);
  byId("results").replaceChildren(resultsTable(columns, names));
  byId("cost").replaceChildren(costTable(columns));
}

function show() {
  showMissing();
  byId("empty").hidden = columns.length > 0;
  byId("content").hidden = columns.length === 0;
  byId("add").hidden = columns.length + missing.length >= MOST;
  document.title = `${columns.length ? columns.map(({ study, number }) => `${study.name} ${number}`).slice(0, 3).join(", ") : "Compare"} · Thawline`;
  if (!columns.length) return byId("contenders").replaceChildren();
  byId("content").classList.toggle("wide", columns.length > FEW);
  showProgress();
  showParameters();
  showReports();
}

function drawProgress() {
  frame ??= requestAnimationFrame(() => {
    frame = null;
    if (columns.length) showProgress();
  });
}

async function reread(some) {
  const mine = turn;
  const read = await Promise.allSettled(some.map(readAgain));
  if (mine !== turn) return;
  read.forEach((one, index) => one.status === "fulfilled" && Object.assign(some[index], one.value));
  showNotice(byId("notice"), read.find((one) => one.status === "rejected")?.reason.message);
  show();
}

function showLive(state) {
  byId("live").textContent = { live: "live", waiting: "reconnecting", ended: columns.length ? "ended" : "" }[state];
  byId("live").className = `live ${state === "live" ? "on" : state}`;
}

async function load() {
  byId("main").setAttribute("aria-busy", "true");
  stop();
  stop = () => {};
  turn += 1;
  const mine = turn;
  const read = await readTrials(chosenTrials().slice(0, MOST));
  if (mine !== turn) return;
  [columns, missing] = [lettered(read.found), read.missing];
  byId("main").removeAttribute("aria-busy");
  show();
  byId("add-study").value ||= columns.at(-1)?.study.name ?? "";
  stop = keepUp(() => columns, reread, drawProgress, showLive);
}

// Names of studies for the form, read when it is first focused.
async function offerStudies() {
  const { studies } = await listStudies().catch(() => ({ studies: [] }));
  byId("studies").replaceChildren(...studies.map((study) => el("option", { value: study.name })));
}

byId("add").addEventListener("submit", (event) => {
  event.preventDefault();
  const text = nameOf(byId("add-study").value.trim(), byId("add-number").value);
  setTrials([...chosenTrials().map((one) => one.text), text]);
  byId("add-number").value = "";
  load();
});
byId("add-study").addEventListener("focus", offerStudies, { once: true });
byId("metric").addEventListener("change", (event) => {
  setMetric(event.target.value);
  showCurves(metricNames());
});
byId("curves").append(chart.node);
addEventListener("popstate", load);
load();
