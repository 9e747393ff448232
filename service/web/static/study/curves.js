// The learning curves of all trials: ended trials on the lower canvas; running trials, the best and the selected one on the upper canvas.

import { el } from "../dom.js";
import { metric, plural } from "../format.js";
import { beyondWords } from "../range.js";
import { trialAddress } from "../trials.js";
import { ring } from "./history.js";
import { valueAt } from "./measurements.js";
import { colours, gridLines, marksBelow, Plot } from "./plot.js";
import { linear, nearlyAll, ticks, valueScale } from "./scales.js";
import { hideTip, say, showTip } from "./tip.js";

const EDGE = { left: 60, right: 14, top: 12, bottom: 26 };
const REACH = 26; // px; maximum distance of the pointer from a curve
const AT_A_TIME = 25; // curves in one stroke
const REFIT_MILLISECONDS = 1000;

export class Curves {
  constructor(host, model, measurements) {
    this.model = model;
    this.measurements = measurements;
    this.chosen = null; // a trial's number
    this.drawn = new Set(); // numbers on the lower canvas
    this.fitted = { low: 0, high: 1, log: false, last: 1 };
    this.caption = el("p", { class: "quiet beyond" });
    host.after(this.caption);
    this.fittedAt = 0;
    this.plot = new Plot(host, (context, size) => this.paint(context, size), (context, size) => this.paintOver(context, size));
    host.addEventListener("pointermove", (event) => this.choose(this.nearest(this.plot.at(event)), event));
    host.addEventListener("pointerleave", () => this.choose(null));
    host.addEventListener("blur", () => this.choose(null));
    host.addEventListener("click", () => this.open());
    host.addEventListener("keydown", (event) => this.key(event));
  }

  // Repaints everything, for another metric.
  reset() {
    this.fit();
    this.plot.repaint();
    this.describe();
  }

  // Paints changes: ended curves are added to the lower canvas. Everything is repainted only if a value is outside the axes.
  update() {
    const moved = [...this.measurements.takeMoved()];
    if (moved.some((number) => !this.holds(this.measurements.byNumber.get(number))) && Date.now() - this.fittedAt > REFIT_MILLISECONDS) this.refit();
    const ended = this.ended().filter((number) => !this.drawn.has(number));
    if (ended.length && !this.x) return this.reset(); // the first curves: there are no axes yet
    if (ended.length && !this.plot.add((context, size) => this.paintEnded(context, size, ended))) this.plot.repaint();
    else this.plot.repaintOver();
    if (ended.length) this.describe();
  }

  refit() {
    const before = JSON.stringify(this.fitted);
    this.fit();
    if (JSON.stringify(this.fitted) !== before) this.plot.repaint();
  }

  fit() {
    const { byNumber } = this.measurements;
    const values = [];
    let last = this.epochs();
    for (const { steps, values: own } of byNumber.values()) {
      for (const value of own) values.push(value);
      last = Math.max(last, steps.at(-1) ?? 0);
    }
    this.fitted = { ...nearlyAll(this.measure, values), last };
    const { low, high, log } = this.fitted;
    this.caption.textContent = [log ? "Logarithmic scale." : null, beyondWords(this.measure, values, low, high)].filter(Boolean).join(" · ");
    this.fittedAt = Date.now();
  }

  get measure() {
    return this.model.measureOf(this.measurements.metric);
  }

  epochs() {
    const { spec } = this.model.study;
    return Math.max(1, spec.fixed.epochs ?? 0);
  }

  holds(curve) {
    const { low, high, last } = this.fitted;
    return !curve?.steps.length || (curve.steps.at(-1) <= last && curve.values.at(-1) >= low && curve.values.at(-1) <= high);
  }

  ended() {
    return [...this.measurements.byNumber.keys()].filter((number) => !["running", "queued"].includes(this.model.trials[number]?.state ?? "running"));
  }

  scales({ width, height }) {
    const { last } = this.fitted;
    this.x = linear(Math.min(1, last), Math.max(last, 2), EDGE.left + 4, width - EDGE.right - 6);
    this.scale = valueScale(this.measure, this.fitted, height - EDGE.bottom - 4, EDGE.top, Math.max(3, height / 55));
    this.y = this.scale.place;
  }

