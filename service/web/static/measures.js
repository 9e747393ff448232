// What is known of a metric: which direction is better, the range of its values, and whether they are shares, which are shown in percent.

const OF_EVERY_TASK = { train_loss: { direction: "minimize" }, lr: {} }; // what runs report besides the task's metrics

const known = (metrics, name) => (Object.hasOwn(metrics, name) ? metrics[name] : null);

// The metric of that name as charts and tables take it: {name, direction or null, low, high, unit, share, additive}.
export function measureOf(task, name) {
  const { direction = null, low = null, high = null, unit = "", additive = false } = known(task.metrics, name) ?? known(OF_EVERY_TASK, name) ?? {};
  return { name, direction, low: low ?? -Infinity, high: high ?? Infinity, unit, share: unit === "share", additive };
}

export const objectiveOf = (study) => measureOf(study.task, study.spec.objective.metric);

// What studies have in common in the metrics that they call so: their values may have different units.
export function commonMeasure(studies, name) {
  const [first, ...others] = studies.map((study) => measureOf(study.task, name));
  return others.every((one) => one.direction === first.direction && one.unit === first.unit) ? first : measureOf({ metrics: {} }, name);
}

// The objective first, then the task's metrics in its order, then the others by name.
export function inOrder(task, names, objective) {
  const order = [objective, ...Object.keys(task.metrics), ...Object.keys(OF_EVERY_TASK)];
  const rank = (name) => (order.indexOf(name) + order.length + 1) % (order.length + 1);
  return [...names].sort((one, other) => rank(one) - rank(other) || one.localeCompare(other));
}

// What the examples of the study's task are called.
export const examples = (study) => `${study.task.example}s`;
export const capital = (text) => text[0].toUpperCase() + text.slice(1);

// The verdict of a study's confirmation with what its words need: the measure of the objective, and what an example is called.
export const worded = (verdict, study) => verdict && { ...verdict, measure: objectiveOf(study), example: study.task.example };
