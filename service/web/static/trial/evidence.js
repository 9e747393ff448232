// The evidence of a pruning decision: the trial's value, the threshold, and the compared trials, as a strip of dots and as a table.

import { mark, valueAxis } from "../axis.js";
import { el, svg } from "../dom.js";
import { metric, plural } from "../format.js";
import { measureIn } from "../measures.js";
import { trialAddress } from "../trials.js";
import { facts } from "./record.js";

const HEIGHT = 46; // px
const LEVELS = [0, -7, 7, -13, 13]; // px; vertical offsets of dots that would overlap
const NEAR = 1.4; // percent of the width; closer dots overlap
const BY_BEST = ["median", "percentile"];

const ruleOf = ({ rule }) => (rule.name === "patient" && rule.wrapped.name !== "none" ? rule.wrapped : rule);

function inWords({ name, wrapped, ...options }) {
  const shown = Object.entries(options).filter(([, value]) => value !== null).map(([option, value]) => `${option.replaceAll("_", " ")} ${value}`);
  return `${name}${shown.length ? ` (${shown.join(", ")})` : ""}${wrapped && wrapped.name !== "none" ? ` around ${inWords(wrapped)}` : ""}`;
}

function needed(measure, { threshold, value }) {
  if (threshold === null) return null;
  return `${value < threshold ? "at least" : "at most"} ${metric(measure, threshold)}`;
}

function company(evidence) {
  const { peers_total: total, rung, bracket } = evidence;
  if (!total) return null;
  if (rung !== null) return `${plural(total, "other", "others")} in rung ${rung}${bracket === null ? "" : ` of bracket ${bracket}`}`;
  if (BY_BEST.includes(ruleOf(evidence).name)) return plural(total, `complete trial at epoch ${evidence.step}`, `complete trials at epoch ${evidence.step}`);
  return "the best trial, epoch by epoch";
}

function levelled(places) {
  const known = LEVELS.map(() => -Infinity);
  return [...places].sort((one, other) => one.at - other.at).map((place) => {
    const level = Math.max(0, known.findIndex((last) => place.at - last >= NEAR));
    known[level] = place.at;
    return { ...place, y: HEIGHT / 2 + LEVELS[level] };
  });
}

function strip(measure, evidence) {
  const { value, threshold, peers } = evidence;
  const values = [...peers.map((peer) => peer.value), value, threshold].filter((one) => one !== null);
  const { place } = valueAxis(values, measure, 0, 1);
  const ends = [Math.min, Math.max].map((choose) => values.reduce((found, one) => choose(found, one)));
  const [from, to] = ends.map(place);
  const at = (number) => (to > from ? 1 + (98 * (place(number) - from)) / (to - from) : 50);
  const dots = levelled(peers.map((peer) => ({ ...peer, at: at(peer.value) })));
  const label = [`this trial ${metric(measure, value)}`, threshold === null ? null : `needed ${metric(measure, threshold)}`, `others from ${metric(measure, ends[0])} to ${metric(measure, ends[1])}`];
  return el("figure", { class: "strip" },
    svg("svg", { width: "100%", height: HEIGHT, role: "img", "aria-label": label.filter(Boolean).join(", ") },
      svg("line", { class: "ground", x1: "0%", x2: "100%", y1: HEIGHT / 2, y2: HEIGHT / 2 }),
      dots.map((dot) => svg("circle", { class: "peer", cx: `${dot.at}%`, cy: dot.y, r: 4 }, svg("title", {}, `Trial ${dot.number}: ${metric(measure, dot.value)}`))),
      threshold === null ? null : svg("line", { class: "needed", x1: `${at(threshold)}%`, x2: `${at(threshold)}%`, y1: 2, y2: HEIGHT - 2 }),
      svg("circle", { class: "own", cx: `${at(value)}%`, cy: HEIGHT / 2, r: 7 }, svg("title", {}, `This trial: ${metric(measure, value)}`))),
    el("figcaption", {}, el("span", {}, mark(measure, ends[0])), el("span", { class: "legend" }, el("span", { class: "own" }, "● this trial"), threshold === null ? null : el("span", { class: "needed" }, "┃ needed"), el("span", { class: "peer" }, "● others")), el("span", {}, mark(measure, ends[1]))));
}

function peerTable(study, measure, { peers, peers_total: total }) {
  const rows = peers.map((peer) => el("tr", {}, el("th", { scope: "row" }, el("a", { href: trialAddress(study, peer.number) }, `Trial ${peer.number}`)), el("td", { class: "number" }, metric(measure, peer.value))));
  return el("details", { class: "disclosure" },
    el("summary", {}, total > peers.length ? `The ${peers.length} nearest of ${total}` : plural(total, "trial as a table", "trials as a table")),
    el("div", { class: "scroll steps-scroll", tabindex: 0, role: "group", "aria-label": "Trials it was compared with" },
      el("table", { class: "steps" }, el("thead", {}, el("tr", {}, el("th", { scope: "col" }, "Trial"), el("th", { scope: "col", class: "number" }, measure.name))), el("tbody", {}, rows))));
}

// The content of the panel. `key`: the study's key in URLs.
export function evidencePanel(study, key, evidence) {
  const { metric: name, value, step, peers } = evidence;
  const measure = measureIn(study, name);
  const judged = BY_BEST.includes(ruleOf(evidence).name) ? `Best ${name} up to epoch ${step}` : `${name} after epoch ${step}`;
  return [
    facts([[judged, value === null ? evidence.sentence : metric(measure, value)], ["Needed", needed(measure, evidence)], ["Compared with", company(evidence)], ["Rule", inWords(evidence.rule)]]),
    value !== null && peers.length ? [strip(measure, evidence), peerTable(key, measure, evidence)] : null,
  ];
}
