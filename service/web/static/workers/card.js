// The card of a worker: host, devices, running trials and last heartbeat.

import { at, el } from "../dom.js";
import { ago, bytes, count, duration, elapsed, plural } from "../format.js";
import { stateOf } from "./state.js";

const MARKS = { alive: "●", draining: "◐", silent: "○", gone: "–" };
const MOST_LINKS = 24; // maximum number of trial links for each study

export function workerCard(worker, drain) {
  const state = stateOf(worker);
  return el(
    "li",
    { "data-key": worker.id, "data-print": JSON.stringify([{ ...worker, seen_at: null, silent_seconds: null }, state, elapsed(worker.started_at)]) },
    el(
      "article",
      { class: `card worker ${state}` },
      el("div", { class: "card-title" }, el("h2", {}, worker.host), workerPill(state)),
      el("p", { class: "quiet mono" }, worker.id),
      el("dl", { class: "facts" },
        fact(worker.devices.length === 1 ? "Device" : "Devices", devices(worker).map((text) => el("div", {}, text))),
        fact("Slots", slots(worker)),
        fact("Runs", runs(worker)),
        fact("Heartbeat", el("span", { class: "heartbeat", "data-worker": worker.id }, heartbeat(worker.silent_seconds))),
        fact("Up for", elapsed(worker.started_at).replace(/ \d+ s$/, ""))),
      remark(worker, state),
      unusableDevices(worker),
      unavailableStudies(worker),
      setAside(worker),
      state === "alive" ? el("div", { class: "changes" }, el("button", { class: "button small", type: "button", onclick: () => drain(worker) }, "Drain")) : null,
    ),
  );
}

export function goneRow(worker) {
  const text = `${plural(worker.slots, "slot", "slots")}, ${devices(worker).join(", ")} · last heartbeat ${ago(worker.seen_at)}`;
  return el("li", { "data-key": worker.id, "data-print": text }, el("span", { class: "strong" }, worker.host), " ", el("span", { class: "mono quiet" }, worker.id), el("div", { class: "hint" }, text));
}

export function heartbeat(seconds) {
  return seconds < 1.5 ? "just now" : `${duration(1000 * seconds)} ago`;
}

function workerPill(state) {
  return el("span", { class: `pill worker-${state}` }, el("span", { "aria-hidden": "true" }, MARKS[state]), ` ${state}`);
}

function fact(name, value) {
  return el("div", {}, el("dt", {}, name), el("dd", {}, value));
}

// The worker's devices. Several slots can share a device, which is listed once, a GPU with their number. Older workers report no names: their GPUs are named by
// the first digits of the UUID. The name of a GPU contains the size of its memory.
function devices(worker) {
  const found = new Map();
  worker.devices.forEach((device, place) => {
    const shared = device === "cpu" ? 1 : worker.devices.filter((other) => other === device).length;
    found.set(device, described(device, worker.device_names[place], worker.memory[place]) + (shared > 1 ? ` · ${shared} slots` : ""));
  });
  return found.size ? [...found.values()] : ["none that can be used"];
}

function described(device, name, memory) {
  if (name && device !== "cpu") return name;
  return `${named(device)}${memory == null ? "" : ` · ${bytes(memory)}`}`;
}

function named(device) {
  if (device === "cpu") return "CPU";
  return `GPU ${device.replace(/^cuda:/, "").replace(/^(GPU-)?([0-9a-f]{8})-.*$/, "$2")}`;
}

// The number of slots and running trials. A slot runs one trial, or several that are trained together, so busy slots cannot be counted.
function slots(worker) {
  const running = worker.running.length;
  if (!worker.slots) return "none";
  return `${count(worker.slots)}${running ? `, ${plural(running, "trial", "trials")} running` : ", idle"}`;
}

function runs(worker) {
  if (!worker.running.length) return "nothing";
  const studies = grouped(worker.running);
  return [...studies].map(([study, trials]) => el("div", { class: "runs" }, el("a", { href: at(`/studies/${encodeURIComponent(study)}`) }, study), el("span", { class: "numbers" }, links(study, trials))));
}

function grouped(running) {
  const found = new Map();
  for (const one of running) found.set(one.study, [...(found.get(one.study) ?? []), one]);
  return found;
}

function links(study, trials) {
  const shown = trials.slice(0, MOST_LINKS).map(({ number }) =>
    el("a", { class: "trial-link", href: at(`/studies/${encodeURIComponent(study)}/trials/${number}`), "aria-label": `trial ${number} of ${study}` }, `#${number}`));
  const rest = trials.length - shown.length;
  return rest ? [...shown, el("span", { class: "quiet" }, `and ${count(rest)} more`)] : shown;
}

function unusableDevices(worker) {
  if (!worker.unusable.length) return null;
  const onCpu = worker.devices.length && worker.devices.every((device) => device === "cpu");
  const effect = onCpu ? "Trials train on the CPU, because no GPU can be used." : worker.devices.length ? "" : "Claims no trials until a device can be used.";
  return el("ul", { class: "left-alone" },
    worker.unusable.map(({ name, detail, remedy }) => el("li", { class: "fault" }, `Cannot use ${name}: ${detail}`, el("div", { class: "hint" }, remedy))),
    effect ? el("li", { class: "fault strong" }, effect) : null);
}

function unavailableStudies({ unavailable }) {
  if (!unavailable.length) return null;
  return el("ul", { class: "left-alone" }, unavailable.map(({ study, what, detail }) =>
    el("li", { class: "fault" }, "Claims no trials of ", el("a", { href: at(`/studies/${encodeURIComponent(study)}`) }, study), `, because it cannot ${what === "script" ? "run" : "read"} the ${what}: ${detail}`)));
}

function setAside({ set_aside: results }) {
  if (!results) return null;
  return el("p", { class: "fault" }, `The database did not accept ${plural(results, "result", "results")} of earlier trials. They are in THAW_HOME/spool on that machine; the worker's log has the reasons.`);
}

function remark(worker, state) {
  const left = worker.running.length;
  const texts = {
    draining: left ? `Claims no more trials; exits when the ${left === 1 ? "running trial has" : `${count(left)} running trials have`} ended.` : "Claims no more trials and is about to exit.",
    silent: "Killed, or without access to the database. Other workers resume its trials.",
  };
  return texts[state] ? el("p", { class: "hint" }, texts[state]) : null;
}
