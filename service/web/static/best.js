// A study's exported configuration: what it reached and what that is worth, the command that trains it, and the file as text.

import { bestAddress, getStudy, getTrial } from "./api.js";
import { isShare } from "./axis.js";
import { doubts, uplift } from "./best/worth.js";
import { byId, el } from "./dom.js";
import { metric, scalar } from "./format.js";
import { follow } from "./live.js";
import { showNotice } from "./parts.js";
import { environmentFacts } from "./trial/record.js";

const key = decodeURIComponent(location.pathname.split("/")[2]);
const AGAIN_MILLISECONDS = 2000;
const FORMATS = ["yaml", "json"];
const ENDED = ["complete", "stopped", "failed"];
const BASELINE = 0; // the number of the baseline, where a study has one

let study = null;
let texts = null; // the file in each format; null until there is a result
let baseline = null;
let seen = 0;
let reading = Promise.resolve();

const chosenFormat = () => (new URLSearchParams(location.search).get("format") === "json" ? "json" : "yaml");
const fileName = (format) => `${study.name.replace(/[^A-Za-z0-9_-]+/g, "-").replace(/^-+|-+$/g, "").slice(0, 60) || study.id}-best.${format}`;

async function readText(format) {
  const answer = await fetch(bestAddress(key, format));
  if (!answer.ok) throw new Error((await answer.json().catch(() => ({}))).detail ?? "The server does not answer.");
  return answer.text();
}

async function readBaseline() {
  const found = study.created ? await getTrial(key, BASELINE) : null;
  baseline = found?.source === "baseline" ? found : null;
}

async function read() {
  study = await getStudy(key);
  if (study.best) {
    const [yaml, json] = await Promise.all([readText("yaml"), readText("json"), readBaseline()]);
    texts = { yaml, json };
  }
  seen = Math.max(seen, study.seq);
}

function showHead() {
  document.title = `Best of ${study.name} · Thawline`;
  byId("study").textContent = study.name;
  byId("title").textContent = `Best configuration of ${study.name}`;
  byId("study").href = `/studies/${encodeURIComponent(key)}`;
  byId("empty").hidden = texts !== null;
  byId("content").hidden = texts === null;
  if (texts === null) byId("empty-words").textContent = ENDED.includes(study.state)
    ? `The study has ended without a complete trial${study.reason ? `: ${study.reason}` : "."}`
    : "The configuration appears here by itself with the first trial that is complete.";
}

const figure = (name, value, note) => el("div", { class: "figure" }, el("span", { class: "label" }, name), el("span", { class: "value" }, value), el("span", { class: "note" }, note));

function showReached(exported) {
  const { objective, value, metrics } = exported.reached;
  const others = Object.entries(metrics).filter(([name]) => name !== objective.metric && name !== "lr");
  const { number } = study.best;
  const trial = el("a", { href: `/studies/${encodeURIComponent(key)}/trials/${number}` }, `Trial ${number}`);
  byId("figures").replaceChildren(
    figure(`Expected ${objective.metric}`, metric(objective.metric, value), isShare(objective.metric) ? "on validation images, one run" : "one run"),
    figure("Uplift", ...uplift(study, exported, baseline)),
    figure("From", trial, ENDED.includes(study.state) ? "the study has ended" : "the best so far; the study goes on"),
    figure("Other metrics", el("span", { class: "others" }, others.slice(0, 4).map(([name, other]) => el("span", {}, `${name} ${metric(name, other)}`))), ""),
  );
  byId("doubts").replaceChildren(...doubts(study, exported).map((text) => el("li", {}, text)));
}

function showParameters(exported) {
  const searched = exported.origin.params;
  const { data, model, task, ...rest } = exported.config;
  const row = (name, value, found) => el("div", {}, el("dt", {}, name, found ? el("span", { class: "found" }, " searched") : null), el("dd", {}, scalar(value)));
  const others = Object.entries({ task, model: model.name, weights: model.weights ?? "none", data: data.path, ...rest }).filter(([name]) => !Object.hasOwn(searched, name));
  byId("parameters").replaceChildren(...Object.entries(searched).map(([name, value]) => row(name, value, true)));
  byId("rest-count").textContent = `${others.length} more, fixed or by default`;
  byId("rest").replaceChildren(...others.map(([name, value]) => row(name, value, false)));
  byId("environment").replaceChildren(environmentFacts(exported.environment));
}

function showFile() {
  const format = chosenFormat();
  byId("file").textContent = texts[format];
  byId("file").setAttribute("aria-labelledby", `tab-${format}`);
  for (const one of FORMATS) {
    byId(`tab-${one}`).setAttribute("aria-selected", String(one === format));
    byId(`tab-${one}`).tabIndex = one === format ? 0 : -1;
    byId(`download-${one}`).href = bestAddress(key, one);
    byId(`download-${one}`).download = fileName(one);
  }
  byId("command").textContent = `thaw train ${fileName(format)} --out model`;
}

function show() {
  showHead();
  if (texts === null) return;
  const exported = JSON.parse(texts.json);
  showReached(exported);
  showParameters(exported);
  showFile();
}

function choose(format) {
  const address = new URL(location.href);
  address.searchParams.set("format", format);
  history.replaceState(null, "", address);
  showFile();
  byId(`tab-${format}`).focus();
}

// Copies the node's text. Where the browser keeps the clipboard from pages, the text is selected for a key press instead.
async function copy(node) {
  try {
    await navigator.clipboard.writeText(node.textContent);
    byId("copied").textContent = "Copied.";
  } catch {
    getSelection().selectAllChildren(node);
    byId("copied").textContent = "Selected: press Ctrl+C, or Command+C.";
  }
}

const better = (value) => value != null && (study.best === null || (study.spec.objective.direction === "maximize" ? value > study.best.value : value < study.best.value));

const matters = (event) => event.number === undefined || (event.kind === "trial_completed" && (better(event.value) || event.number === BASELINE));

async function update(events) {
  if (events.some((event) => event.seq > seen && matters(event))) await refresh();
}

// One reading after the other: an older answer never replaces a newer one.
function refresh() {
  reading = reading.then(async () => {
    try {
      await read();
      show();
      showNotice(byId("notice"), null);
    } catch (error) {
      showNotice(byId("notice"), error.status === 404 ? "This study was deleted." : error.message);
      if (error.status !== 404) setTimeout(refresh, AGAIN_MILLISECONDS);
    }
  });
  return reading;
}

function showLive(word) {
  byId("live").textContent = { live: "live", waiting: "connecting again", ended: "ended" }[word];
  byId("live").className = `live ${word === "live" ? "on" : word}`;
}

async function start() {
  await read();
  show();
  follow(key, seen, update, showLive);
}

byId("study").textContent = key;
for (const format of FORMATS) {
  byId(`tab-${format}`).addEventListener("click", () => choose(format));
  byId(`tab-${format}`).addEventListener("keydown", (event) => ["ArrowLeft", "ArrowRight"].includes(event.key) && choose(FORMATS[1 - FORMATS.indexOf(format)]));
}
byId("copy").addEventListener("click", () => copy(byId("file")));
byId("copy-command").addEventListener("click", () => copy(byId("command")));
start().catch((error) => {
  showLive("ended");
  showNotice(byId("notice"), error.message);
});
