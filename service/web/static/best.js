// The page of a study's exported configuration: its confirmation, its expected metric, the commands that train it, and its file formats.

import { bestAddress, getConfirmation, getStudy, getTrial } from "./api.js";
import { commands, chosenFormat, fileName, FORMATS, NAMES, offered, readText } from "./best/files.js";
import { confirmedBy, standing } from "./best/standing.js";
import { doubts, uplift } from "./best/worth.js";
import { worthFigures } from "./confirmation/worth.js";
import { at, byId, el, pathParts } from "./dom.js";
import { metric, scalar } from "./format.js";
import { follow } from "./live.js";
import { examples, measureIn, objectiveOf } from "./measures.js";
import { phaseMark, showNotice } from "./parts.js";
import { renew } from "./renew.js";
import { environmentFacts } from "./trial/record.js";

const key = decodeURIComponent(pathParts()[1]);
const AGAIN_MILLISECONDS = 2000;
const ENDED = ["complete", "stopped", "failed"];
const BASELINE = 0; // number of the baseline trial, if the study has one

let study = null;
let confirmation = null;
let exported = null; // the exported file; null until there is a result
let texts = new Map(); // format → promise of its text
let baseline = null;
let seen = 0;
let reading = Promise.resolve();

// Each format is fetched once; the cache is cleared when the study changes.
function textOf(format) {
  if (!texts.has(format)) texts.set(format, readText(key, format));
  return texts.get(format);
}

async function readBaseline() {
  const found = study.created ? await getTrial(key, BASELINE) : null;
  baseline = found?.source === "baseline" ? found : null;
}

async function read() {
  study = await getStudy(key);
  if (study.best) {
    texts = new Map();
    const [text, known] = await Promise.all([textOf("json"), getConfirmation(key), readBaseline()]);
    [exported, confirmation] = [JSON.parse(text), known];
  }
  seen = Math.max(seen, study.seq);
}

function showHead() {
  document.title = `Best of ${study.name} · Thawline`;
  byId("study").textContent = study.name;
  byId("title").textContent = `Best configuration of ${study.name}`;
  byId("study").href = at(`/studies/${encodeURIComponent(key)}`);
  byId("empty").hidden = exported !== null;
  byId("content").hidden = exported === null;
  if (exported === null) byId("empty-words").textContent = ENDED.includes(study.state)
    ? `The study has ended without a complete trial${study.reason ? `: ${study.reason}` : "."}`
    : "The configuration appears here after the first complete trial.";
}

const figure = (name, value, note) => el("div", { class: "figure" }, el("span", { class: "label" }, name), el("span", { class: "value" }, value), el("span", { class: "note" }, note));

function from(verdict) {
  const { trial: number } = exported.origin;
  const trial = el("a", { href: at(`/studies/${encodeURIComponent(key)}/trials/${number}`) }, `Trial ${number}`);
  if (verdict) return figure("From", trial, number === study.best.number ? "also the best of the search" : `the best of the search was trial ${study.best.number}`);
  return figure("From", trial, ENDED.includes(study.state) ? "the study has ended" : "the best so far; the study is not complete");
}

function searchFigures() {
  const { objective, value, metrics } = exported.reached;
  const measure = objectiveOf(study);
  const others = Object.entries(metrics).filter(([name]) => name !== objective.metric && name !== "lr");
  return [
    figure(`Measured ${objective.metric}`, metric(measure, value), measure.share && !study.task.external ? `on validation ${examples(study)}, one run` : "one run"),
    figure("Uplift", ...uplift(study, exported, baseline)),
    from(null),
    figure("Other metrics", el("span", { class: "others" }, others.slice(0, 4).map(([name, other]) => el("span", {}, `${name} ${metric(measureIn(study, name), other)}`))), ""),
  ];
}

function showWorth() {
  const verdict = confirmedBy(confirmation, study);
  byId("standing").classList.toggle("unconfirmed", verdict === null);
  renew(byId("standing"), [confirmation, study.counts.complete], () => standing(study, confirmation));
  byId("phase").replaceChildren(...[phaseMark(study.phase)].filter(Boolean));
  byId("figures").replaceChildren(...(verdict ? [...worthFigures(verdict), from(verdict)] : searchFigures()));
  byId("doubts").replaceChildren(...(verdict ? [] : doubts(study, exported).map((text) => el("li", {}, text))));
}

