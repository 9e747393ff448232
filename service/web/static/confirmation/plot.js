// The chart of a confirmation, one row for each configuration: its runs as dots, their mean with its interval, and the result in the
// search as a hollow dot, which shows the optimism of the search. A dashed line marks the baseline's mean. Rows are links.

import { mark, valueAxis } from "../axis.js";
import { el, svg } from "../dom.js";
import { metric } from "../format.js";
import { onTest } from "../measures.js";
import { beyondWords } from "../range.js";
import { trialAddress } from "../trials.js";
import { inOrder, inWords, isRecommended, marksOf, meanOf } from "./arms.js";

const NARROW = 620; // px; on narrower charts the name is above its row
const EDGE = { top: 8, bottom: 30, right: 14 };
const SPREAD = 4.5; // px between runs, so that runs with equal values are visible
const GROUP = 22; // px above the tied configurations for their caption

const layout = (width) => (width < NARROW ? { left: 14, row: 52, lane: 34, name: 15 } : { left: 218, row: 38, lane: 19, name: 23 });

const valuesOf = (arm) => [...arm.test, arm.searched, arm.mean?.low, arm.mean?.high].filter((value) => value != null);

function axis(measure, x, top, bottom) {
  return x.marks.map((value) => [
    svg("line", { class: "grid", x1: x.free(value), x2: x.free(value), y1: top, y2: bottom }),
    svg("text", { class: "tick", x: x.free(value), y: bottom + 19, "text-anchor": "middle" }, mark(measure, value)),
  ]);
}

function dots(measure, arm, x, y) {
  const middle = (arm.test.length - 1) / 2;
  return arm.test.map((value, index) => svg("circle", { class: "run", cx: x(value), cy: y + (index - middle) * Math.min(SPREAD, 14 / arm.test.length), r: 3.4 },
    svg("title", {}, `Round ${arm.rounds[index] ?? index + 1}: ${metric(measure, value)}`)));
}

function mean(measure, arm, x, y) {
  const value = meanOf(arm);
  if (value === null) return null;
  const { low, high } = arm.mean ?? {};
  return svg("g", { class: "mean" },
    low == null ? null : svg("path", { class: "interval", d: `M${x(low)} ${y - 6}v12M${x(low)} ${y}H${x(high)}M${x(high)} ${y - 6}v12` }),
    svg("path", { class: "middle", d: `M${x(value)} ${y - 8}l5.5 8l-5.5 8l-5.5 -8z` }, svg("title", {}, `Mean of ${arm.test.length}: ${metric(measure, value)}`)));
}

// The result in the search: a hollow dot, with a dotted line to the confirmed mean.
function searched(measure, arm, x, y) {
  if (arm.searched === null) return null;
  const value = meanOf(arm);
  return svg("g", { class: "searched" },
    value === null ? null : svg("line", { x1: x(arm.searched), x2: x(value), y1: y, y2: y }),
    svg("circle", { cx: x(arm.searched), cy: y, r: 6 }, svg("title", {}, `In the search: ${metric(measure, arm.searched)}`)));
}

function row(verdict, arm, { x, top, width, study }) {
  const { left, row: height, lane, name: at } = layout(width);
  const { measure } = verdict;
  const recommended = isRecommended(verdict, arm);
  const out = arm.failed || arm.stopped_after;
  const y = top + lane;
  const marks = marksOf(verdict, arm);
  return svg("a", { class: `arm${recommended ? " recommended" : ""}${out ? " out" : ""}${arm.baseline ? " baseline" : ""}`, href: trialAddress(study, arm.trial), "aria-label": inWords(verdict, arm) },
    svg("rect", { class: "ground", x: 1, y: top + 1, width: width - 2, height: height - 2, rx: 8 }),
    svg("text", { class: "name", x: 14, y: top + (width < NARROW ? at : marks.length ? 16 : at) },
      recommended ? svg("tspan", { class: "star" }, "★ ") : null, `Trial ${arm.trial}`, width < NARROW && marks.length ? svg("tspan", { class: "marks" }, `  ${marks.join(", ")}`) : null),
    width >= NARROW && marks.length ? svg("text", { class: "marks", x: 14, y: top + 30 }, marks.join(", ")) : null,
    svg("line", { class: "lane", x1: left, x2: width - EDGE.right, y1: y, y2: y }),
    searched(measure, arm, x.place, y), dots(measure, arm, x.place, y), mean(measure, arm, x.place, y),
    meanOf(arm) === null && arm.searched === null ? svg("text", { class: "marks", x: left + 4, y: y + 4 }, "no completed run") : null);
}

