// The study's best configuration, its data and its model.

import { bestAddress } from "../api.js";
import { at, byId, el, withCode } from "../dom.js";
import { count, plural, scalar } from "../format.js";
import { capital, examples, subject } from "../measures.js";
import { trialAddress } from "../trials.js";

const ROUNDING = 1e-9;

const list = (pairs) => pairs.map(([name, value]) => el("div", {}, el("dt", {}, name), el("dd", {}, value)));

// The configuration to use: the confirmed recommendation or, before there is one, the best trial of the search.
function chosen({ study, verdict, key }) {
  const { best, phase } = study;
  const confirmed = phase === "done" && verdict?.arms.find((arm) => arm.trial === verdict.recommended);
  const trial = (number) => el("a", { href: trialAddress(key, number) }, `trial ${number}`);
  if (confirmed) return { params: confirmed.params, words: ["Confirmed: the configuration of ", trial(confirmed.trial), confirmed.trial === best?.number ? "." : ", which the confirmation recommends."] };
  if (!best) return null;
  const tries = study.counts.complete > 1 ? `The best of ${count(study.counts.complete)} trials looks better than it is.` : "It was measured once.";
  return { params: best.params, words: ["Not confirmed: the configuration of ", trial(best.number), `. ${tries}`] };
}

export function showBest(model) {
  const { study, key } = model;
  const shown = chosen(model);
  const links = [
    el("a", { href: at(`/studies/${encodeURIComponent(key)}/best`) }, "Use it"),
    ...["yaml", "json"].map((format) => el("a", { href: bestAddress(key, format), download: `${study.id}-best.${format}` }, format.toUpperCase())),
  ];
  byId("best-links").replaceChildren(...(shown ? links : []));
  byId("best").replaceChildren(...(shown
    ? [el("dl", { class: "params" }, list(Object.entries(shown.params).map(([name, value]) => [name, scalar(value)]))), el("p", { class: "hint" }, shown.words)]
    : [el("p", { class: "quiet" }, "It appears here after the first complete trial.")]));
}

// Unused files: their number for each reason, with some names.
function leftOut(reasons) {
  return [
    el("p", {}, `${plural(reasons.reduce((sum, { count: files }) => sum + files, 0), "file", "files")} left out`),
    el("ul", {}, reasons.map(({ reason, count: files, examples }) => el("li", {},
      `${count(files)}: ${reason} `, examples.length ? el("span", { class: "mono" }, `(${examples.join(", ")}${files > examples.length ? ", …" : ""})`) : null))),
  ];
}

// How the data was read: assumptions, unused columns, skipped files.
function listing({ notes, groups, columns, unused_columns: unused, left_out: listed }, others) {
  const reasons = [...listed, ...others];
  const grouped = groups === null ? [] : [`${plural(groups, "group", "groups")} by the column ${columns.group}, each in one part of the split.`];
  const said = [...notes, ...grouped];
  return [
    ...(said.length ? [["Split", said.map((sentence) => el("p", {}, sentence))]] : []),
    ...(unused.length ? [["Unused columns", unused.join(", ")]] : []),
    ["Left out", reasons.length ? leftOut(reasons) : "nothing"],
  ];
}

// The study's weights, and the part of their file that was loaded.
function weights(named, loaded) {
  if (named === "random") return "none, random initial values";
  if (!loaded) return named;
  const { name, container, prefix, wrappers, unused, left_out: missed, examples } = loaded;
  const taken = [
    name,
    container.length ? `taken from the key ${container.join(".")}` : null,
    [prefix, ...wrappers].some(Boolean) ? `${[prefix, ...wrappers].filter(Boolean).join(", ")} removed from the names` : null,
    unused.length ? `also in the file, not used: ${unused.join(", ")}` : null,
    missed ? `${plural(missed, "tensor", "tensors")} of the file left out: ${examples.join(", ")}${missed > examples.length ? ", …" : ""}` : null,
  ].filter(Boolean);
  return taken.length ? [el("p", {}, named), el("p", { class: "muted" }, taken.join("; "))] : named;
}

// The score of the best constant prediction, and whether the best value is better.
function constant({ value, sentence, advice }, best, { direction }) {
  const better = !best || (direction === "maximize" ? best.value > value + ROUNDING : best.value < value - ROUNDING);
  return [el("p", {}, sentence), better ? null : el("p", { class: "fault" }, `The best result so far is not better than this. ${advice}`)];
}

// Workers that cannot train the study.
function unreadable(workers) {
  return workers.map(({ worker, what, detail }) => el("p", {}, el("span", { class: "mono" }, worker), ` cannot ${what === "script" ? "run" : "read"} the ${what}: ${detail}`));
}

// The files that the trials of a script depend on, with the beginnings of their digests.
function hashed(files) {
  return Object.entries(files).map(([name, sha256]) => el("p", {}, name, " ", el("span", { class: "mono muted", title: sha256 }, sha256.slice(0, 12))));
}

// Notices about parts of the study without effect, each with its place in the document.
function noticed(notices) {
  return notices.map(({ pointer, message }) => el("p", {}, el("strong", {}, pointer.split("/").slice(1).join(" / ")), withCode(`: ${message}`)));
}

// `drawing`: the task's module, once it is loaded.
export function showFacts({ study, drawing }) {
  const { spec, best, facts, sizes, majority, notes, notices, unavailable } = study;
  byId("facts").replaceChildren(...list([
    ...subject(spec).filter(([name]) => name !== "Model"),
    ...(notices.length ? [["Notices", noticed(notices)]] : []),
    ...(unavailable.length ? [["Not everywhere", unreadable(unavailable)]] : []),
    ...(spec.model ? [["Weights", weights(spec.model.weights, facts?.weights)]] : []),
    ...(facts?.files ? [["Files", hashed(facts.files)]] : []),
    ...(study.task.external ? [] : [[capital(examples(study)), sizes ? Object.entries(sizes).map(([part, size]) => `${count(size)} ${part}`).join(", ") : "checked by the first worker"]]),
    ...((facts && drawing?.facts?.(study)) ?? []),
    ...(facts?.listing ? listing(facts.listing, drawing?.leftOut?.(facts) ?? []) : []),
    ...(majority ? [["Constant prediction", constant(majority, best, spec.objective)]] : []),
    ...(notes.length ? [["Notes", notes.map((note) => el("p", {}, note))]] : []),
    ["Fixed", Object.entries(spec.fixed).map(([name, value]) => `${name} ${scalar(value)}`).join(", ") || "nothing"],
  ]));
}
