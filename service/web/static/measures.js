// Properties of metrics: direction, range of values and unit.

const OF_EVERY_TASK = { train_loss: { direction: "minimize" }, lr: {} }; // metrics that runs of every task report

const known = (metrics, name) => (Object.hasOwn(metrics, name) ? metrics[name] : null);

// The measure for charts and tables: {name, direction or null, low, high, unit, share, additive}. Shares are shown in percent.
export function measureOf(task, name) {
  const { direction = null, low = null, high = null, unit = "", additive = false } = known(task.metrics, name) ?? known(OF_EVERY_TASK, name) ?? {};
  return { name, direction, low: low ?? -Infinity, high: high ?? Infinity, unit, share: unit === "share", additive };
}

// The measure of a metric in the study. The study itself defines an objective that its task does not know.
export function measureIn({ task, spec: { objective } }, name) {
  const measure = measureOf(task, name);
  if (name !== objective.metric || known(task.metrics, name)) return measure;
  const [low, high] = objective.range ?? [-Infinity, Infinity];
  return { ...measure, direction: objective.direction, low, high };
}

export const objectiveOf = (study) => measureIn(study, study.spec.objective.metric);

// The common measure of a metric in several studies; without direction and unit if the studies differ in them.
export function commonMeasure(studies, name) {
  const [first, ...others] = studies.map((study) => measureIn(study, name));
  return others.every((one) => one.direction === first.direction && one.unit === first.unit) ? first : measureOf({ metrics: {} }, name);
}

// Sorts metric names: the objective, then the task's metrics in its order, then the others by name.
export function inOrder(task, names, objective) {
  const order = [objective, ...Object.keys(task.metrics), ...Object.keys(OF_EVERY_TASK)];
  const rank = (name) => (order.indexOf(name) + order.length + 1) % (order.length + 1);
  return [...names].sort((one, other) => rank(one) - rank(other) || one.localeCompare(other));
}

// The noun for examples of the study's task, in the plural.
export const examples = (study) => `${study.task.example}s`;
export const capital = (text) => text[0].toUpperCase() + text.slice(1);

// What a study is about, as [term, value]: model and data, or command and folder of a script.
export const subject = ({ model, data, command, workdir }) => (command ? [["Command", command.join(" ")], ["Folder", workdir]] : [["Model", model.name], ["Data", data.path]]);

// Where runs are scored, as a phrase: a script chooses its data itself, so that nothing is known of it.
export const onTest = ({ external, example }) => (external ? "with fresh seeds" : `on the test ${example}s`);

// The verdict with the fields that its texts need: the measure of the objective, the noun for an example, and whether it is of scripts.
export const worded = (verdict, study) => verdict && { ...verdict, measure: objectiveOf(study), example: study.task.example, external: study.task.external };
