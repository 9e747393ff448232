// The chart of the search: each trial's value by trial number, and the best value so far.

import { el } from "../dom.js";
import { count, metric, plural } from "../format.js";
import { beyondWords } from "../range.js";
import { current, trialAddress } from "../trials.js";
import { colours, gridLines, marksBelow, Plot } from "./plot.js";
import { bounds, linear, ticks, valueScale } from "./scales.js";
import { hideTip, say, showTip } from "./tip.js";

const EDGE = { left: 60, right: 12, top: 12, bottom: 26 };
const REACH = 22; // px; maximum distance of the pointer from a point
const MARKS = { complete: "●", running: "○", pruned: "▽", failed: "✕" };

export class History {
  constructor(host, model) {
    this.model = model;
    this.points = [];
    this.chosen = null; // index into the points
    this.caption = el("p", { class: "quiet beyond" });
    host.after(this.caption);
    this.plot = new Plot(host, (context, size) => this.paint(context, size), (context) => this.paintChosen(context));
    host.addEventListener("pointermove", (event) => this.choose(this.nearest(this.plot.at(event)), event));
    host.addEventListener("pointerleave", () => this.choose(null));
    host.addEventListener("blur", () => this.choose(null));
    host.addEventListener("click", () => this.open());
    host.addEventListener("keydown", (event) => this.key(event));
  }

  update() {
    const { model } = this;
    const { metric: name } = model.objective;
    this.points = model.list().filter((trial) => trial.state in MARKS && (trial.state === "failed" || current(trial, name) != null));
    this.values = this.points.map((trial) => current(trial, name));
    this.chosen = null;
    const complete = this.points.filter((trial) => trial.state === "complete");
    const best = model.study.best ? `; the best is ${metric(model.measure, model.study.best.value)}, trial ${model.study.best.number}` : "";
    this.plot.host.setAttribute("aria-label", `${name} of ${plural(complete.length, "complete trial", "complete trials")}${best}`);
    this.plot.repaint();
  }

  place({ width, height }) {
    const { model } = this;
    const counted = this.values.filter((value, index) => value != null && this.points[index].state === "complete");
    const { measure } = model;
    const shown = this.values.filter((value) => value != null);
    this.bounds = bounds(measure, counted.length ? counted : shown);
    const { low, high } = this.bounds;
    const last = Math.max((model.list().at(-1)?.number ?? 0), 1);
    this.x = linear(0, last, EDGE.left + 8, width - EDGE.right - 8);
    this.scale = valueScale(measure, this.bounds, height - EDGE.bottom - 6, EDGE.top, Math.max(3, height / 42));
    this.y = this.scale.place;
    this.beyond = this.values.map((value) => (value == null ? 0 : value > high ? 1 : value < low ? -1 : 0));
    this.caption.textContent = [this.bounds.log ? "Logarithmic scale." : null, beyondWords(measure, shown, low, high)].filter(Boolean).join(" · ");
    this.spots = this.points.map((trial, index) => /** @type {[number, number]} */ ([this.x(trial.number), this.values[index] == null ? height - EDGE.bottom - 6 : this.y(this.values[index])]));
    return last;
  }

  paint(context, size) {
    if (!this.values?.length) return;
    const last = this.place(size);
    gridLines(context, { left: EDGE.left, right: size.width - EDGE.right }, this.scale.marks, this.scale.labels, this.y);
    const numbers = ticks(0, last, Math.max(2, size.width / 110)).filter(Number.isInteger);
    marksBelow(context, numbers, numbers.map((number) => (number ? count(number) : "trial 0")), this.x, size.height - EDGE.bottom);
    for (const state of ["failed", "pruned", "running", "complete"]) this.paintState(context, state);
    this.paintBaseline(context, size);
    this.paintStairs(context, last);
  }

  paintState(context, state) {
    const { ice, violet, bad, good } = colours();
    const size = this.points.length > 600 ? 2.6 : 3.5;
    context.beginPath();
    this.points.forEach((trial, index) => trial.state === state && mark(context, this.beyond[index] ? (this.beyond[index] > 0 ? "above" : "pruned") : state, this.spots[index], this.beyond[index] ? 5 : size));
    context.lineWidth = 1.4;
    context.globalAlpha = state === "pruned" ? 0.55 : 0.8;
    context.fillStyle = ice;
    context.strokeStyle = { failed: bad, pruned: violet, running: good }[state] ?? ice;
    if (state === "complete") context.fill();
    else context.stroke();
    context.globalAlpha = 1;
  }

