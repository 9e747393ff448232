// A small chart of a study's best value by trial.

import { svg } from "../dom.js";
import { metric, plural } from "../format.js";
import { robustRange } from "../range.js";

const WIDTH = 132;
const HEIGHT = 40;
const EDGE = 4;

function scale(low, high, from, to) {
  return (value) => (high > low ? from + ((value - low) / (high - low)) * (to - from) : (from + to) / 2);
}

// `trend`: number and value of each trial that was the best when it completed; `created`: number of trials.
export function sparkline(trend, created, measure) {
  if (!trend?.length) return null;
  const values = trend.map(([, value]) => value);
  const x = scale(0, Math.max(created - 1, 1), EDGE, WIDTH - EDGE);
  const { low, high } = robustRange(values); // without outliers: the first trial may have diverged
  const free = scale(low, high, HEIGHT - EDGE, EDGE);
  const y = (value) => free(Math.min(high, Math.max(low, value)));
  const path = trend.map(([number, value], index) => (index ? `H${x(number).toFixed(1)}V${y(value).toFixed(1)}` : `M${x(number).toFixed(1)} ${y(value).toFixed(1)}`));
  const [number, best] = trend.at(-1);
  const label = `Best ${measure.name} by trial: ${metric(measure, values[0])} first, ${metric(measure, best)} since trial ${number}, after ${plural(trend.length - 1, "improvement", "improvements")}`;
  return svg(
    "svg",
    { class: "sparkline", viewBox: `0 0 ${WIDTH} ${HEIGHT}`, width: WIDTH, height: HEIGHT, role: "img", "aria-label": label },
    svg("title", {}, label),
    svg("path", { d: `${path.join("")}H${x(Math.max(created - 1, number)).toFixed(1)}` }),
    svg("circle", { cx: x(number), cy: y(best), r: 3.5 }),
  );
}
