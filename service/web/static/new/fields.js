// Fields of a form, each bound to a place of the document, with room for what the server says of it.

import { el } from "../dom.js";
import { pointer } from "./draft.js";
import { numberOf, numberText } from "./scalars.js";

let fields = 0;

// `input` is what is filled in; `path` is where it stands in the document.
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

// A text of any kind: `read` makes the value of it, `write` the text of a value. An empty text is no value.
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

// `options` holds [value, label]; `null` stands for no value. A value that is not among them is shown as it is.
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