  paintBaseline(context, { width }) {
    const { baseline } = this.model;
    if (!baseline) return;
    const at = this.y(baseline.value);
    context.strokeStyle = context.fillStyle = colours().quiet;
    context.setLineDash([5, 4]);
    context.beginPath();
    context.moveTo(EDGE.left, at);
    context.lineTo(width - EDGE.right, at);
    context.stroke();
    context.setLineDash([]);
    context.textAlign = "right";
    context.fillText("baseline", width - EDGE.right - 4, at + 9);
  }

  paintStairs(context, last) {
    const { warm, surface } = colours();
    let best = /** @type {any} */ (null);
    context.beginPath();
    this.points.forEach((trial, index) => {
      if (trial.state !== "complete" || (best !== null && this.model.compare(this.values[index], this.values[best]) >= 0)) return;
      const [x, y] = this.spots[index];
      if (best === null) context.moveTo(x, y);
      else context.lineTo(x, this.spots[best][1]);
      context.lineTo(x, y);
      best = index;
    });
    if (best === null) return;
    context.lineTo(this.x(last), this.spots[best][1]);
    context.strokeStyle = warm;
    context.lineWidth = 2;
    context.stroke();
    ring(context, this.spots[best], 5.5, warm, surface);
  }

  paintChosen(context) {
    if (this.chosen === null || !this.spots?.[this.chosen]) return;
    ring(context, this.spots[this.chosen], 6, colours().text, colours().surface);
  }

  nearest({ x, y }) {
    let [found, least] = [null, REACH ** 2];
    (this.spots ?? []).forEach(([left, top], index) => {
      const distance = (left - x) ** 2 + (top - y) ** 2;
      if (distance < least) [found, least] = [index, distance];
    });
    return found;
  }

  choose(index, event) {
    if (index === this.chosen && index === null) return;
    this.chosen = index;
    this.plot.host.classList.toggle("pointing", index !== null);
    this.plot.repaintOver();
    if (index === null) return hideTip();
    const box = this.plot.host.getBoundingClientRect();
    const at = event ? { x: event.clientX, y: event.clientY } : { x: box.left + this.spots[index][0], y: box.top + this.spots[index][1] };
    showTip(this.points[index], this.model.measure, this.values[index], at);
  }

  key(event) {
    const step = { ArrowRight: 1, ArrowLeft: -1, Home: -Infinity, End: Infinity }[event.key];
    if (event.key === "Enter") this.open();
    if (event.key === "Escape") this.choose(null);
    if (step === undefined || !this.points.length) return;
    event.preventDefault();
    const last = this.points.length - 1;
    this.choose(Math.max(0, Math.min(last, (this.chosen ?? (step > 0 ? -1 : last + 1)) + step)));
    say(this.points[this.chosen], this.model.measure, this.values[this.chosen]);
  }

  open() {
    if (this.chosen !== null) location.assign(trialAddress(this.model.key, this.points[this.chosen].number));
  }
}

function mark(context, state, [x, y], size) {
  if (state === "failed") {
    context.moveTo(x - size, y - size);
    context.lineTo(x + size, y + size);
    context.moveTo(x + size, y - size);
    context.lineTo(x - size, y + size);
  } else if (state === "above") {
    context.moveTo(x - size, y + size * 0.8);
    context.lineTo(x + size, y + size * 0.8);
    context.lineTo(x, y - size);
    context.closePath();
  } else if (state === "pruned") {
    context.moveTo(x - size, y - size * 0.8);
    context.lineTo(x + size, y - size * 0.8);
    context.lineTo(x, y + size);
    context.closePath();
  } else {
    context.moveTo(x + size, y);
    context.arc(x, y, size, 0, 2 * Math.PI);
  }
}

export function ring(context, [x, y], size, fill, edge) {
  context.beginPath();
  context.arc(x, y, size, 0, 2 * Math.PI);
  context.fillStyle = fill;
  context.fill();
  context.lineWidth = 2;
  context.strokeStyle = edge;
  context.stroke();
}

// The legend of the marks, for states that occur.
export function legend(counts) {
  return [el("span", { class: "key best-key" }, "best so far"), ...Object.entries(MARKS).filter(([state]) => counts[state]).map(([state, sign]) =>
    el("span", { class: `key ${state}` }, el("span", { "aria-hidden": "true" }, `${sign} `), `${count(counts[state])} ${state}`))];
}
