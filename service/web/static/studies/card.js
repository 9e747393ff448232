// A study in the list: its progress, and a menu of actions.

import { at, el } from "../dom.js";
import { ago, count, duration, metric, plural } from "../format.js";
import { objectiveOf, subject } from "../measures.js";
import { finishedTrials, phaseMark, progressBar, statePill } from "../parts.js";
import { sparkline } from "./sparkline.js";

const address = (study) => at(`/studies/${encodeURIComponent(study.name)}`);
const CHANGES = { pause: ["Pause", ["active"]], resume: ["Resume", ["paused", "failed", "stopped"]], stop: ["Stop", ["active", "paused"]] };

// `act(study, change)` is called with pause, resume, stop or delete.
export function studyCard(study, trend, workers, act) {
  return el(
    "li",
    { "data-key": study.id, "data-print": JSON.stringify([study.seq, study.state, ago(study.created_at), workers, left(study)]) },
    el(
      "article",
      { class: "card study" },
      el("div", { class: "card-title" },
        el("h2", {}, el("a", { class: "stretched", href: address(study) }, study.name)),
        el("span", { class: "corner" }, statePill(study.state), menu(study, act))),
      el("p", { class: "quiet" }, `${subject(study.spec)[0][1]} · ${study.spec.sampler.name} · created ${ago(study.created_at)}`),
      best(study, trend),
      progressBar(study),
      el("div", { class: "foot" },
        el("p", { class: "standing" }, standing(study, workers).map((part) => part.replaceAll(" ", "\u00a0")).join(" · ")),
        phaseMark(study.phase)),
      study.reason ? el("p", { class: "fault" }, study.reason) : null,
    ),
  );
}

function best(study, trend) {
  const measure = objectiveOf(study);
  return el(
    "div",
    { class: "best" },
    el("div", {}, el("div", { class: "label" }, `Best ${measure.name}`), el("div", { class: "value" }, study.best ? metric(measure, study.best.value) : "–")),
    sparkline(trend, study.created, measure),
  );
}

function standing(study, workers) {
  const { trials, hours } = study.budget;
  const done = finishedTrials(study.counts);
  const { running } = study.counts;
  return [
    trials ? `${count(done)} of ${plural(trials, "trial", "trials")}` : plural(done, "trial", "trials"),
    running ? `${count(running)} running${workers ? ` on ${plural(workers, "worker", "workers")}` : ""}` : null,
    study.counts.failed ? `${count(study.counts.failed)} failed` : null,
    left(study) ?? (hours && !study.finished_at ? `within ${hours} h` : null),
  ].filter(Boolean);
}

function left({ seconds_left: seconds }) {
  if (seconds == null || seconds < 1) return null;
  return `about ${duration(1000 * (seconds < 60 ? seconds : 60 * Math.round(seconds / 60))).replace(/ 0 (s|min)$/, "")} left`;
}

function menu(study, act) {
  const item = (change, label) => el("button", { class: `button small plain ${change}`, type: "button", onclick: () => act(study, change) }, label);
  const allowed = Object.entries(CHANGES).filter(([, [, states]]) => states.includes(study.state));
  return el(
    "details",
    { class: "menu changes" },
    el("summary", { class: "button small plain", "aria-label": `Actions for ${study.name}` }),
    el("div", { class: "sheet" },
      allowed.map(([change, [label]]) => item(change, label)),
      el("a", { class: "button small plain", href: at(`/new?from=${encodeURIComponent(study.id)}`) }, "Copy to a new study"),
      item("delete", "Delete")),
  );
}
