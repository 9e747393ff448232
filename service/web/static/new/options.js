// Form fields for the options of a sampler, a pruner or the limits, from their JSON Schema.

import { choice, checkField, field, numberInput } from "./fields.js";

const resolve = (schema, part) => (part?.$ref ? schema.$defs[part.$ref.split("/").at(-1)] : part);

// The variants of a property that is selected by name: [name, schema of its options].
export function variants(schema, property) {
  const { mapping } = schema.properties[property].discriminator;
  return Object.entries(mapping).map(([name, ref]) => [name, resolve(schema, { $ref: ref })]);
}

export const section = (schema, property) => resolve(schema, schema.properties[property]);

// The first paragraph of the schema's description.
export const summary = (part) => (part?.description ?? "").split("\n\n")[0].replaceAll("\n", " ").replaceAll("`", "");

export function optionFields(draft, part, path, left = ["name"]) {
  return Object.entries(part.properties)
    .filter(([name, property]) => !left.includes(name) && !property.oneOf && !property.$ref)
    .map(([name, property]) => optionField(draft, name, property, [...path, name]));
}

function optionField(draft, name, property, path) {
  const label = name.replaceAll("_", " ");
  const types = property.anyOf ?? [property];
  if (types.some((one) => one.type === "boolean")) return checkField(draft, path, label, property.default);
  const standard = property.default == null ? "none" : String(property.default);
  if (property.enum) return field(label, path, choice(draft, path, [[null, `${standard} (default)`], ...property.enum.map((one) => [one, one])]), property.description);
  return field(label, path, numberInput(draft, path, { placeholder: standard, keepEmpty: true }), property.description);
}

// A resolved study without the values that the server fills in. `usual`: the task of documents without `task`.
export function withoutDefaults(spec, schema, usual) {
  const lean = Object.fromEntries(Object.entries(spec).filter(([, value]) => value !== null));
  for (const [name, property] of Object.entries(schema.properties)) {
    if (lean[name] === undefined) continue;
    const part = property.discriminator ? variants(schema, name).find(([one]) => one === lean[name].name)?.[1] : resolve(schema, property);
    if (part?.properties && name !== "search_space") lean[name] = stripped(lean[name], part);
    if (isEmpty(lean[name]) && name !== "baseline") delete lean[name];
  }
  lean.search_space = Object.fromEntries(Object.entries(spec.search_space).map(([name, parameter]) => [name, plain(parameter)]));
  if (spec.task === usual) delete lean.task;
  else lean.task = spec.task;
  return lean;
}

function stripped(values, part) {
  return Object.fromEntries(Object.entries(values).filter(([name, value]) => name === "name" || JSON.stringify(value) !== JSON.stringify(part.properties[name]?.default ?? null)));
}

const isEmpty = (value) => value !== null && typeof value === "object" && !Object.keys(value).length;

const plain = (parameter) => Object.fromEntries(Object.entries(parameter).filter(([, value]) => value !== null && value !== false && !isEmpty(value)));

