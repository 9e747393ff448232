// The search so far: each trial's value, and the best up to it. An SVG made of nodes, with a table's worth of text for those who cannot see it.

import { svg } from "./dom.js";
import { metric } from "./format.js";

const WIDTH = 640;
const HEIGHT = 240;
const EDGE = { left: 58, right: 14, top: 12, bottom: 28 };
const TICKS = 4;

function scale(low, high, from, to) {
  const span = high - low || 1;
  return (value) => from + ((value - low) / span) * (to - from);
}

function bounds(values) {
  const low = Math.min(...values);
  const high = Math.max(...values);
  const margin = (high - low || Math.abs(high) || 1) * 0.08;
  return [low - margin, high + margin];
}

function bestSoFar(points, direction) {
  const better = direction === "maximize" ? Math.max : Math.min;
  let best = null;
  return points.map(({ number, value }) => {
    best = best === null ? value : better(best, value);
    return { number, value: best };
  });
}

function grid(name, low, high, y) {
  return Array.from({ length: TICKS + 1 }, (_, index) => low + ((high - low) * index) / TICKS).map((value) => [
    svg("line", { class: "grid", x1: EDGE.left, x2: WIDTH - EDGE.right, y1: y(value), y2: y(value) }),
    svg("text", { class: "tick", x: EDGE.left - 8, y: y(value) + 4, "text-anchor": "end" }, metric(name, value).replace(" %", "%")),
  ]);
}

function staircase(steps, x, y, end) {
  const path = steps.map(({ number, value }, index) => (index ? `H${x(number)}V${y(value)}` : `M${x(number)} ${y(value)}`));
  return svg("path", { class: "best-line", d: `${path.join("")}H${end}` });
}

export function history(trials, objective) {
  const points = trials.filter((trial) => trial.state === "complete" && trial.value != null);
  if (!points.length) return null;
  const [low, high] = bounds(points.map((point) => point.value));
  const last = Math.max(trials.length - 1, 1);
  const x = scale(0, last, EDGE.left + 6, WIDTH - EDGE.right - 6);
  const y = scale(low, high, HEIGHT - EDGE.bottom, EDGE.top);
  const steps = bestSoFar(points, objective.direction);
  const best = steps.at(-1);
  const label = `${objective.metric} of ${points.length} complete trials; the best is ${metric(objective.metric, best.value)}`;
  return svg(
    "svg",
    { viewBox: `0 0 ${WIDTH} ${HEIGHT}`, role: "img", "aria-label": label },
    grid(objective.metric, low, high, y),
    svg("text", { class: "tick", x: EDGE.left, y: HEIGHT - 8 }, "trial 0"),
    svg("text", { class: "tick", x: WIDTH - EDGE.right, y: HEIGHT - 8, "text-anchor": "end" }, `trial ${last}`),
    staircase(steps, x, y, x(last)),
    points.map(({ number, value }) =>
      svg("circle", { class: value === best.value ? "point top" : "point", cx: x(number), cy: y(value), r: value === best.value ? 5 : 3.5 },
        svg("title", {}, `trial ${number}: ${metric(objective.metric, value)}`))),
  );
}
