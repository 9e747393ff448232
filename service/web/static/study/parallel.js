// Parallel coordinates: one line for each complete trial across the axes of the parameters and the objective, coloured by its value.
// A range dragged along an axis becomes a term of the table's filter; trials that do not match the filter are dimmed.

import { el } from "../dom.js";
import { metric, plural } from "../format.js";
import { robustRange } from "../range.js";
import { trialAddress } from "../trials.js";
import { axesOf } from "./axes.js";
import { withTerm } from "./filter.js";
import { ring } from "./history.js";
import { colours, Plot } from "./plot.js";
import { hideTip, showTip } from "./tip.js";

const EDGE = { left: 54, right: 66, top: 34, bottom: 36 };
const NEAR_AN_AXIS = 16; // px
const SNAP = 6;
const REACH = 12;
const AT_A_TIME = 60;
const WIDEST_LABEL = 12; // characters
const SHADES = 24;
// Cividis: perceptually uniform, and safe for colour-blind readers.
const CIVIDIS = [[0, 32, 76], [0, 42, 102], [43, 68, 110], [77, 86, 111], [104, 104, 112], [124, 123, 120], [149, 143, 120], [177, 165, 112], [205, 188, 96], [230, 211, 76], [255, 233, 69]];

// From the worst (0) to the best (1). The best has the highest contrast with the page.
function shade(share, dark) {
  const along = dark ? 0.2 + 0.8 * share : 0.86 * (1 - share);
  const at = along * (CIVIDIS.length - 1);
  const [low, high] = [CIVIDIS[Math.floor(at)], CIVIDIS[Math.ceil(at)]];
  return `rgb(${low.map((part, index) => Math.round(part + (at % 1) * (high[index] - part))).join(" ")})`;
}

const clipped = (text, most = WIDEST_LABEL) => (text.length > most ? `${text.slice(0, most - 1)}…` : text);

export class Parallel {
  // `filter()` returns the filter text, `setFilter(text)` sets it.
  constructor(host, model, { filter, setFilter }) {
    this.model = model;
    this.filter = filter;
    this.setFilter = setFilter;
    this.trials = [];
    this.matches = /** @type {(trial: object) => boolean} */ (() => true);
    this.chosen = null;
    this.brush = null;
    this.caption = el("p", { class: "quiet beyond" });
    host.after(this.caption);
    this.plot = new Plot(host, (context, size) => this.paint(context, size), (context) => this.paintOver(context));
    host.addEventListener("pointerdown", (event) => this.press(event));
    host.addEventListener("pointermove", (event) => this.move(event));
    host.addEventListener("pointerup", () => this.release());
    host.addEventListener("pointercancel", () => this.drop());
    host.addEventListener("pointerleave", () => this.brush || this.choose(null));
  }

  // `filter`: the filter text. If it has not changed, only newly completed trials change the chart.
  update(matches, filter) {
    const { model } = this;
    const print = JSON.stringify([filter, model.study.counts.complete, model.parameters]);
    this.matches = matches;
    if (print === this.print) return;
    this.print = print;
    this.trials = model.list().filter((trial) => trial.state === "complete" && trial.value !== null).sort((left, right) => model.compare(right.value, left.value));
    this.chosen = null;
    this.plot.host.style.setProperty("--axes", model.parameters.length + 1);
    const shown = this.trials.filter(matches).length;
    this.plot.host.setAttribute("aria-label", `Parameters and ${model.objective.metric} of ${plural(this.trials.length, "complete trial", "complete trials")}, ${shown} of them match the filter`);
    this.plot.repaint();
  }

  *paint(context, { width, height }) {
    if (!this.trials.length) return;
    this.axes = axesOf(this.model, this.trials, EDGE.top, height - EDGE.bottom);
    this.caption.textContent = this.axes.at(-1).beyond ?? "";
    const gap = (width - EDGE.left - EDGE.right) / Math.max(1, this.axes.length - 1);
    this.axes.forEach((axis, index) => Object.assign(axis, { x: EDGE.left + index * gap }));
    this.missing = height - EDGE.bottom + 12;
    const shares = this.shares();
    const out = this.trials.filter((trial) => !this.matches(trial));
    yield* this.paintLines(context, out, () => colours().line, 0.5);
    yield* this.paintLines(context, this.trials.filter(this.matches), (trial) => shade(shares.get(trial), colours().dark), Math.min(0.75, 9 / Math.sqrt(this.trials.length)));
    this.axes.forEach((axis) => this.paintAxis(context, axis, height));
  }

  // The shade of each value between the worst one in range and the best, in steps; the lowest tenth has one shade.
  shares() {
    const { low, high } = robustRange(this.trials.map((trial) => trial.value)) ?? {};
    const values = this.trials.map((trial) => Math.min(high, Math.max(low, trial.value)));
    const [worst, best] = [values[Math.floor(values.length / 10)], values.at(-1)];
    const span = best - worst || 1;
    return new Map(this.trials.map((trial) => [trial, Math.round(Math.min(1, Math.max(0, (trial.value - worst) / span)) * SHADES) / SHADES]));
  }

