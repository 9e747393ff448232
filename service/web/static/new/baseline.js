// Trial 0 with the trainer's defaults, as far as the search space has them: where it lacks one, the nearest that it has.

const among = (values, value) => Array.isArray(values) && values.includes(value);

function nearest(parameter, usual) {
  const { type, choices, low, high } = parameter;
  if (type === "categorical") return among(choices, usual) ? usual : choices?.[0];
  if (typeof usual !== "number") return low;
  return Math.min(Math.max(usual, low ?? usual), high ?? Infinity);
}

// `space` is the whole search space, `defaults` the trainer's. The server completes what is left out here.
export function baselineOf(space, defaults) {
  const chosen = Object.create(null); // a parameter may be named as a method is
  const value = (name) => {
    if (!(name in chosen)) {
      chosen[name] = undefined; // where conditions run in a circle, none holds
      if (active(name)) chosen[name] = nearest(space[name], defaults[name]?.default);
    }
    return chosen[name];
  };
  const active = (name) => Object.entries(space[name]?.when ?? {}).every(([parent, values]) => parent !== name && Object.hasOwn(space, parent) && among(values, value(parent)));
  for (const name of Object.keys(space)) value(name);
  const needed = Object.entries(chosen).filter(([name, one]) => one !== undefined && one !== defaults[name]?.default);
  return Object.fromEntries(needed);
}