  *paint(context, size) {
    this.drawn.clear();
    if (!this.measurements.byNumber.size) return;
    this.scales(size);
    const { last } = this.fitted;
    gridLines(context, { left: EDGE.left, right: size.width - EDGE.right }, this.scale.marks, this.scale.labels, this.y);
    const steps = ticks(1, Math.max(last, 2), Math.max(2, size.width / 110)).filter((step) => Number.isInteger(step) && step >= 1);
    const marks = [...new Set([1, ...steps])].filter((step) => step === 1 || this.x(step) - this.x(1) > 60);
    marksBelow(context, marks, marks.map((step) => (step === 1 ? "epoch 1" : String(step))), this.x, size.height - EDGE.bottom);
    const order = this.ended();
    for (const dim of [true, false]) {
      const some = order.filter((number) => this.isDim(number) === dim);
      for (let from = 0; from < some.length; from += AT_A_TIME) {
        this.paintEnded(context, size, some.slice(from, from + AT_A_TIME));
        yield;
      }
    }
  }

  isDim(number) {
    return this.model.trials[number].state !== "complete";
  }

  paintEnded(context, size, numbers) {
    const { size: all } = this.measurements.byNumber;
    const many = all > 200;
    const faint = Math.min(1, 9 / Math.sqrt(all)); // many lines are drawn faintly, so that overlaps show density
    for (const dim of [true, false]) {
      const some = numbers.filter((number) => this.isDim(number) === dim);
      if (!some.length) continue;
      context.strokeStyle = dim ? colours().quiet : colours().ice;
      context.globalAlpha = (dim ? 0.3 : 0.55) * faint;
      context.lineWidth = many ? 1 : 1.3;
      context.setLineDash(dim && !many ? [4, 3] : []);
      this.stroke(context, size, some);
      context.setLineDash([]);
      if (dim) this.paintStops(context, some);
      context.globalAlpha = 1;
      this.paintBeyond(context, some);
    }
    for (const number of numbers) this.drawn.add(number);
  }

  stroke(context, { width, height }, numbers) {
    context.save();
    context.beginPath();
    context.rect(EDGE.left, 0, width - EDGE.left, height - EDGE.bottom);
    context.clip();
    context.beginPath();
    for (const number of numbers) this.trace(context, this.measurements.byNumber.get(number));
    context.stroke();
    context.restore();
  }

  trace(context, { steps, values }) {
    if (steps.length === 1) context.arc(this.x(steps[0]), this.y(values[0]), 1.5, 0, 2 * Math.PI);
    steps.forEach((step, index) => (index ? context.lineTo(this.x(step), this.y(values[index])) : context.moveTo(this.x(step), this.y(values[index]))));
  }

  // Triangles at the edge for values beyond the axis.
  paintBeyond(context, numbers) {
    const { low, high } = this.fitted;
    context.beginPath();
    for (const number of numbers) {
      const { steps, values } = this.measurements.byNumber.get(number);
      values.forEach((value, index) => {
        if (value >= low && value <= high) return;
        const [x, y, up] = [this.x(steps[index]), this.y(value), value > high ? 1 : -1];
        context.moveTo(x - 5, y + 4 * up);
        context.lineTo(x + 5, y + 4 * up);
        context.lineTo(x, y - 5 * up);
        context.closePath();
      });
    }
    context.fillStyle = colours().warm;
    context.fill();
  }

  // A short stroke at the end of trials that were stopped early, so that they differ not only in colour.
  paintStops(context, numbers) {
    context.beginPath();
    for (const number of numbers) {
      const { steps, values } = this.measurements.byNumber.get(number);
      if (!steps.length) continue;
      const [x, y] = [this.x(steps.at(-1)), this.y(values.at(-1))];
      context.moveTo(x, y - 3);
      context.lineTo(x, y + 3);
    }
    context.globalAlpha *= 1.6;
    context.stroke();
  }

