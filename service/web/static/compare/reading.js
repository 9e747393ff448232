// Reads the compared trials with their studies and metrics.

import { getMetrics, getStudy, getTrial } from "../api.js";
import { drawingOf } from "../reports.js";

// Reads one trial: {text, key, number, study, trial, rows, drawing}; `drawing` is the task's module. Throws a Problem if the study or trial does not exist.
async function readOne({ text, study: key, number }, studies) {
  if (number === null) throw new Error("must have the form STUDY:NUMBER.");
  if (!studies.has(key)) studies.set(key, getStudy(key)); // read before its trials, so that later events cover every change after this read
  const study = await studies.get(key);
  const [trial, { rows }, drawing] = await Promise.all([getTrial(key, number), getMetrics(key, number), drawingOf(study.task)]);
  return { text, key, number, study, trial, rows, drawing };
}

// Reads all trials concurrently: {found, missing: [{text, why}]}, both in the order of the URL.
export async function readTrials(chosen) {
  const studies = new Map();
  const read = await Promise.allSettled(chosen.map((one) => readOne(one, studies)));
  const found = read.filter((one) => one.status === "fulfilled").map((one) => one.value);
  const missing = read.flatMap((one, index) => (one.status === "rejected" ? [{ text: chosen[index].text, why: one.reason.message }] : []));
  return { found, missing };
}

// Reads a trial again.
export async function readAgain(one) {
  return readOne({ text: one.text, study: one.key, number: one.number }, new Map());
}
