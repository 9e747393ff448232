// The page with all studies, polled while it is visible. The URL contains the filters.

import { changeStudy, deleteStudy, listStudies, listWorkers } from "./api.js";
import { at, byId, el, reconcile } from "./dom.js";
import { plural } from "./format.js";
import { confirmed, showNotice, toggleButton } from "./parts.js";
import { studyCard } from "./studies/card.js";
import { stateOf } from "./workers/state.js";

const REFRESH_MILLISECONDS = 3000;
const TYPING_MILLISECONDS = 200;
const STATES = ["active", "paused", "complete", "stopped", "failed"];
const QUESTIONS = {
  stop: (name) => ({ title: `Stop ${name}?`, text: "Its queued and running trials are cancelled. Reported metrics are kept, and the study can be resumed.", action: "Stop the study", danger: true }),
  delete: (name) => ({ title: `Delete ${name}?`, text: "The study is deleted with all its trials, metrics and logs. This cannot be undone.", action: "Delete the study", danger: true }),
};

const list = byId("studies");
const asked = new URLSearchParams(location.search);
const filters = { name: asked.get("q") ?? "", state: asked.getAll("state").filter((state) => STATES.includes(state)) };
let pages = 1;
let typing = null;
let complaint = null; // error message of the last action
let readings = 0;

async function readPages() {
  const studies = [];
  const trends = {};
  let next = null;
  for (let page = 0; page < pages; page += 1) {
    const answer = await listStudies(next, { name: filters.name || null, state: filters.state });
    studies.push(...answer.studies);
    Object.assign(trends, answer.trends);
    next = answer.next;
    if (!next) break;
  }
  return { studies, trends, next };
}

// The number of workers that run trials of each study, by name.
function crews(workers) {
  const found = new Map();
  for (const worker of workers) {
    for (const name of new Set(worker.running.map((one) => one.study))) found.set(name, (found.get(name) ?? 0) + 1);
  }
  return found;
}

async function refresh() {
  const mine = (readings += 1);
  try {
    const [{ studies, trends, next }, { workers }] = await Promise.all([readPages(), listWorkers()]);
    if (mine !== readings) return; // a later refresh has started
    show(studies, trends, next, workers);
    showLive("live");
    showNotice(byId("notice"), complaint);
  } catch (error) {
    if (mine !== readings) return;
    showLive("waiting");
    showNotice(byId("notice"), complaint ?? `${error.message} Trying again.`);
  }
  list.setAttribute("aria-busy", "false");
}

function show(studies, trends, next, workers) {
  if (list.querySelector("details[open]")) return; // an open menu must not be replaced
  const on = crews(workers);
  const place = focused();
  reconcile(list, studies.length ? studies.map((study) => studyCard(study, trends[study.id], on.get(study.name) ?? 0, act)) : [nothing()]);
  place?.();
  byId("more").hidden = !next;
  const active = studies.filter((study) => study.state === "active").length;
  const alive = workers.filter((worker) => stateOf(worker) === "alive").length;
  const found = `${plural(studies.length, "study", "studies")}${next ? " shown" : ""}, ${active} active`;
  byId("summary").textContent = `${studies.length ? found : "none"} · ${alive ? plural(alive, "worker", "workers") : "no worker"}`;
}

// Returns a function that restores the focus after the cards are redrawn.
function focused() {
  const held = /** @type {any} */ (document.activeElement);
  const key = list.contains(held) ? held.closest("[data-key]")?.dataset.key : null;
  if (key == null) return null;
  const selector = held.matches("summary") ? "summary" : "a";
  return () => list.contains(document.activeElement) || [...list.children].find((one) => one.dataset.key === key)?.querySelector(selector)?.focus({ preventScroll: true });
}

function nothing() {
  if (filters.name || filters.state.length) {
    return el("li", { "data-key": "none", "data-print": "none" }, el("div", { class: "empty" },
      el("h2", {}, "No study matches"), el("button", { class: "button", type: "button", onclick: clear }, "Show all studies")));
  }
  return el("li", { "data-key": "empty", "data-print": "empty" }, el("div", { class: "empty" },
    el("h2", {}, "No study yet"),
    el("p", {}, "Describe the data, the model and the search space. In a form:"),
    el("a", { class: "button primary changes", href: at("/new") }, "New study"),
    el("p", {}, "or in a file, from a terminal:"),
    el("code", {}, "thaw study create study.yaml --watch")));
}

async function act(study, change) {
  closeMenus();
  if (QUESTIONS[change] && !(await confirmed(QUESTIONS[change](study.name)))) return;
  try {
    await (change === "delete" ? deleteStudy(study.id) : changeStudy(study.id, change));
    complaint = null;
  } catch (error) {
    complaint = `${study.name}: ${error.message}`;
  }
  await refresh();
  if (change === "delete") byId("main").focus();
}

function closeMenus(except = null) {
  for (const menu of list.querySelectorAll("details[open]")) if (menu !== except) menu.open = false;
}

function showLive(state) {
  const live = byId("live");
  const text = { live: "live", waiting: "reconnecting" }[state];
  if (live.textContent !== text) live.textContent = text;
  live.className = `live ${state === "live" ? "on" : state}`;
}

function showStates() {
  byId("states").replaceChildren(...STATES.map((state) => toggleButton(state, filters.state.includes(state), () => {
    filters.state = filters.state.includes(state) ? filters.state.filter((one) => one !== state) : [...filters.state, state];
    showStates();
    [...byId("states").children][STATES.indexOf(state)].focus();
    filter();
  })));
}

function clear() {
  filters.name = "";
  filters.state = [];
  byId("search").value = "";
  showStates();
  filter();
  byId("search").focus();
}

function filter() {
  const query = new URLSearchParams([...(filters.name ? [["q", filters.name]] : []), ...filters.state.map((state) => ["state", state])]).toString();
  history.replaceState(null, "", query ? `?${query}` : location.pathname);
  pages = 1;
  return refresh();
}

async function watch() {
  if (!document.hidden) await refresh();
  setTimeout(watch, REFRESH_MILLISECONDS);
}

byId("search").value = filters.name;
byId("search").addEventListener("input", () => {
  clearTimeout(typing);
  typing = setTimeout(() => {
    filters.name = byId("search").value.trim();
    filter();
  }, TYPING_MILLISECONDS);
});
byId("more").addEventListener("click", () => {
  pages += 1;
  refresh();
});
document.addEventListener("click", (event) => closeMenus(/** @type {Element} */ (event.target).closest("details")));
document.addEventListener("keydown", (event) => {
  if (event.key !== "Escape") return;
  const open = list.querySelector("details[open]");
  closeMenus();
  open?.querySelector("summary").focus();
});
document.addEventListener("visibilitychange", () => document.hidden || refresh());
showStates();
watch();
