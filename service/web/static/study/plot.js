// A chart on two canvases: the lower one for data that changes rarely, the upper one for data that changes often.

import { el } from "../dom.js";

const BUDGET_MILLISECONDS = 9; // time in each frame for a paint that takes several frames
const NAMES = ["text", "quiet", "line", "surface", "ice", "warm", "good", "bad", "violet"];
const FONT = "11.5px system-ui, -apple-system, 'Segoe UI', Roboto, 'Noto Sans', sans-serif";
const plots = new Set();

/** @type {any} */
let palette = null;
let printing = false; // during `beforeprint`, browsers print only what is drawn directly on a canvas, and no copy of another canvas

// The page's colours as computed values, since a canvas does not resolve custom properties.
export function colours() {
  if (palette) return palette;
  const probe = el("span", { hidden: true });
  document.body.append(probe);
  palette = Object.fromEntries(NAMES.map((name) => {
    probe.style.color = `var(--${name})`;
    return [name, getComputedStyle(probe).color];
  }));
  palette.dark = matchMedia("(prefers-color-scheme: dark)").matches && document.documentElement.style.colorScheme !== "light";
  probe.remove();
  return palette;
}

function repaintAll() {
  palette = null;
  for (const plot of plots) plot.repaint();
}

// Print uses the light colours.
function toPaper(is) {
  printing = is;
  document.documentElement.style.colorScheme = is ? "light" : "";
  repaintAll();
}

matchMedia("(prefers-color-scheme: dark)").addEventListener("change", repaintAll);
addEventListener("beforeprint", () => toPaper(true));
addEventListener("afterprint", () => toPaper(false));

export class Plot {
  // `paint(context, size)` draws the lower canvas; it can be a generator that yields between parts. `paintOver` draws the upper one.
  /** @param {(context: CanvasRenderingContext2D, size: any) => any} paintOver */
  constructor(host, paint, paintOver = () => {}) {
    this.host = host;
    this.paint = paint;
    this.paintOver = paintOver;
    this.size = { width: 0, height: 0, ratio: 1 };
    this.frame = null;
    this.waiting = [];
    this.painted = false;
    this.base = el("canvas", { "aria-hidden": "true" });
    this.over = el("canvas", { "aria-hidden": "true" });
    this.buffer = document.createElement("canvas");
    host.classList.add("plot");
    host.prepend(this.base, this.over);
    plots.add(this);
    new ResizeObserver(() => this.fit()).observe(host);
    this.fit();
  }

  fit() {
    const { clientWidth: width, clientHeight: height } = this.host;
    const ratio = Math.min(devicePixelRatio || 1, 2);
    if (width === this.size.width && height === this.size.height && ratio === this.size.ratio) return;
    this.size = { width, height, ratio };
    for (const canvas of [this.base, this.over, this.buffer]) {
      canvas.width = Math.round(width * ratio);
      canvas.height = Math.round(height * ratio);
    }
    this.painted = false;
    this.repaint();
  }

  // Repaints everything. A long paint is spread over several frames and shown when it is complete; the first one is shown as it progresses.
  repaint() {
    cancelAnimationFrame(this.frame);
    this.frame = null;
    if (!this.size.width) return;
    if (printing) return this.paintDirectly();
    const context = this.cleared(this.buffer);
    const parts = this.paint(context, this.size);
    if (!parts?.next) this.show(true);
    else this.goOn(parts);
    this.repaintOver();
  }

  goOn(parts) {
    this.frame = null;
    const until = performance.now() + BUDGET_MILLISECONDS;
    let done = false;
    while (!done && performance.now() < until) ({ done } = parts.next());
    if (done || !this.painted) this.show(done);
    if (!done) this.frame = requestAnimationFrame(() => this.goOn(parts));
  }

  // For print there is only one canvas: clearing the upper one would erase the lower one.
  paintDirectly() {
    const context = this.cleared(this.base);
    const parts = this.paint(context, this.size);
    if (parts?.next) while (!parts.next().done);
    this.paintOver(context, this.size);
  }

  show(whole) {
    const context = this.base.getContext("2d");
    context.setTransform(1, 0, 0, 1, 0, 0);
    context.clearRect(0, 0, this.base.width, this.base.height);
    context.drawImage(this.buffer, 0, 0);
    if (!whole) return;
    this.painted = true;
    for (const resolve of this.waiting.splice(0)) resolve();
  }

  // Draws on the lower canvas without a repaint. Returns false during a repaint, which would overwrite the drawing.
  add(draw) {
    if (!this.painted || this.frame !== null) return false;
    for (const canvas of [this.buffer, this.base]) draw(this.context(canvas), this.size);
    return true;
  }

  repaintOver() {
    if (this.size.width && !printing) this.paintOver(this.cleared(this.over), this.size);
  }

  // Resolves when the paint is complete; at once if the chart is not visible.
  whole() {
    return !this.size.width || (this.painted && this.frame === null) ? Promise.resolve() : new Promise((resolve) => this.waiting.push(resolve));
  }

  context(canvas) {
    const context = canvas.getContext("2d");
    context.setTransform(this.size.ratio, 0, 0, this.size.ratio, 0, 0);
    context.font = FONT;
    context.textBaseline = "middle";
    return context;
  }

  cleared(canvas) {
    const context = this.context(canvas);
    context.clearRect(0, 0, this.size.width, this.size.height);
    return context;
  }

  // The pointer's position in the plot's coordinates.
  at(event) {
    const box = this.host.getBoundingClientRect();
    return { x: event.clientX - box.left, y: event.clientY - box.top };
  }
}

export function gridLines(context, { left, right }, values, labels, y) {
  const { line, quiet } = colours();
  context.strokeStyle = line;
  context.fillStyle = quiet;
  context.lineWidth = 1;
  context.textAlign = "right";
  values.forEach((value, index) => {
    const at = Math.round(y(value)) + 0.5;
    context.beginPath();
    context.moveTo(left, at);
    context.lineTo(right, at);
    context.stroke();
    context.fillText(labels[index], left - 8, at);
  });
}

export function marksBelow(context, values, labels, x, bottom) {
  context.fillStyle = colours().quiet;
  values.forEach((value, index) => {
    context.textAlign = values.length > 1 && index === 0 ? "left" : index === values.length - 1 && index ? "right" : "center";
    context.fillText(labels[index], x(value), bottom + 14);
  });
}
