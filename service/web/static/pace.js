// A trial's speed, and the work that it shares with other trials.

import { el } from "./dom.js";
import { bytes, count, duration, percent, plural } from "./format.js";
import { examples } from "./measures.js";

const ACTIVITIES = {
  data: "data", features: "frozen stages", forward: "forward", backward: "backward", measure: "measuring", waiting: "waiting for the pruner",
  control: "control plane",
};
const PLACES = { device: "on the device", memory: "in memory", disk: "on disk" };

const seconds = (value) => duration(1000 * value);

// The pace of a report event, in the format of the REST interface.
export function paceOf(reported) {
  const whole = Object.values(reported.seconds).reduce((sum, value) => sum + value, 0);
  const shares = Object.fromEntries(Object.entries(reported.seconds).filter(([, value]) => value > 0).map(([name, value]) => [name, value / whole]));
  return { samples_per_second: reported.samples_per_second, seconds_left: reported.seconds_left, memory: reported.memory, utilization: reported.utilization, shares };
}

// The utilization of the run's GPU or cores; null if it is unknown.
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

function saved({ saved_seconds: saved, lanes }) {
  if (!(saved > 0)) return "nothing so far";
  return lanes > 1 ? `${seconds(saved)} for all of them` : seconds(saved);
}

function reused(reuse) {
  const { lanes, depth, place } = reuse;
  return [
    ["Frozen stages", depth ? `output of ${plural(depth, "stage", "stages")} read, stored ${PLACES[place] ?? place}` : "computed by this run"],
    ["Training", lanes > 1 ? `together with ${plural(lanes - 1, "other trial", "other trials")}` : "alone"],
    ...(depth ? [["Saved", saved(reuse)]] : []),
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

// A trial's speed and reuse as a list, and a bar with the shares of its time.
export function paceDetail(trial, study, drawing) {
  const { reuse, pace } = trial;
  const known = [...(reuse ? [...(drawing.reuse?.(reuse) ?? []), ...reused(reuse)] : []), ...(pace ? [["Pace", facts(trial, study).join(" · ")]] : [])];
  if (!known.length) return el("p", { class: "quiet" }, "This trial has not reported its speed.");
  return [
    el("dl", { class: "facts" }, known.map(([name, value]) => el("div", {}, el("dt", {}, name), el("dd", {}, value)))),
    pace && Object.keys(pace.shares).length ? shareBar(pace.shares) : null,
  ];
}
