// The baseline (trial 0): the trainer's defaults, each replaced by the nearest value of the search space if it is not in it.

const among = (values, value) => Array.isArray(values) && values.includes(value);

function nearest(parameter, usual) {
  const { type, choices, low, high } = parameter;
  if (type === "categorical") return among(choices, usual) ? usual : choices?.[0];
  if (typeof usual !== "number") return low;
  return Math.min(Math.max(usual, low ?? usual), high ?? Infinity);
}

// `space`: the whole search space; `defaults`: the trainer's. The server adds omitted parameters.
export function baselineOf(space, defaults) {
  const chosen = Object.create(null); // no prototype: a parameter can have the name of a method of Object
  const value = (name) => {
    if (!(name in chosen)) {
      chosen[name] = undefined; // ends the recursion for circular conditions, none of which holds
      if (active(name)) chosen[name] = nearest(space[name], defaults[name]?.default);
    }
    return chosen[name];
  };
  const active = (name) => Object.entries(space[name]?.when ?? {}).every(([parent, values]) => parent !== name && Object.hasOwn(space, parent) && among(values, value(parent)));
  for (const name of Object.keys(space)) value(name);
  const needed = Object.entries(chosen).filter(([name, one]) => one !== undefined && one !== defaults[name]?.default);
  return Object.fromEntries(needed);
}
