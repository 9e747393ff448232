// Reads the compared trials: each with its study and metrics, and a sentence for each that is not there.

import { getMetrics, getStudy, getTrial } from "../api.js";
import { drawingOf } from "../reports.js";

// What is compared: {text, key, number, study, trial, rows, drawing}, the last of these draws the report. Raises the Problem of a study or trial that is not there.
async function readOne({ text, study: key, number }, studies) {
  if (number === null) throw new Error("it is not written as STUDY:NUMBER.");
  if (!studies.has(key)) studies.set(key, getStudy(key)); // before its trials: what happens meanwhile is told by later events
  const study = await studies.get(key);
  const [trial, { rows }, drawing] = await Promise.all([getTrial(key, number), getMetrics(key, number), drawingOf(study.task)]);
  return { text, key, number, study, trial, rows, drawing };
}

// All of them at once: {found, missing: [{text, why}]}, each in the order of the address.
export async function readTrials(chosen) {
  const studies = new Map();
  const read = await Promise.allSettled(chosen.map((one) => readOne(one, studies)));
  const found = read.filter((one) => one.status === "fulfilled").map((one) => one.value);
  const missing = read.flatMap((one, index) => (one.status === "rejected" ? [{ text: chosen[index].text, why: one.reason.message }] : []));
  return { found, missing };
}

// The same trial, read again.
export async function readAgain(one) {
  return readOne({ text: one.text, study: one.key, number: one.number }, new Map());
}