  *paintLines(context, trials, colour, alpha) {
    context.lineWidth = 1.1;
    for (let from = 0; from < trials.length; from += AT_A_TIME) {
      context.globalAlpha = alpha;
      for (const trial of trials.slice(from, from + AT_A_TIME)) {
        context.strokeStyle = colour(trial);
        this.trace(context, trial);
      }
      context.globalAlpha = 1;
      yield;
    }
  }

  height(axis, trial) {
    const value = axis.of(trial);
    return value === undefined ? this.missing : (axis.place(value) ?? this.missing);
  }

  trace(context, trial) {
    context.beginPath();
    this.axes.forEach((axis, index) => (index ? context.lineTo(axis.x, this.height(axis, trial)) : context.moveTo(axis.x, this.height(axis, trial))));
    context.stroke();
  }

  paintAxis(context, axis, height) {
    const { x, label, marks } = axis;
    const { quiet, text, surface } = colours();
    context.strokeStyle = quiet;
    context.lineWidth = 1;
    context.beginPath();
    context.moveTo(x, EDGE.top);
    context.lineTo(x, height - EDGE.bottom);
    context.stroke();
    context.textAlign = "center";
    context.fillStyle = text;
    context.fillText(clipped(label, 16), x, EDGE.top - 18);
    if (this.trials.some((trial) => axis.of(trial) === undefined)) context.fillText("none", x, this.missing + 10);
    context.textAlign = "left";
    context.lineJoin = "round";
    for (const [y, label] of marks) {
      context.strokeStyle = surface;
      context.lineWidth = 3;
      context.strokeText(clipped(label), x + 5, y);
      context.fillText(clipped(label), x + 5, y);
    }
  }

  paintOver(context) {
    if (!this.axes) return;
    const { text, ice, surface } = colours();
    if (this.brush) {
      const { axis, from, to } = this.brush;
      context.fillStyle = ice;
      context.globalAlpha = 0.3;
      context.fillRect(axis.x - 8, Math.min(from, to), 16, Math.abs(to - from));
      context.globalAlpha = 1;
    }
    if (this.chosen === null) return;
    context.strokeStyle = text;
    context.lineWidth = 2.4;
    this.trace(context, this.chosen);
    for (const axis of this.axes) ring(context, [axis.x, this.height(axis, this.chosen)], 3.5, text, surface);
  }

  axisAt({ x, y }) {
    return y > EDGE.top - 28 ? this.axes?.find((axis) => Math.abs(axis.x - x) < NEAR_AN_AXIS) : undefined;
  }

  press(event) {
    const at = this.plot.at(event);
    const axis = this.axisAt(at);
    if (!axis) return this.chosen && location.assign(trialAddress(this.model.key, this.chosen.number));
    this.plot.host.setPointerCapture(event.pointerId);
    this.choose(null);
    const from = this.within(at.y);
    this.brush = { axis, from, to: from };
  }

  // A position on the axis. Positions close to an end snap to it.
  within(y) {
    const [top, bottom] = [EDGE.top, this.plot.size.height - EDGE.bottom];
    return y < top + SNAP ? top : y > bottom - SNAP ? bottom : y;
  }

  move(event) {
    const at = this.plot.at(event);
    if (this.brush) {
      this.brush.to = this.within(at.y);
      return this.plot.repaintOver();
    }
    this.plot.host.classList.toggle("brushing", Boolean(this.axisAt(at)));
    this.choose(this.nearest(at), event);
  }

  // A drag sets the axis's filter; a click removes it.
  release() {
    if (!this.brush) return;
    const { axis, from, to } = this.brush;
    this.drop();
    this.setFilter(withTerm(this.filter(), axis.name, Math.abs(to - from) > 4 ? axis.range(from, to) : ""));
  }

  drop() {
    this.brush = null;
    this.plot.repaintOver();
  }

  nearest({ x, y }) {
    const index = this.axes?.findIndex((axis) => axis.x > x) ?? -1;
    if (index < 1 || this.axisAt({ x, y })) return null;
    const [left, right] = [this.axes[index - 1], this.axes[index]];
    const share = (x - left.x) / (right.x - left.x);
    let [found, least] = [null, REACH];
    for (const trial of this.trials) {
      if (!this.matches(trial)) continue;
      const distance = Math.abs(this.height(left, trial) * (1 - share) + this.height(right, trial) * share - y);
      if (distance <= least) [found, least] = [trial, distance];
    }
    return found;
  }

  choose(trial, event) {
    if (trial === this.chosen && trial === null) return;
    this.chosen = trial;
    this.plot.host.classList.toggle("pointing", trial !== null);
    this.plot.repaintOver();
    if (trial === null) hideTip();
    else showTip(trial, this.model.measure, trial.value, { x: event.clientX, y: event.clientY });
  }

  scaleWords() {
    const { low, high } = robustRange(this.trials.map((trial) => trial.value)) ?? {};
    const values = this.trials.map((trial) => Math.min(high, Math.max(low, trial.value)));
    const { measure } = this.model;
    return values.length ? [metric(measure, values[Math.floor(values.length / 10)]), metric(measure, values.at(-1))] : null;
  }
}
