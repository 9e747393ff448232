// A chart of curves over epochs: SVG with axes, a legend, a readout for pointer and arrow keys, and a description for screen readers.
// Curves differ in colour and dashes, and by a letter at their end if they have one. A value that is not finite interrupts its curve.

import { mark, stepAxis, valueAxis } from "./axis.js";
import { el, svg } from "./dom.js";
import { metric } from "./format.js";
import { measureOf } from "./measures.js";
import { beyondWords } from "./range.js";

const HEIGHT = 250;
const EDGE = { left: 54, top: 12, bottom: 28 };
const LETTER_ROOM = 12;
const DOTS = 14; // curves with up to this number of points show each point as a dot
const STYLES = 12;
const NOTHING = measureOf({ metrics: {} }, ""); // the measure of a chart without curves

const finite = (point) => point[1] !== null;

const styleOf = (index) => `line-${index % STYLES}`;

// A sample of the curve's style, for legends and tables.
export function swatch(index) {
  return svg("svg", { class: `swatch ${styleOf(index)}`, viewBox: "0 0 26 10", width: 26, height: 10, "aria-hidden": "true" }, svg("line", { class: "curve", x1: 1, x2: 25, y1: 5, y2: 5 }));
}

function path(points, x, y) {
  let pen = "M";
  let text = "";
  for (const [step, value] of points) {
    if (value === null) pen = "M";
    else {
      text += `${pen}${x(step).toFixed(1)} ${y(value).toFixed(1)}`;
      pen = "L";
    }
  }
  return text;
}

// Triangles at the edge for values beyond the axis.
function beyond(series, x, y) {
  return series.points.filter((point) => finite(point) && y.beyond(point[1])).map(([step, value]) => {
    const [left, top, up] = [x(step), y.place(value), -4 * y.beyond(value)];
    return svg("path", { class: "beyond", d: `M${left - 4} ${top - up / 2}h8l-4 ${2 * up}z` }, svg("title", {}, `${series.name} at epoch ${step}: ${metric(series.measure, value)}, beyond the axis`));
  });
}

function curve(series, x, axis, bottom) {
  const y = axis.place;
  const shown = series.points.filter(finite);
  const dots = shown.length <= DOTS ? shown : [];
  const broken = series.points.filter((point) => !finite(point));
  return svg("g", { class: styleOf(series.style) },
    svg("path", { class: "curve", d: path(series.points, x, y) }),
    dots.map(([step, value]) => svg("circle", { class: "dot", cx: x(step), cy: y(value), r: 2.6 })),
    beyond(series, x, axis),
    broken.map(([step]) => svg("text", { class: "broken", x: x(step), y: bottom - 4, "text-anchor": "middle" }, "×", svg("title", {}, `${series.name}: not finite at epoch ${step}`))),
  );
}

// Letters at the ends of the curves, moved apart if they would overlap.
function letters(drawn, x, y, [top, bottom]) {
  const ends = drawn
    .filter((series) => series.letter && series.points.some(finite))
    .map((series) => ({ series, end: series.points.findLast(finite) }))
    .map(({ series, end }) => ({ series, at: x(end[0]) + 6, to: y(end[1]) + 4 }))
    .sort((one, other) => one.to - other.to);
  let above = top;
  for (const end of ends) above = (end.to = Math.max(end.to, above)) + LETTER_ROOM;
  let below = bottom;
  for (const end of ends.reverse()) below = (end.to = Math.min(end.to, below)) - LETTER_ROOM;
  return ends.map(({ series, at, to }) => svg("text", { class: `letter ${styleOf(series.style)}`, x: at, y: to }, series.letter));
}

function axes(measure, x, y, width) {
  const bottom = HEIGHT - EDGE.bottom;
  return [
    y.marks.map((value) => [
      svg("line", { class: "grid", x1: EDGE.left, x2: width - 4, y1: y.free(value), y2: y.free(value) }),
      svg("text", { class: "tick", x: EDGE.left - 8, y: y.free(value) + 4, "text-anchor": "end" }, mark(measure, value)),
    ]),
    x.marks.map((step) => svg("text", { class: "tick", x: x.place(step), y: bottom + 18, "text-anchor": "middle" }, String(step))),
  ];
}

function description(series) {
  const values = series.points.filter(finite);
  const show = (value) => metric(series.measure, value);
  if (!values.length) return `${series.name}: no finite value`;
  const [low, high] = [Math.min, Math.max].map((choose) => values.reduce((found, [, value]) => choose(found, value), values[0][1]));
  return `${series.name}: ${show(values[0][1])} at epoch ${values[0][0]}, ${show(values.at(-1)[1])} at epoch ${values.at(-1)[0]}, between ${show(low)} and ${show(high)}`;
}