function baselineLine(verdict, x, top, bottom) {
  const arm = verdict.arms.find((one) => one.baseline);
  const value = arm ? meanOf(arm) : null;
  return value === null ? null : svg("line", { class: "of-baseline", x1: x.place(value), x2: x.place(value), y1: top, y2: bottom });
}

function beyondLine(measure, values, x, width) {
  const words = beyondWords(measure, values, x.low, x.high);
  return words ? svg("text", { class: "marks", x: width - EDGE.right, y: 12, "text-anchor": "end" }, words) : null;
}

function picture(verdict, study, width) {
  const { measure } = verdict;
  const arms = inOrder(verdict);
  const { left, row: height } = layout(width);
  const tied = verdict.tied.length > 1 ? verdict.tied.length : 0;
  const [top, rows] = [EDGE.top + (tied ? GROUP : 0), height * arms.length];
  const gap = tied && tied < arms.length ? 14 : 0; // between the tied configurations and the others
  const bottom = top + rows + gap;
  const x = valueAxis(arms.flatMap(valuesOf), measure, left + 8, width - EDGE.right - 8, Math.max(2, Math.floor((width - left) / 95)));
  const topOf = (index) => top + index * height + (tied && index >= tied ? gap : 0);
  return svg("svg", { viewBox: `0 0 ${width} ${bottom + EDGE.bottom}`, width, height: bottom + EDGE.bottom, role: "group", "aria-label": `${measure.name} ${onTest(verdict)}, one row for each of ${arms.length} configurations` },
    tied ? svg("g", { class: "tied" },
      svg("rect", { x: 0.5, y: EDGE.top + 0.5, width: width - 1, height: GROUP + tied * height + 3, rx: 10 }),
      svg("text", { x: 14, y: EDGE.top + 16 }, `${tied} statistically tied${verdict.state === "done" ? "" : " so far"}`)) : null,
    beyondLine(measure, arms.flatMap(valuesOf), x, width),
    axis(measure, x, top, bottom), baselineLine(verdict, x, top, bottom), arms.map((arm, index) => row(verdict, arm, { x, top: topOf(index), width, study })));
}

const key = (sign, words) => el("li", {}, svg("svg", { class: "sign", viewBox: "0 0 26 16", width: 26, height: 16, "aria-hidden": "true" }, sign), words);

function legend(verdict) {
  return el("ul", { class: "arms-legend" },
    key(svg("circle", { class: "run", cx: 13, cy: 8, r: 3.4 }), `a run ${onTest(verdict)}`),
    key(svg("g", { class: "mean" }, svg("path", { class: "interval", d: "M2 3v10M2 8H24M24 3v10" }), svg("path", { class: "middle", d: "M13 1l5 7l-5 7l-5 -7z" })), "mean, 95 % interval"),
    key(svg("g", { class: "searched" }, svg("circle", { cx: 13, cy: 8, r: 5.5 })), `result in the search${verdict.external ? "" : `, on validation ${verdict.example}s`}`),
    verdict.arms.some((arm) => arm.baseline && meanOf(arm) !== null) ? key(svg("line", { class: "of-baseline", x1: 13, x2: 13, y1: 0, y2: 16 }), "the baseline's mean") : null);
}

// Creates the chart: `{node, draw(verdict, study)}`. `study` is the study's key in URLs.
export function armsChart() {
  const canvas = el("div", { class: "arms-canvas" });
  const holder = el("div", { class: "arms-legend-holder" });
  const node = el("div", { class: "arms" }, canvas, holder);
  let shown = null;
  let painted = 0;

  function paint() {
    painted = canvas.clientWidth;
    const focused = document.activeElement?.closest?.(".arm");
    const at = focused && canvas.contains(focused) ? focused.getAttribute("href") : null;
    canvas.replaceChildren(picture(shown.verdict, shown.study, Math.max(260, painted || 640)));
    holder.replaceChildren(legend(shown.verdict));
    if (at) [...canvas.querySelectorAll(".arm")].find((arm) => arm.getAttribute("href") === at)?.focus();
  }

  new ResizeObserver(() => shown && canvas.clientWidth !== painted && paint()).observe(canvas);
  return {
    node,
    draw(verdict, study) {
      shown = { verdict, study };
      paint();
    },
  };
}
