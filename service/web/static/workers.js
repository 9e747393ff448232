// The page with all workers, polled while it is visible. The ages of heartbeats are updated between two polls.

import { drainWorker, listWorkers } from "./api.js";
import { byId, el, reconcile } from "./dom.js";
import { plural } from "./format.js";
import { confirmed, showNotice } from "./parts.js";
import { goneRow, heartbeat, workerCard } from "./workers/card.js";
import { stateOf } from "./workers/state.js";

const REFRESH_MILLISECONDS = 3000;
const TICK_MILLISECONDS = 1000;
const LONG_SILENT_SECONDS = 3600; // a silent worker is listed with the gone ones after this time
const MOST_GONE = 100;

let workers = [];
let readAt = 0; // time of the last read, by performance.now()
let complaint = null;
let readings = 0;

const past = (worker) => stateOf(worker) === "gone" || worker.silent_seconds > LONG_SILENT_SECONDS;

async function refresh() {
  const mine = (readings += 1);
  try {
    const answer = await listWorkers();
    if (mine !== readings) return;
    ({ workers } = answer);
    readAt = performance.now();
    show();
    showLive("live");
    showNotice(byId("notice"), complaint);
  } catch (error) {
    if (mine !== readings) return;
    showLive("waiting");
    showNotice(byId("notice"), complaint ?? `${error.message} Trying again.`);
  }
  byId("workers").setAttribute("aria-busy", "false");
}

function show() {
  const here = workers.filter((worker) => !past(worker)).sort((left, right) => left.host.localeCompare(right.host) || left.id.localeCompare(right.id));
  const gone = workers.filter(past).sort((left, right) => Date.parse(right.seen_at) - Date.parse(left.seen_at));
  reconcile(byId("workers"), here.length ? here.map((worker) => workerCard(worker, drain)) : [nobody()]);
  reconcile(byId("gone"), gone.slice(0, MOST_GONE).map(goneRow));
  byId("past").hidden = !gone.length;
  byId("past-title").textContent = `${plural(gone.length, "worker has", "workers have")} gone`;
  const alive = here.filter((worker) => stateOf(worker) === "alive");
  const slots = alive.reduce((sum, worker) => sum + worker.slots, 0);
  const running = here.reduce((sum, worker) => sum + worker.running.length, 0);
  byId("summary").textContent = here.length ? `${alive.length} alive, ${plural(slots, "slot", "slots")} · ${plural(running, "trial", "trials")} running` : "";
}

function nobody() {
  return el("li", { "data-key": "nobody", "data-print": "nobody" }, el("div", { class: "empty" },
    el("h2", {}, "No workers"),
    el("p", {}, "Trials wait for a worker. Start one on a machine with access to the database:"),
    el("code", {}, "THAW_DATABASE_URL=… thaw worker")));
}

async function drain(worker) {
  const running = worker.running.length;
  const text = `It claims no more trials, ${running ? `completes the ${running === 1 ? "one" : running} that it runs` : "runs none now"}, and exits. To use the machine again, start a worker on it.`;
  if (!(await confirmed({ title: `Drain ${worker.host}?`, text, action: "Drain the worker" }))) return;
  try {
    await drainWorker(worker.id);
    complaint = null;
  } catch (error) {
    complaint = `${worker.host}: ${error.message}`;
  }
  await refresh();
  byId("main").focus();
}

function tick() {
  const since = (performance.now() - readAt) / 1000;
  const seconds = new Map(workers.map((worker) => [worker.id, worker.silent_seconds + since]));
  for (const node of /** @type {NodeListOf<HTMLElement>} */ (document.querySelectorAll(".heartbeat"))) node.textContent = heartbeat(seconds.get(node.dataset.worker) ?? 0);
}

function showLive(state) {
  const live = byId("live");
  const text = { live: "live", waiting: "reconnecting" }[state];
  if (live.textContent !== text) live.textContent = text;
  live.className = `live ${state === "live" ? "on" : state}`;
}

async function watch() {
  if (!document.hidden) await refresh();
  setTimeout(watch, REFRESH_MILLISECONDS);
}

byId("past").open = new URLSearchParams(location.search).has("gone");
byId("past").addEventListener("toggle", () => history.replaceState(null, "", byId("past").open ? "?gone" : location.pathname));
document.addEventListener("visibilitychange", () => document.hidden || refresh());
setInterval(() => document.hidden || tick(), TICK_MILLISECONDS);
watch();
