// The list of studies: read again every few seconds while someone looks.

import { listStudies, listWorkers } from "./api.js";
import { byId, el, reconcile } from "./dom.js";
import { ago, count, metric, plural } from "./format.js";
import { finishedTrials, progressBar, showNotice, statePill } from "./parts.js";

const REFRESH_MILLISECONDS = 3000;
const list = byId("studies");
let pages = 1;

function card(study) {
  const done = finishedTrials(study.counts);
  const { metric: name } = study.spec.objective;
  const element = el(
    "li",
    { "data-key": study.id, "data-print": JSON.stringify([study.seq, study.counts, ago(study.created_at)]) },
    el(
      "a",
      { class: "card", href: `/studies/${encodeURIComponent(study.name)}` },
      el("div", { class: "card-title" }, el("h2", {}, study.name), statePill(study.state)),
      el("p", { class: "quiet" }, `${study.spec.model.name} · created ${ago(study.created_at)}`),
      progressBar(study),
      el(
        "dl",
        { class: "card-facts" },
        el("div", {}, el("dt", {}, "Trials"), el("dd", {}, study.budget.trials ? `${count(done)} of ${count(study.budget.trials)}` : count(done))),
        el("div", {}, el("dt", {}, "Running"), el("dd", {}, count(study.counts.running))),
        el("div", {}, el("dt", {}, `Best ${name}`), el("dd", { class: "strong" }, study.best ? metric(name, study.best.value) : "–")),
      ),
      study.reason ? el("p", { class: "fault" }, study.reason) : null,
    ),
  );
  return element;
}

function emptyCard() {
  const command = "thaw study create study.yaml --watch";
  return el("li", { "data-key": "empty", "data-print": "empty" }, el("div", { class: "empty" },
    el("h2", {}, "No study yet"), el("p", {}, "Describe what may vary, on which data and model, then post it:"), el("code", {}, command)));
}

async function readPages() {
  const studies = [];
  let next = null;
  for (let page = 0; page < pages; page += 1) {
    const answer = await listStudies(next);
    studies.push(...answer.studies);
    next = answer.next;
    if (!next) break;
  }
  return { studies, next };
}

async function refresh() {
  try {
    const [{ studies, next }, { workers }] = await Promise.all([readPages(), listWorkers()]);
    reconcile(list, studies.length ? studies.map(card) : [emptyCard()]);
    byId("more").hidden = !next;
    const active = studies.filter((study) => study.state === "active").length;
    byId("summary").textContent = studies.length ? `${plural(studies.length, "study", "studies")}, ${active} active` : "";
    byId("workers").textContent = plural(workers.filter((worker) => worker.state === "alive").length, "worker", "workers");
    showNotice(byId("notice"), null);
  } catch (error) {
    showNotice(byId("notice"), `${error.message} Trying again.`);
  }
  list.setAttribute("aria-busy", "false");
}

async function watch() {
  if (!document.hidden) await refresh();
  setTimeout(watch, REFRESH_MILLISECONDS);
}

byId("more").addEventListener("click", () => {
  pages += 1;
  refresh();
});
document.addEventListener("visibilitychange", () => document.hidden || refresh());
watch();
