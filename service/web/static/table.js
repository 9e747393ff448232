// Decodes responses of `getTable` to objects: {number, state, value, step, …, params: {name: value}, metrics: {name: value}}.
// Missing parameters and metrics are absent; times are milliseconds since 1970, or null.

const TIMES = ["queued_at", "started_at", "finished_at"];
const NAMED = ["params", "metrics"];

const named = (names, values) => {
  const held = Object.create(null); // no prototype: a name can be any string, such as `constructor`
  for (let place = 0; place < names.length; place++) if (values[place] !== null) held[names[place]] = values[place];
  return held;
};

export function decode(answer) {
  return answer.trials.map((values) => {
    const trial = {};
    answer.columns.forEach((name, place) => (trial[name] = values[place]));
    for (const name of NAMED) trial[name] = named(answer[name], trial[name]);
    for (const name of TIMES) if (trial[name] !== null) trial[name] *= 1000;
    return trial;
  });
}
