// The content of the chart as a table. A run links to its trial if the trial is known.

import { el } from "../dom.js";
import { bytes, count, duration, metric } from "../format.js";
import { onTest } from "../measures.js";
import { trialAddress } from "../trials.js";
import { inOrder, isRecommended, marksOf, meanOf } from "./arms.js";
import { gainInterval, interval, middle } from "./estimates.js";

const heads = (...names) => el("thead", {}, el("tr", {}, names.map(([name, number]) => el("th", { scope: "col", class: number ? "number" : null }, name))));

function runs(measure, arm, study) {
  return arm.test.map((value, index) => {
    const number = arm.runs?.[index];
    const text = metric(measure, value);
    return [index ? ", " : "", number == null ? text : el("a", { href: trialAddress(study, number), title: `Round ${arm.rounds[index]}, trial ${number}` }, text)];
  });
}

function behind(measure, { behind: by }) {
  return by ? gainInterval(measure, { low: -by.high, high: -by.low }) : "–";
}

function price({ price: paid }) {
  return paid ? `${count(paid.trainable)} parameters, ${duration(1000 * paid.train_seconds)}, ${bytes(paid.peak_memory)}` : "–";
}

function row(verdict, arm, study) {
  const { measure } = verdict;
  const mean = meanOf(arm);
  const notes = [...marksOf(verdict, arm), arm.tied && verdict.tied.length > 1 ? "tied" : null, arm.failed].filter(Boolean);
  return el("tr", { class: isRecommended(verdict, arm) ? "chosen" : null },
    el("th", { scope: "row" }, el("a", { href: trialAddress(study, arm.trial) }, `Trial ${arm.trial}`)),
    el("td", { class: "number" }, arm.searched === null ? "–" : metric(measure, arm.searched)),
    el("td", { class: "number" }, mean === null ? "–" : arm.mean ? `${middle(measure, arm.mean)} (${interval(measure, arm.mean)})` : metric(measure, mean)),
    el("td", { class: "number" }, behind(measure, arm)),
    el("td", { class: "runs" }, arm.test.length ? runs(measure, arm, study) : "none yet"),
    el("td", { class: "remark" }, price(arm)),
    el("td", { class: "remark" }, notes.join(", ")));
}

export function armsTable(verdict, study) {
  return el("div", { class: "scroll", tabindex: 0, role: "group", "aria-label": "The confirmation as a table" },
    el("table", { class: "arms-table" },
      heads(["Configuration"], ["In the search", true], [`Mean ${onTest(verdict)}`, true], ["Difference from the best", true], ["Runs"], ["Cost of a run"], ["Note"]),
      el("tbody", {}, inOrder(verdict).map((arm) => row(verdict, arm, study)))));
}
