// Form fields, each bound to a path of the document, with a place for faults.

import { el } from "../dom.js";
import { pointer } from "./draft.js";
import { numberOf, numberText } from "./scalars.js";

let fields = 0;

// `input`: the control; `path`: its path in the document.
export function field(label, path, input, hint) {
  const id = `field-${(fields += 1)}`;
  input.id = id;
  input.setAttribute("aria-describedby", `${id}-fault ${id}-hint`);
  return el(
    "div",
    { class: "field", "data-pointer": pointer(path) },
    el("label", { for: id }, label),
    input,
    el("p", { id: `${id}-fault`, class: "field-fault" }),
    el("p", { id: `${id}-hint`, class: "hint" }, hint ?? null),
  );
}

/** @typedef {{ read?: (text: string) => any, write?: (value: any) => string, keepEmpty?: boolean, [attribute: string]: any }} TextOptions */

// A text input: `read` converts its text to a value, `write` a value to text. An empty text removes the value.
export function textInput(draft, path, /** @type {TextOptions} */ { read = (text) => text, write = String, keepEmpty = false, ...attributes } = {}) {
  const value = draft.get(path);
  const input = el("input", {
    type: "text", autocomplete: "off", spellcheck: "false", value: value == null ? "" : write(value), ...attributes,
    oninput: () => draft.set(path, input.value.trim() === "" ? undefined : read(input.value), { keepEmpty }),
  });
  return input;
}

export function numberInput(draft, path, attributes = {}) {
  return textInput(draft, path, { read: numberOf, write: numberText, inputmode: "decimal", class: "number-input", ...attributes });
}

// `options`: [value, label] pairs; the value `null` removes the field. A current value without an option is added to the options.
export function choice(draft, path, options, changed) {
  const value = draft.get(path) ?? null;
  const known = options.some(([one]) => one === value) ? options : [[value, String(value)], ...options];
  const input = el(
    "select",
    { onchange: () => {
      const chosen = known[input.selectedIndex][0];
      if (changed) changed(chosen);
      else draft.set(path, chosen ?? undefined);
    } },
    known.map(([one, label]) => el("option", { selected: one === value }, label)),
  );
  return input;
}

export function checkField(draft, path, label, standard = false) {
  const id = `field-${(fields += 1)}`;
  const input = el("input", { id, type: "checkbox", checked: draft.get(path) ?? standard, onchange: () => draft.set(path, input.checked === standard ? undefined : input.checked, { keepEmpty: true }) });
  return el("div", { class: "field", "data-pointer": pointer(path) }, el("div", { class: "check" }, input, el("label", { for: id }, label)), el("p", { class: "field-fault" }));
}