// The configuration as names and values in one level.
function settings({ data, model, ...rest }) {
  if (model) return { model: model.name, weights: model.weights ?? "none", data: data.path, ...rest };
  const { task, command, workdir, seed, params } = rest; // of a script
  return { task, command: command.join(" "), workdir, seed, ...params };
}

function showParameters() {
  const searched = exported.origin.params;
  const row = (name, value, found) => el("div", {}, el("dt", {}, name, found ? el("span", { class: "found" }, " searched") : null), el("dd", {}, scalar(value)));
  const others = Object.entries(settings(exported.config)).filter(([name]) => !Object.hasOwn(searched, name));
  byId("parameters").replaceChildren(...Object.entries(searched).map(([name, value]) => row(name, value, true)));
  byId("rest-count").textContent = `${others.length} more: fixed values and defaults`;
  byId("rest").replaceChildren(...others.map(([name, value]) => row(name, value, false)));
  byId("environment").replaceChildren(environmentFacts(exported.environment));
}

async function showFile() {
  const format = chosenFormat(study);
  for (const one of NAMES) {
    for (const node of [byId(`tab-${one}`), byId(`download-${one}`)]) node.hidden = !offered(study).includes(one);
    byId(`tab-${one}`).setAttribute("aria-selected", String(one === format));
    byId(`tab-${one}`).tabIndex = one === format ? 0 : -1;
    byId(`download-${one}`).href = bestAddress(key, one);
    byId(`download-${one}`).download = fileName(study, one);
  }
  byId("file").setAttribute("aria-labelledby", `tab-${format}`);
  const text = await textOf(format).catch((error) => error.message);
  if (format === chosenFormat(study)) byId("file").textContent = text;
  const code = offered(study).includes("python") ? await textOf("python").catch(() => "") : "";
  if (format !== chosenFormat(study)) return;
  const lines = commands(study, format, confirmedBy(confirmation, study) !== null, code);
  renew(byId("commands"), lines, () => lines.map(command));
}

function command([name, line, words]) {
  const code = el("code", { id: `command-${name}` }, line);
  const label = `Copy the ${name} command`;
  return el("div", { class: "command-row" }, el("pre", { class: "command" }, code), el("button", { class: "button small", type: "button", "aria-label": label, onclick: () => copy(code) }, "Copy"), el("p", { class: "quiet" }, words));
}

function show() {
  showHead();
  if (exported === null) return;
  showWorth();
  showParameters();
  showFile();
}

function choose(format) {
  const address = new URL(location.href);
  address.searchParams.set("format", format);
  history.replaceState(null, "", address);
  showFile();
  byId(`tab-${format}`).focus();
}

// Copies the node's text. If the browser denies access to the clipboard, the text is selected, so that the user can copy it.
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

const ends = ["trial_completed", "trial_failed"];
const matters = (event) => event.number === undefined || (ends.includes(event.kind) && (study.phase === "running" || better(event.value) || event.number === BASELINE));

async function update(events) {
  if (events.some((event) => event.seq > seen && matters(event))) await refresh();
}

// Reads run one after another, so that an older response never replaces a newer one.
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

function showLive(state) {
  byId("live").textContent = { live: "live", waiting: "reconnecting", ended: "ended" }[state];
  byId("live").className = `live ${state === "live" ? "on" : state}`;
}

function makeTabs() {
  const step = { ArrowLeft: -1, ArrowRight: 1 };
  const turn = (event, name) => {
    const names = offered(study);
    if (event.key in step) choose(names[(names.indexOf(name) + step[event.key] + names.length) % names.length]);
  };
  byId("formats").replaceChildren(...NAMES.map((name) => el("button", {
    id: `tab-${name}`, type: "button", role: "tab", "aria-controls": "file", onclick: () => choose(name), onkeydown: (event) => turn(event, name),
  }, FORMATS[name].label)));
  byId("downloads").replaceChildren(...NAMES.map((name, at) => el("a", { id: `download-${name}`, class: `button${at ? "" : " primary"} needs-result` }, at ? FORMATS[name].label : "Download YAML")));
}

async function start() {
  await read();
  show();
  follow(key, seen, update, showLive);
}

byId("study").textContent = key;
makeTabs();
byId("copy").addEventListener("click", () => copy(byId("file")));
start().catch((error) => {
  showLive("ended");
  showNotice(byId("notice"), error.message);
});
