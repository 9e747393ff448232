// The dialog that queues a trial: one field for each parameter, filled from a trial, checked by the server. The sampler chooses empty fields.

import { getTrial, queueTrial } from "../api.js";
import { byId, el } from "../dom.js";
import { number, scalar } from "../format.js";
import { showNotice } from "../parts.js";

const DIGITS = 10; // significant digits of parameters in the table
const LEFT = "left to the sampler";

const same = (left, right) => left === right;

// Orders parameters so that conditional ones follow the parameters of their conditions.
function inOrder(space) {
  const ordered = new Set();
  const place = (name) => {
    if (ordered.has(name) || !space[name]) return;
    for (const parent of Object.keys(space[name].when ?? {})) place(parent);
    ordered.add(name);
  };
  Object.keys(space).forEach(place);
  return [...ordered];
}

function range({ type, low, high, log, step }) {
  if (type === "categorical") return null;
  return `${type === "int" ? "whole number, " : ""}${number(low)} to ${high == null ? "…" : number(high)}${log ? ", log scale" : ""}${step ? `, steps of ${number(step)}` : ""}`;
}

export class QueueDialog {
  constructor(node, model, queued) {
    this.node = node;
    this.model = model;
    this.queued = queued;
    this.form = node.querySelector("form");
    this.form.addEventListener("submit", (event) => this.submit(event));
    this.form.addEventListener("input", (event) => this.changed(event));
    byId("queue-cancel").addEventListener("click", () => node.close());
    byId("queue-from").addEventListener("change", (event) => this.prefill(event.target.value));
  }

  // `from`: number of the trial to start from; by default the best one. Without a best trial, all fields are empty.
  open(from = null) {
    const { space } = this;
    const trial = from ?? this.model.study.best?.number ?? null;
    byId("queue-fields").replaceChildren(...inOrder(space).map((name) => this.field(name, space[name])));
    byId("queue-from").value = trial ?? "";
    byId("queue-from").max = this.model.list().at(-1)?.number ?? 0;
    this.prefill(trial);
    if (!this.node.open) this.node.showModal();
  }

  get space() {
    return this.model.study.spec.search_space;
  }

  field(name, definition) {
    const id = `queue-${name}`;
    const { type, choices } = definition;
    const input = type === "categorical"
      ? el("select", { id, name, "aria-describedby": `${id}-said` }, el("option", { value: "" }, LEFT), choices.map((choice, index) => el("option", { value: index }, scalar(choice))))
      : el("input", { id, name, inputmode: type === "int" ? "numeric" : "decimal", autocomplete: "off", placeholder: LEFT, "aria-describedby": `${id}-said` });
    return el("div", { class: "field", "data-name": name }, el("label", { for: id }, name), input, el("p", { id: `${id}-said`, class: "hint" }, range(definition)));
  }

  prefill(from) {
    const trial = from === "" || from === null ? null : this.model.trials[Number(from)];
    this.whole = trial ? getTrial(this.model.key, trial.number).catch(() => null) : Promise.resolve(null);
    for (const [name, definition] of Object.entries(this.space)) {
      const given = Boolean(trial) && name in trial.params;
      const value = given ? trial.params[name] : "";
      const input = this.form.elements[`queue-${name}`];
      input.value = given && definition.type === "categorical" ? definition.choices.findIndex((choice) => same(choice, value)) : String(value);
    }
    this.clearFaults();
    this.showActive();
  }

  changed(event) {
    if (event.target.closest("[data-name]")) this.clearFault(event.target.name);
    this.showActive();
  }

  valueOf(name) {
    const definition = this.space[name];
    const { value } = this.form.elements[`queue-${name}`];
    return definition.type === "categorical" ? definition.choices[Number(value)] : Number.isNaN(Number(value)) ? value : Number(value);
  }

  // The trial's exact value if the field still shows the rounded value of the table, so that the configuration stays the same.
  static exact(params, whole) {
    const known = whole?.params ?? {};
    const unchanged = (name, value) => typeof known[name] === "number" && Number(known[name].toPrecision(DIGITS)) === value;
    return Object.fromEntries(Object.entries(params).map(([name, value]) => [name, unchanged(name, value) ? known[name] : value]));
  }

  // The parameters whose conditions hold, and the values of the filled fields. If the parameter of a condition is left to the
  // sampler, the conditional parameter is too.
  get assignment() {
    const [active, params] = [new Set(), {}];
    for (const name of inOrder(this.space)) {
      const when = Object.entries(this.space[name].when ?? {});
      if (!when.every(([parent, values]) => parent in params && values.some((value) => same(value, params[parent])))) continue;
      active.add(name);
      if (this.form.elements[`queue-${name}`].value.trim() !== "") params[name] = this.valueOf(name);
    }
    return { active, params };
  }

  showActive() {
    const { active } = this.assignment;
    for (const field of this.form.querySelectorAll("[data-name]")) {
      field.hidden = !active.has(field.dataset.name);
      field.querySelector("input, select").disabled = field.hidden;
    }
  }

  async submit(event) {
    event.preventDefault();
    this.clearFaults();
    byId("queue-send").disabled = true;
    try {
      const trial = await queueTrial(this.model.key, QueueDialog.exact(this.assignment.params, await this.whole));
      this.node.close();
      this.queued(trial);
    } catch (error) {
      this.showFaults(error);
    } finally {
      byId("queue-send").disabled = false;
    }
  }

  // Shows each fault at its field, and faults without a field at the top.
  showFaults(error) {
    const left = (error.faults ?? []).filter(({ pointer, detail }) => !this.showFault(pointer.split("/").at(-1), detail));
    const all = error.faults?.length ?? 0;
    showNotice(byId("queue-notice"), all ? left.map(({ detail }) => detail).join(" ") : error.message);
    this.form.querySelector("[aria-invalid]")?.focus();
  }

  showFault(name, detail) {
    const input = this.form.elements[`queue-${name}`];
    if (!input || input.disabled) return false;
    input.setAttribute("aria-invalid", "true");
    const said = byId(`queue-${name}-said`);
    said.textContent = detail;
    said.className = "fault hint";
    return true;
  }

  clearFault(name) {
    this.form.elements[`queue-${name}`].removeAttribute("aria-invalid");
    const said = byId(`queue-${name}-said`);
    said.textContent = range(this.space[name]) ?? "";
    said.className = "hint";
  }

  clearFaults() {
    showNotice(byId("queue-notice"), null);
    for (const name of Object.keys(this.space)) this.clearFault(name);
  }
}
