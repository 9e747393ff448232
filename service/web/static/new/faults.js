// Shows the server's faults: each at its field, and all in a list with links to the fields.

import { el, withCode } from "../dom.js";
import { pathOf } from "./draft.js";

const FOCUSABLE = "input:not([type=checkbox]), select, textarea, input";

// The node for a pointer: its own node, else that of the nearest parent, else the first one below it.
function nodeOf(form, pointer) {
  const nodes = [...form.querySelectorAll("[data-pointer]")];
  for (let place = pointer; place.includes("/"); place = place.slice(0, place.lastIndexOf("/"))) {
    const exact = nodes.find((node) => node.dataset.pointer === place);
    if (exact) return exact;
  }
  return nodes.find((node) => node.dataset.pointer.startsWith(`${pointer}/`)) ?? null;
}

export const placeName = (pointer) => pathOf(pointer).join(" / ") || "the study";

function clear(form) {
  for (const node of form.querySelectorAll(".field-fault")) node.replaceChildren();
  for (const node of form.querySelectorAll("[aria-invalid]")) node.removeAttribute("aria-invalid");
}

// Shows faults at their fields, only where `isShown(pointer)` is true, so that fields that the user has not reached show no fault.
export function showAtFields(form, faults, isShown) {
  clear(form);
  for (const { pointer, detail } of faults) {
    const node = nodeOf(form, pointer);
    if (!node || !isShown(node.dataset.pointer)) continue;
    node.querySelector(":scope > .field-fault, :scope > .check + .field-fault")?.append(el("span", {}, withCode(`${detail}. `)));
    if (node.classList.contains("field")) node.querySelector(FOCUSABLE)?.setAttribute("aria-invalid", "true");
  }
}

export function faultList(form, faults) {
  return el("ul", { class: "fault-list" }, faults.map(({ pointer, detail }) => {
    const target = form.hidden ? null : nodeOf(form, pointer);
    const name = placeName(pointer);
    return el("li", {}, target ? el("button", { class: "opener", type: "button", onclick: () => reveal(target) }, name) : el("strong", {}, name), withCode(`: ${detail}`));
  }));
}

export function reveal(node) {
  for (let one = node.closest("details"); one; one = one.parentElement.closest("details")) one.open = true;
  const input = node.querySelector(FOCUSABLE);
  (input ?? node).scrollIntoView({ block: "center" });
  input?.focus({ preventScroll: true });
}

export function firstFaulty(form, faults) {
  return faults.map(({ pointer }) => nodeOf(form, pointer)).find(Boolean) ?? null;
}
