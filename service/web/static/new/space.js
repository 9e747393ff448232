// The search space: a preset, and a row for each own parameter. An own parameter replaces the preset's parameter of the same name.

import { el } from "../dom.js";
import { scalar } from "../format.js";
import { pointer } from "./draft.js";
import { checkField, choice, field, numberInput, textInput } from "./fields.js";
import { listOf, listText, scalarOf, textOf } from "./scalars.js";

const PLACE = ["search_space"];

// `context` has draft, presets, hyperparameters, notSearched and `redraw()`.
export function spacePanel(context) {
  const preset = presetOf(context);
  return [
    el("div", {},
      field("Preset", ["preset"], choice(context.draft, ["preset"], [[null, "none, only own parameters"], ...context.presets.map((one) => [one.name, `${one.name}: ${one.summary}`])], (name) => {
        context.draft.set(["preset"], name ?? undefined);
        context.redraw();
      }))),
    preset ? el("p", { class: "preset" }, el("strong", {}, "Cost: "), `${preset.cost}. `, el("strong", {}, "Expect: "), `${preset.expect}.`) : null,
    preset ? presetRows(context, preset) : null,
    el("div", { class: "rows", "data-pointer": pointer(PLACE) }, el("p", { class: "field-fault" }), Object.entries(ownOf(context)).map(([name, parameter]) => row(context, name, parameter))),
    adder(context),
  ];
}

const presetOf = ({ draft, presets }) => presets.find((one) => one.name === draft.get(["preset"])) ?? null;

function mapOf(value) {
  return value !== null && typeof value === "object" && !Array.isArray(value) ? value : {};
}

const ownOf = ({ draft }) => mapOf(draft.get(PLACE));

// The preset's parameters and the own ones, merged as the server does.
export function wholeSpace(context) {
  const fixed = mapOf(context.draft.get(["fixed"]));
  const given = Object.entries(presetOf(context)?.search_space ?? {}).filter(([name]) => !Object.hasOwn(fixed, name));
  const own = Object.entries(ownOf(context)).filter(([, parameter]) => Object.keys(mapOf(parameter)).length);
  return Object.fromEntries([...given, ...own]);
}

export function inWords(parameter) {
  const { type, low, high, log, step, choices, when } = parameter;
  const range = type === "categorical" ? listText(choices) : `${scalar(low)} – ${high == null ? "all" : scalar(high)}`;
  const conditions = Object.entries(when ?? {}).map(([parent, values]) => `when ${parent} is ${listText(values)}`);
  return [range, log ? "log" : null, step == null ? null : `step ${scalar(step)}`, ...conditions].filter(Boolean).join(" · ");
}

function presetRows(context, preset) {
  const own = ownOf(context);
  const fixed = mapOf(context.draft.get(["fixed"]));
  const left = Object.entries(preset.search_space).filter(([name]) => !Object.hasOwn(own, name) && !Object.hasOwn(fixed, name));
  if (!left.length) return null;
  return el("ul", { class: "preset-rows", "aria-label": "From the preset" }, left.map(([name, parameter]) => el(
    "li",
    {},
    el("span", { class: "mono" }, name),
    el("span", { class: "quiet" }, inWords(parameter)),
    el("button", { class: "button small plain", type: "button", "aria-label": `Change ${name}`, onclick: () => add(context, name) }, "Change"),
  )));
}

function row(context, name, parameter) {
  const { draft } = context;
  const path = [...PLACE, name];
  const known = context.hyperparameters[name];
  return el(
    "fieldset",
    { class: "row", "data-pointer": pointer(path) },
    el("legend", { class: "mono" }, name),
    el("button", { class: "button small plain remove", type: "button", "aria-label": `Remove ${name}`, onclick: () => remove(context, name) }, "✕"),
    known?.description ? el("p", { class: "hint" }, known.description) : null,
    el("p", { class: "field-fault" }),
    el("div", { class: "fields" },
      field("Type", [...path, "type"], choice(draft, [...path, "type"], [["float", "real number"], ["int", "whole number"], ["categorical", "choices"]], (type) => {
        draft.set(path, retyped(context, name, parameter, type));
        context.redraw();
      })),
      mapOf(parameter).type === "categorical" ? choicesField(draft, path) : rangeFields(draft, path, name)),
    conditions(context, name, path),
  );
}

function choicesField(draft, path) {
  const input = textInput(draft, [...path, "choices"], { read: listOf, write: listText, keepEmpty: true, class: "mono", placeholder: "16, 32, 64" });
  const made = field("Choices", [...path, "choices"], input, "separated by commas");
  made.classList.add("wide");
  return made;
}

function rangeFields(draft, path, name) {
  const all = name === "frozen_layers" ? "all stages" : null;
  return [
    field("Low", [...path, "low"], numberInput(draft, [...path, "low"], { keepEmpty: true })),
    field("High", [...path, "high"], numberInput(draft, [...path, "high"], { keepEmpty: true, placeholder: all })),
    field("Step", [...path, "step"], numberInput(draft, [...path, "step"], { keepEmpty: true, placeholder: "none" })),
  ];
}

