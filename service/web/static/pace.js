// A trial's speed and what it reused.

import { el } from "./dom.js";
import { bytes, count, duration, percent, plural } from "./format.js";
import { examples } from "./measures.js";

const ACTIVITIES = {
  data: "data", features: "frozen stages", forward: "forward", backward: "backward", measure: "measuring", waiting: "waiting for the pruner",
  control: "control plane",
};
const PLACES = { device: "on the device", memory: "in memory", disk: "on disk" };

const seconds = (value) => duration(1000 * value);

// The pace as the event of a report tells it, in the form that the interface has.
export function paceTold(told) {
  const whole = Object.values(told.seconds).reduce((sum, value) => sum + value, 0);
  const shares = Object.fromEntries(Object.entries(told.seconds).filter(([, value]) => value > 0).map(([name, value]) => [name, value / whole]));
  return { samples_per_second: told.samples_per_second, seconds_left: told.seconds_left, memory: told.memory, utilization: told.utilization, shares };
}

// How much of its GPU a run kept at work, or of the cores that it may use; null when nobody could tell.
export function inUse({ result, pace }) {
  if (pace?.utilization == null) return null;
  return `${percent(pace.utilization)} of ${result.environment?.accelerator === "cuda" ? "the GPU" : "its cores"} in use`;
}

function facts(trial, study) {
  const { samples_per_second: speed, seconds_left: left, memory } = trial.pace;
  return [
    speed == null ? null : `${count(Math.round(speed))} ${examples(study)}/s`,
    left == null ? null : `${seconds(left)} left`,
    memory == null ? null : bytes(memory),
    inUse(trial),
  ].filter(Boolean);
}

function spared({ saved_seconds: saved, lanes }) {
  if (!(saved > 0)) return "nothing so far";
  return lanes > 1 ? `${seconds(saved)} for the whole pass` : seconds(saved);
}

function reused(reuse) {
  const { lanes, depth, place } = reuse;
  return [
    ["Frozen stages", depth ? `output of ${plural(depth, "stage", "stages")} read, kept ${PLACES[place] ?? place}` : "computed by this run"],
    ["Pass", lanes > 1 ? `shared with ${plural(lanes - 1, "other trial", "other trials")}` : "not shared"],
    ...(depth ? [["Saved", spared(reuse)]] : []),
  ];
}

function shareBar(shares) {
  const parts = Object.keys(ACTIVITIES).filter((name) => shares[name]);
  const words = parts.map((name) => `${ACTIVITIES[name]} ${percent(shares[name])}`);
  const bar = parts.map((name) => {
    const part = el("span", { class: name, title: `${ACTIVITIES[name]} ${percent(shares[name])}` });
    part.style.setProperty("--share", shares[name]);
    return part;
  });
  const legend = parts.map((name, index) => el("li", { class: name }, words[index]));
  return [el("div", { class: "shares", role: "img", "aria-label": `Time: ${words.join(", ")}` }, bar), el("ul", { class: "shares-legend", "aria-hidden": "true" }, legend)];
}

// All that is known of a trial's speed and reuse, as a list and a bar of where its time goes.
export function paceDetail(trial, study, drawing) {
  const { reuse, pace } = trial;
  const known = [...(reuse ? [...(drawing.reuse?.(reuse) ?? []), ...reused(reuse)] : []), ...(pace ? [["Pace", facts(trial, study).join(" · ")]] : [])];
  if (!known.length) return el("p", { class: "quiet" }, "This trial has told nothing of its speed.");
  return [
    el("dl", { class: "facts" }, known.map(([name, value]) => el("div", {}, el("dt", {}, name), el("dd", {}, value)))),
    pace && Object.keys(pace.shares).length ? shareBar(pace.shares) : null,
  ];
}
