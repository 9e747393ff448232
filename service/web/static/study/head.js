// The top of the page: the study's name, state, actions and key figures.

import { changeStudy, deleteStudy } from "../api.js";
import { at, byId, el, reconcile } from "../dom.js";
import { ago, count, difference, duration, elapsed, metric, plural } from "../format.js";
import { examples, subject } from "../measures.js";
import { confirmed, finishedTrials, phaseMark, progressBar, showNotice, statePill } from "../parts.js";
import { renew } from "../renew.js";

const ENDED = ["complete", "stopped", "failed"];
const ACTIONS = { pause: ["Pause", ["active"]], resume: ["Resume", ["paused", "failed", "stopped"]], stop: ["Stop", ["active", "paused"]] };

const note = (text, title = null) => el("span", { class: "note", title }, text);

function figure(name, value, below) {
  return el("div", { class: "figure" }, el("span", { class: "label" }, name), el("span", { class: "value" }, value), below);
}

function bestFigure({ study, baseline, measure }) {
  const { best, spec } = study;
  const { name } = measure;
  if (!best) return figure(`Best ${name}`, "–", note("no trial is complete yet"));
  const over = baseline?.number === best.number ? "the baseline" : baseline && `${difference(measure, best.value, baseline.value)} over the baseline`;
  const label = spec.confirm ? `Best ${name} of the search` : `Best ${name}`;
  return figure(label, metric(measure, best.value), note([`trial ${best.number}`, over].filter(Boolean).join(" · "), `one run, on the validation ${examples(study)}`));
}

function doneFigure({ study }) {
  const done = finishedTrials(study.counts);
  const of = study.budget.trials ? el("span", { class: "of" }, ` / ${count(study.budget.trials)}`) : null;
  return figure("Trials done", [count(done), of], progressBar(study));
}

function endsFigure({ study }) {
  const { counts } = study;
  const failed = counts.failed ? `${count(counts.failed)} failed` : "none failed";
  return figure("Pruned early", count(counts.pruned), note(counts.cancelled ? `${failed}, ${count(counts.cancelled)} cancelled` : failed));
}

function timeFigure({ study, readAt }) {
  const { budget } = study;
  const since = elapsed(study.started_at ?? study.created_at, study.finished_at);
  const bound = budget.hours ? ` of ${budget.hours} h` : "";
  if (ENDED.includes(study.state)) return figure("Duration", since, note(budget.hours ? `budget ${budget.hours} h` : "no time limit"));
  const left = study.seconds_left == null ? "–" : duration(1000 * study.seconds_left - (Date.now() - readAt));
  return figure("Time left", left, note(`${since}${bound} so far`));
}

function savedFigure({ study }) {
  const { features_seconds: features, duplicates_seconds: duplicates } = study.saved;
  const parts = [[features, "stored outputs"], [duplicates, "duplicates"]].filter(([value]) => value >= 1);
  const total = parts.reduce((sum, [value]) => sum + value, 0);
  const causes = parts.map(([value, by]) => `${duration(1000 * value)} by ${by}`).join(", ");
  return figure("Compute saved", total ? duration(1000 * total) : "–", note(causes || (ENDED.includes(study.state) ? "nothing was shared" : "nothing yet")));
}

// Also called once a second, to update times.
export function showFigures(model) {
  const { counts } = model.study;
  byId("figures").replaceChildren(
    bestFigure(model), doneFigure(model), figure("Running", count(counts.running), note(`${count(counts.queued)} queued`)), endsFigure(model), timeFigure(model), savedFigure(model),
  );
}

function showActions(model, refresh) {
  const allowed = Object.entries(ACTIONS).filter(([, [, states]]) => states.includes(model.study.state));
  const changes = allowed.map(([change, [label]]) => button(change, label, () => act(model, change, refresh)));
  reconcile(byId("actions"), [...changes, button("danger", "Delete", () => remove(model))]);
}

function button(kind, label, press) {
  return el("button", { class: `button ${kind}`, type: "button", "data-key": kind, "data-print": label, onclick: press }, label);
}

async function act(model, change, refresh) {
  const { name } = model.study;
  if (change === "stop" && !(await confirmed({ title: `Stop “${name}”?`, text: "Its open trials are cancelled. Reported metrics are kept, and the study can be resumed.", action: "Stop the study", danger: true }))) return;
  await attempt(async () => {
    await changeStudy(model.key, change);
    await refresh();
  });
}

async function remove(model) {
  const { name, created } = model.study;
  const text = `The study and its ${plural(created, "trial", "trials")} are removed, with their metrics and logs. This cannot be undone.`;
  if (!(await confirmed({ title: `Delete “${name}”?`, text, action: "Delete the study", danger: true }))) return;
  await attempt(async () => {
    await deleteStudy(model.key);
    location.assign(at("/"));
  });
}

async function attempt(what) {
  try {
    await what();
  } catch (error) {
    showNotice(byId("notice"), error.message);
  }
}

export function showHead(model, refresh) {
  const { study } = model;
  const { spec } = study;
  document.title = `${study.name} · Thawline`;
  byId("name").textContent = study.name;
  renew(byId("state"), [study.state, study.phase], () => [statePill(study.state), " ", phaseMark(study.phase)]);
  byId("subtitle").textContent = `${subject(spec)[0][1]} · ${spec.sampler.name} sampler · ${spec.pruner.name} pruner · created ${ago(study.created_at)}`;
  byId("copy").href = at(`/new?from=${encodeURIComponent(study.name)}`);
  byId("copy").hidden = study.task.external; // it is a file, and has no form
  byId("extend").hidden = study.state === "failed" || ["running", "done"].includes(study.phase); // a failed study must be resumed first; a larger budget would invalidate the confirmation
  byId("queue").hidden = ENDED.includes(study.state) || study.phase === "running"; // the search is complete
  showNotice(byId("notice"), study.reason ?? study.waiting);
  showActions(model, refresh);
  showFigures(model);
}