// Creates the chart: `{node, draw(title, series, range)}`. The axis covers the epochs of `range` as well.
// series: [{name, measure, style, letter, points: [[step, value or null], …] by step}]
export function lineChart() {
  const canvas = el("div", { class: "lines-canvas" });
  const readout = el("div", { class: "lines-readout", role: "status", hidden: true });
  const legend = el("ul", { class: "lines-legend" });
  const field = el("div", { class: "lines-field", tabindex: 0, role: "group" }, canvas, readout);
  const node = el("div", { class: "lines" }, field, legend);
  let shown = null; // the drawn data: {title, series, steps, range, x}
  let at = null; // index of the step shown in the readout

  function paint() {
    const width = Math.max(260, canvas.clientWidth || 640);
    const { title, series } = shown;
    const lettered = series.some((one) => one.letter);
    const bottom = HEIGHT - EDGE.bottom;
    const [first, last] = [Math.min(...shown.range, shown.steps[0] ?? 1), Math.max(...shown.range, shown.steps.at(-1) ?? 1)];
    const x = stepAxis(first, last, EDGE.left + 4, width - (lettered ? 24 : 12), Math.max(2, Math.floor(width / 70)));
    const values = series.flatMap((one) => one.points.filter(finite).map((point) => point[1]));
    const measure = series[0]?.measure ?? NOTHING;
    const y = valueAxis(values, measure, bottom, EDGE.top);
    shown.x = x.place;
    const picture = svg("svg", { viewBox: `0 0 ${width} ${HEIGHT}`, width, height: HEIGHT, role: "img", "aria-label": `${title} by epoch. ${series.map(description).join(". ")}.` },
      axes(measure, x, y, width), series.map((one) => curve(one, x.place, y, bottom)),
      letters(series, x.place, y.place, [EDGE.top + 6, bottom]), svg("line", { class: "cursor", y1: EDGE.top, y2: bottom, hidden: true }));
    canvas.replaceChildren(picture);
    legend.replaceChildren(...(series.length > 1 ? series.map((one) => el("li", {}, swatch(one.style), one.letter ? el("b", {}, one.letter) : null, el("span", {}, one.name))) : []), ...[y.log ? "logarithmic" : null, beyondWords(measure, values, y.low, y.high)].filter(Boolean).map((text) => el("li", {}, text)));
    read(at);
  }

  function values(step) {
    return shown.series
      .map((one) => ({ one, point: one.points.find(([other]) => other === step) }))
      .filter(({ point }) => point)
      .sort((left, right) => (right.point[1] ?? -Infinity) - (left.point[1] ?? -Infinity));
  }

  function read(index) {
    const cursor = canvas.querySelector(".cursor");
    const step = index === null ? undefined : shown.steps[index];
    at = step === undefined ? null : index;
    readout.hidden = at === null;
    cursor?.toggleAttribute("hidden", at === null);
    if (at === null) return;
    const place = shown.x(step);
    cursor.setAttribute("x1", place);
    cursor.setAttribute("x2", place);
    readout.replaceChildren(el("strong", {}, `epoch ${step}`), ...values(step).map(({ one, point }) =>
      el("span", { class: "lines-value" }, swatch(one.style), el("span", {}, one.letter ?? one.name), el("b", {}, point[1] === null ? "not finite" : metric(one.measure, point[1])))));
    const room = canvas.clientWidth - readout.offsetWidth;
    readout.style.left = `${Math.max(0, Math.min(room, place > canvas.clientWidth / 2 ? place - readout.offsetWidth - 12 : place + 12))}px`;
  }

  function nearest(place) {
    return shown.steps.reduce((found, step, index) => (Math.abs(shown.x(step) - place) < Math.abs(shown.x(shown.steps[found]) - place) ? index : found), 0);
  }

  const keys = {
    ArrowLeft: () => Math.max(0, (at ?? shown.steps.length) - 1), ArrowRight: () => Math.min(shown.steps.length - 1, (at ?? -1) + 1),
    Home: () => 0, End: () => shown.steps.length - 1, Escape: () => null,
  };
  field.addEventListener("keydown", (event) => {
    if (!shown?.steps.length || !keys[event.key]) return;
    event.preventDefault();
    read(keys[event.key]());
  });
  field.addEventListener("pointermove", (event) => shown?.steps.length && read(nearest(event.clientX - canvas.getBoundingClientRect().left)));
  field.addEventListener("pointerleave", () => shown && read(null));
  field.addEventListener("blur", () => shown && read(null));
  let painted = 0;
  new ResizeObserver(() => {
    if (shown && canvas.clientWidth !== painted) paint();
    painted = canvas.clientWidth;
  }).observe(canvas);

  return {
    node,
    draw(title, series, range = []) {
      const steps = [...new Set(series.flatMap((one) => one.points.map((point) => point[0])))].sort((one, other) => one - other);
      shown = { title, series, steps, range, x: null };
      field.setAttribute("aria-label", `${title}; the arrow keys read the values`);
      paint();
    },
  };
}