function conditions(context, name, path) {
  const { draft } = context;
  const when = mapOf(draft.get([...path, "when"]));
  const parents = [...new Set([...Object.keys(presetOf(context)?.search_space ?? {}), ...Object.keys(ownOf(context))])].filter((one) => one !== name && !Object.hasOwn(when, one));
  const place = [...path, "when"];
  const adding = el("select", { "aria-label": `Condition for ${name}`, onchange: () => {
    draft.set([...place, parents[adding.selectedIndex - 1]], []);
    context.redraw(pointer([...place, parents[adding.selectedIndex - 1]]));
  } }, el("option", {}, Object.keys(when).length ? "and only when…" : "only when…"), parents.map((parent) => el("option", {}, parent)));
  const log = draft.get([...path, "type"]) === "categorical" ? null : checkField(draft, [...path, "log"], "Log scale");
  return el("div", { class: "conditions" }, log, Object.keys(when).map((parent) => el(
    "div",
    { class: "condition" },
    field(`Only when ${parent} is`, [...place, parent], textInput(draft, [...place, parent], { read: listOf, write: listText, class: "mono", placeholder: "sgd, rmsprop" })),
    el("button", { class: "button small plain", type: "button", "aria-label": `Drop the condition on ${parent}`, onclick: () => {
      draft.set([...place, parent], undefined);
      context.redraw();
    } }, "✕"),
  )), parents.length ? adding : null);
}

function retyped(context, name, parameter, type) {
  const { when, low, high, choices } = mapOf(parameter);
  const kept = when ? { when } : {};
  if (type === "categorical") return { type, choices: choices ?? [low, high].filter((one) => one != null), ...kept };
  return { type, low: low ?? Number(choices?.[0] ?? 0), high: high ?? Number(choices?.at(-1) ?? 1), ...kept };
}

function remove(context, name) {
  context.draft.set([...PLACE, name], undefined);
  context.redraw(pointer(PLACE));
}

function adder(context) {
  const own = ownOf(context);
  const names = Object.keys(context.hyperparameters).filter((name) => !context.notSearched.includes(name) && !Object.hasOwn(own, name));
  const select = el("select", { id: "add-parameter", onchange: () => add(context, names[select.selectedIndex - 1]) },
    el("option", {}, "choose one"), names.map((name) => el("option", { title: context.hyperparameters[name].description }, name)));
  return el("div", { class: "adder" }, el("label", { for: "add-parameter" }, "Add a parameter"), select);
}

function add(context, name) {
  const known = presetOf(context)?.search_space[name] ?? context.presets.map((one) => one.search_space[name]).find(Boolean);
  const fixed = mapOf(context.draft.get(["fixed"]));
  if (Object.hasOwn(fixed, name)) context.draft.set(["fixed", name], undefined);
  context.draft.set([...PLACE, name], structuredClone(known ?? standard(context.hyperparameters[name])));
  context.redraw(pointer([...PLACE, name]));
}

// The initial range of a new parameter: around the trainer's default, within the allowed values.
function standard({ type, enum: choices, minimum, maximum, exclusiveMaximum, default: usual }) {
  if (choices) return { type: "categorical", choices };
  if (type === "integer") return { type: "int", low: Math.max(minimum ?? 1, Math.floor(usual / 2)), high: Math.min(maximum ?? 2 * usual, Math.max(1, 2 * usual)) };
  if (exclusiveMaximum === 1) return { type: "float", low: 0, high: usual > 0 ? 0.99 : 0.5 };
  return { type: "float", low: usual > 0 ? usual / 100 : 1e-6, high: Math.min(maximum ?? Infinity, usual > 0 ? 100 * usual : 0.1), log: true };
}

// The panel of hyperparameters with fixed values.
export function fixedPanel(context) {
  const { draft } = context;
  const fixed = mapOf(draft.get(["fixed"]));
  const preset = presetOf(context);
  const own = ownOf(context);
  const given = Object.entries(preset?.fixed ?? {}).filter(([name]) => !Object.hasOwn(fixed, name) && !Object.hasOwn(own, name));
  const names = Object.keys(context.hyperparameters).filter((name) => !Object.hasOwn(fixed, name) && !Object.hasOwn(own, name));
  const select = el("select", { id: "add-fixed", onchange: () => {
    const name = names[select.selectedIndex - 1];
    draft.set(["fixed", name], preset?.fixed[name] ?? context.hyperparameters[name].default);
    context.redraw(pointer(["fixed", name]));
  } }, el("option", {}, "choose one"), names.map((name) => el("option", {}, name)));
  return [
    given.length ? el("p", { class: "hint" }, `From the preset: ${given.map(([name, value]) => `${name} ${scalar(value)}`).join(", ")}.`) : null,
    el("div", { class: "fields", "data-pointer": pointer(["fixed"]) }, Object.keys(fixed).map((name) => fixedField(context, name))),
    el("div", { class: "adder" }, el("label", { for: "add-fixed" }, "Fix a value"), select),
  ];
}

function fixedField(context, name) {
  const { draft } = context;
  const path = ["fixed", name];
  const known = context.hyperparameters[name];
  const input = known?.enum ? choice(draft, path, known.enum.map((value) => [value, value])) : textInput(draft, path, { read: scalarOf, write: textOf, class: "mono" });
  const made = field(name, path, input, known?.description);
  made.classList.add("removable");
  made.append(el("button", { class: "button small plain remove", type: "button", "aria-label": `Do not fix ${name}`, onclick: () => {
    draft.set(path, undefined);
    context.redraw(pointer(["fixed"]));
  } }, "✕"));
  return made;
}
