// The learning curves of one metric, one for each trial: read once, then extended by report events.

import { getCurves } from "../api.js";

const MOST_POINTS = 512; // maximum number of points of a curve that is extended by events

const ofEvent = (event) => event.kind === "trial_reported" && event.reports?.length > 0;

export class Measurements {
  constructor(key) {
    this.key = key;
    this.metric = null;
    this.byNumber = new Map(); // number → {steps, values}
    this.seen = null; // the last event included in the data; null before the first read
    this.early = []; // events that arrived before the first response
    this.moved = new Set(); // trials whose curves have changed since the last `takeMoved`
  }

  // Reads the curves of a metric. The response is dropped if another metric was chosen in the meantime.
  // `first`: a response that was requested earlier.
  async choose(metric, first = null) {
    this.metric = metric;
    this.byNumber = new Map();
    this.seen = null;
    this.early = [];
    const found = new Map();
    let [after, more] = [0, true];
    for (; more; first = null) {
      const answer = await (first ?? getCurves(this.key, metric, after));
      if (this.metric !== metric) return false;
      for (const [number, steps, values] of answer.curves) found.set(number, { steps, values });
      ({ seq: after, more } = answer);
    }
    this.byNumber = found;
    this.seen = after;
    for (const event of this.early.splice(0)) this.apply(event);
    return true;
  }

  apply(event) {
    if (!ofEvent(event)) return;
    if (this.seen === null) this.early.push(event);
    else if (event.seq > this.seen) this.append(event);
  }

  append({ number, reports }) {
    const curve = this.byNumber.get(number) ?? { steps: [], values: [] };
    for (const { step, metrics } of reports) {
      while (curve.steps.length && curve.steps.at(-1) >= step) { // a new attempt resumed from an earlier checkpoint and repeats these steps
        curve.steps.pop();
        curve.values.pop();
      }
      if (typeof metrics[this.metric] !== "number") continue;
      curve.steps.push(step);
      curve.values.push(metrics[this.metric]);
    }
    this.byNumber.set(number, curve.steps.length > MOST_POINTS ? halved(curve) : curve);
    this.moved.add(number);
  }

  takeMoved() {
    const moved = this.moved;
    this.moved = new Set();
    return moved;
  }
}

function halved({ steps, values }) {
  const keep = (_, index) => index % 2 === 0 || index === steps.length - 1;
  return { steps: steps.filter(keep), values: values.filter(keep) };
}

// The curve's interpolated value at a step; null outside its steps.
export function valueAt({ steps, values }, step) {
  let [low, high] = [0, steps.length - 1];
  if (high < 0 || step < steps[0] || step > steps[high]) return null;
  while (high - low > 1) {
    const middle = (low + high) >> 1;
    if (steps[middle] <= step) low = middle;
    else high = middle;
  }
  const span = steps[high] - steps[low];
  return span ? values[low] + ((step - steps[low]) / span) * (values[high] - values[low]) : values[low];
}
