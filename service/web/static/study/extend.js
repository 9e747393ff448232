// The dialog that adds to a study's budget: a field for each of its bounds, checked by the server.

import { extendStudy } from "../api.js";
import { byId, el } from "../dom.js";
import { plural } from "../format.js";
import { showNotice } from "../parts.js";

const BOUNDS = {
  trials: { label: "Trials to add", mode: "numeric", now: (value) => plural(value, "trial", "trials") },
  hours: { label: "Hours to add", mode: "decimal", now: (value) => plural(value, "hour", "hours") },
};
const STATES = {
  complete: "The study is complete; adding trials makes it active again.",
  stopped: "The study is stopped; no trial is started until it is resumed.",
  paused: "The study is paused; no trial is started until it is resumed.",
};

export class ExtendDialog {
  // `extended()` is called after each change of the budget.
  constructor(node, model, extended) {
    this.node = node;
    this.model = model;
    this.extended = extended;
    this.form = node.querySelector("form");
    this.form.addEventListener("submit", (event) => this.submit(event));
    byId("extend-cancel").addEventListener("click", () => node.close());
  }

  open() {
    const { budget, state } = this.model.study;
    this.names = Object.keys(BOUNDS).filter((name) => budget[name] !== null);
    byId("extend-state").textContent = STATES[state] ?? "";
    byId("extend-fields").replaceChildren(...this.names.map((name) => {
      const id = `extend-${name}`;
      const { label, mode } = BOUNDS[name];
      return el("div", { class: "field" }, el("label", { for: id }, label),
        el("input", { id, name, inputmode: mode, autocomplete: "off", "aria-describedby": `${id}-said` }),
        el("p", { id: `${id}-said`, class: "hint" }, this.budgeted(name)));
    }));
    showNotice(byId("extend-notice"), null);
    this.node.showModal();
  }

  budgeted(name) {
    return `the budget has ${BOUNDS[name].now(this.model.study.budget[name])}`;
  }

  // The typed value, as a number if it is one. Other text is sent unchanged, and the server refuses it.
  get added() {
    const typed = this.names.map((name) => [name, byId(`extend-${name}`).value.trim()]).filter(([, value]) => value !== "");
    return Object.fromEntries(typed.map(([name, value]) => [name, Number.isNaN(Number(value)) ? value : Number(value)]));
  }

  async submit(event) {
    event.preventDefault();
    byId("extend-send").disabled = true;
    try {
      await extendStudy(this.model.key, this.added);
      this.node.close();
      this.extended();
    } catch (error) {
      this.showFaults(error);
    } finally {
      byId("extend-send").disabled = false;
    }
  }

  // Shows each fault at its field, and faults without a field at the top.
  showFaults(error) {
    const at = new Map(error.faults?.map(({ pointer, detail }) => [pointer.split("/").at(-1), detail]));
    const known = this.names.filter((name) => at.has(name));
    showNotice(byId("extend-notice"), known.length && known.length === error.faults.length ? null : error.message);
    for (const name of this.names) {
      const [input, said] = [byId(`extend-${name}`), byId(`extend-${name}-said`)];
      if (at.has(name)) input.setAttribute("aria-invalid", "true");
      else input.removeAttribute("aria-invalid");
      said.className = at.has(name) ? "fault hint" : "hint";
      said.textContent = at.get(name) ?? this.budgeted(name);
    }
    if (known.length) byId(`extend-${known[0]}`).focus();
  }
}