  paintOver(context, size) {
    if (!this.measurements.byNumber.size || !this.x) return;
    const { good, warm, text, surface } = colours();
    const running = [...this.measurements.byNumber.keys()].filter((number) => this.model.trials[number]?.state === "running");
    context.strokeStyle = good;
    context.lineWidth = 1.6;
    this.stroke(context, size, running);
    for (const number of running) this.paintEnd(context, number, good, surface);
    const { best } = this.model.study;
    if (best) this.paintOne(context, size, best.number, warm, surface);
    if (this.chosen !== null) this.paintOne(context, size, this.chosen, text, surface);
  }

  paintOne(context, size, number, colour, surface) {
    if (!this.measurements.byNumber.get(number)?.steps.length) return;
    context.strokeStyle = colour;
    context.lineWidth = 2.4;
    this.stroke(context, size, [number]);
    this.paintEnd(context, number, colour, surface);
  }

  paintEnd(context, number, colour, surface) {
    const { steps, values } = this.measurements.byNumber.get(number);
    if (steps.length) ring(context, [this.x(steps.at(-1)), Math.max(EDGE.top, Math.min(this.y(values.at(-1)), this.plot.size.height - EDGE.bottom))], 4, colour, surface);
  }

  // The curve nearest to the pointer. Evaluates each curve at one step by binary search, which is fast enough for pointer moves.
  nearest({ x, y }) {
    if (!this.x) return null;
    const { last } = this.fitted;
    const step = linear(this.x(1), this.x(Math.max(last, 2)), 1, Math.max(last, 2))(x);
    let [found, least] = [null, REACH];
    for (const [number, curve] of this.measurements.byNumber) {
      const end = curve.steps.at(-1);
      const value = valueAt(curve, step > end && this.x(end) > x - 8 ? end : step);
      const distance = value === null || !this.model.trials[number] ? Infinity : Math.abs(this.y(value) - y);
      if (distance < least) [found, least] = [number, distance];
    }
    return found;
  }

  choose(number, event) {
    if (number === this.chosen && number === null) return;
    this.chosen = number;
    this.plot.host.classList.toggle("pointing", number !== null);
    this.plot.repaintOver();
    if (number === null) return hideTip();
    const box = this.plot.host.getBoundingClientRect();
    const { steps, values } = this.measurements.byNumber.get(number);
    const at = event ? { x: event.clientX, y: event.clientY } : { x: box.left + this.x(steps.at(-1)), y: box.top + this.y(values.at(-1)) };
    showTip(this.model.trials[number], this.measure, values.at(-1), at);
  }

  // Arrow keys move through the curves in the order of their last values, best first.
  key(event) {
    const step = { ArrowDown: 1, ArrowRight: 1, ArrowUp: -1, ArrowLeft: -1, Home: -Infinity, End: Infinity }[event.key];
    if (event.key === "Enter") this.open();
    if (event.key === "Escape") this.choose(null);
    if (step === undefined || !this.measurements.byNumber.size) return;
    event.preventDefault();
    const last = (number) => this.measurements.byNumber.get(number).values.at(-1);
    const order = [...this.measurements.byNumber.keys()].filter((number) => this.model.trials[number] && last(number) !== undefined).sort((left, right) => (this.measure.direction === "minimize" ? last(left) - last(right) : last(right) - last(left)));
    const at = this.chosen === null ? -1 : order.indexOf(this.chosen);
    this.choose(order[Math.max(0, Math.min(order.length - 1, at + step))]);
    say(this.model.trials[this.chosen], this.measure, last(this.chosen));
  }

  open() {
    if (this.chosen !== null) location.assign(trialAddress(this.model.key, this.chosen));
  }

  describe() {
    const { byNumber, metric: name } = this.measurements;
    const { best } = this.model.study;
    const top = best && byNumber.get(best.number)?.values.at(-1);
    const label = `${name} by epoch of ${plural(byNumber.size, "trial", "trials")}${top == null ? "" : `; the best one, trial ${best.number}, ended at ${metric(this.measure, top)}`}`;
    this.plot.host.setAttribute("aria-label", label);
  }
}
