// Tables of a trial's attempts, checkpoints and environment.

import { el } from "../dom.js";
import { bytes, elapsed } from "../format.js";
import { ENDINGS, hasEnded } from "./story.js";

const WORDS = {
  python: "Python", torch: "PyTorch", torchvision: "torchvision", device: "Device", threads: "Threads", precision: "Precision",
  head_precision: "Precision of the head", tf32: "TF32",
  accelerator: "Accelerator", cuda: "CUDA", cudnn: "cuDNN", driver: "Driver", platform: "Platform",
};

const heads = (...names) => el("thead", {}, el("tr", {}, names.map(([name, number]) => el("th", { scope: "col", class: number ? "number" : null }, name))));
const scrolled = (label, table) => el("div", { class: "scroll", tabindex: 0, role: "group", "aria-label": label }, table);

export function instant(text) {
  if (text === null) return "–";
  const moment = new Date(text);
  return el("time", { datetime: text, title: moment.toString() }, moment.toLocaleString("en-GB", { dateStyle: "medium", timeStyle: "medium" }));
}

export const facts = (known) => el("dl", { class: "facts" }, known.filter(([, value]) => value != null).map(([name, value]) => el("div", {}, el("dt", {}, name), el("dd", {}, value))));

export function attemptsTable(trial) {
  const { attempts } = trial;
  if (!attempts.length) return el("p", { class: "quiet" }, hasEnded(trial) ? "It was never started." : "No worker has claimed it yet.");
  return scrolled("Attempts", el("table", { class: "attempts" },
    heads(["#", true], ["Worker"], ["Began"], ["Took", true], ["From epoch", true], ["To epoch", true], ["Its end"]),
    el("tbody", {}, attempts.map((one) => el("tr", {},
      el("th", { scope: "row", class: "number" }, String(one.attempt)),
      el("td", { class: "mono worker" }, one.worker),
      el("td", {}, instant(one.started_at)),
      el("td", { class: "number" }, elapsed(one.started_at, one.ended_at)),
      el("td", { class: "number" }, one.resumed ? String(one.resumed) : "the beginning"),
      el("td", { class: "number" }, one.step === null ? "–" : String(one.step)),
      el("td", { class: "remark" }, [one.ending ? ENDINGS[one.ending] : "under way", one.detail].filter(Boolean).join(": ")))))));
}

export function checkpointsTable(checkpoints) {
  if (!checkpoints.length) return el("p", { class: "quiet" }, "No checkpoint is kept.");
  return scrolled("Checkpoint files", el("table", {},
    heads(["After epoch", true], ["Size", true], ["SHA-256"]),
    el("tbody", {}, checkpoints.map((one) => el("tr", {},
      el("th", { scope: "row", class: "number" }, String(one.step)), el("td", { class: "number" }, bytes(one.size)), el("td", { class: "mono digest" }, one.sha256))))));
}

export function environmentFacts(environment) {
  const known = Object.entries(environment ?? {});
  if (!known.length) return el("p", { class: "quiet" }, "The run reports it when data and model are ready.");
  return facts(known.map(([name, value]) => [WORDS[name] ?? name, value]));
}
