// The controls above the table: states, filter, columns and the link to the comparison. The URL contains their values.

import { at, byId, el } from "../dom.js";
import { count, plural } from "../format.js";
import { toggleButton } from "../parts.js";
import { readAddress, writeAddress } from "./address.js";
import { columnsOf, sorted, usual } from "./columns.js";
import { parse } from "./filter.js";

const STATES = ["queued", "running", "complete", "pruned", "failed", "cancelled"];
const MOST_COMPARED = 12;
const NARROW = matchMedia("(max-width: 40rem)");
const PAUSE_MILLISECONDS = 150; // delay of the filter while the user types

export class Controls {
  // `changed()` is called when the selection of rows or columns has changed.
  constructor(model, changed) {
    this.model = model;
    this.changed = changed;
    const { state, filter, sort, columns, pick } = readAddress();
    this.states = new Set(state.filter((one) => STATES.includes(one)));
    this.filter = filter;
    this.sort = sort || "-number";
    this.chosen = columns; // column keys; empty for the default columns
    this.picked = new Set(pick.map(Number).filter(Number.isInteger));
    byId("filter").value = filter;
    let typing = null;
    byId("filter").addEventListener("input", () => {
      clearTimeout(typing);
      typing = setTimeout(() => this.setFilter(byId("filter").value), PAUSE_MILLISECONDS);
    });
    NARROW.addEventListener("change", changed);
    document.addEventListener("click", (event) => byId("columns").contains(event.target) || byId("columns").removeAttribute("open"));
    document.addEventListener("keydown", (event) => event.key === "Escape" && byId("columns").removeAttribute("open"));
  }

  setFilter(text) {
    this.filter = text;
    if (byId("filter").value !== text && document.activeElement !== byId("filter")) byId("filter").value = text;
    this.keep();
  }

  keep() {
    writeAddress({ state: [...this.states], filter: this.filter.trim(), sort: this.sort === "-number" ? "" : this.sort, columns: this.chosen, pick: [...this.picked] });
    this.changed();
  }

  // Sorts by another column, best or largest value first; a second call for the same column reverses the order.
  sortBy(key) {
    const upwards = key === "value" ? this.model.objective.direction === "minimize" : !this.columns[key].numeric;
    const first = upwards ? key : `-${key}`;
    const second = upwards ? `-${key}` : key;
    this.sort = this.sort === first ? second : first;
    this.keep();
  }

  pick(number) {
    if (!this.picked.delete(number)) this.picked.add(number);
    this.keep();
  }

  get order() {
    const descending = this.sort.startsWith("-");
    const by = descending ? this.sort.slice(1) : this.sort;
    return Object.hasOwn(this.columns, by) ? { by, descending } : { by: "number", descending: true };
  }

  // The content of the table: sorted trials, columns as pairs, and the filter function.
  choose() {
    const { model } = this;
    this.columns = columnsOf(model);
    const { matches, unknown } = parse(this.filter, { parameters: model.parameters, metrics: model.metricNames }, model.objective.metric);
    byId("filter-fault").textContent = unknown.length ? `Not understood: ${unknown.join(" ")}. Parameters here: ${model.parameters.join(", ")}.` : "";
    const passes = (trial) => (!this.states.size || this.states.has(trial.state)) && matches(trial);
    const keys = (this.chosen.length ? this.chosen : usual(this.columns, NARROW.matches)).filter((key) => Object.hasOwn(this.columns, key));
    const { by, descending } = this.order;
    return { passes, order: this.order, trials: sorted(model.list().filter(passes), this.columns[by], descending), shown: keys.map((key) => [key, this.columns[key]]) };
  }

  draw(found) {
    const all = this.model.list().length;
    byId("found").textContent = found === all ? plural(all, "trial", "trials") : `${count(found)} of ${plural(all, "trial", "trials")}`;
    this.drawStates();
    this.drawColumns();
    this.drawCompare();
  }

  drawStates() {
    const { counts } = this.model.study;
    const shown = STATES.filter((state) => counts[state] || this.states.has(state));
    const print = JSON.stringify([shown.map((state) => counts[state]), shown, [...this.states]]);
    if (print === this.statesPrint) return;
    this.statesPrint = print;
    const focused = [...byId("states").children].indexOf(document.activeElement);
    byId("states").replaceChildren(...shown.map((state) => toggleButton(`${state} ${count(counts[state] ?? 0)}`, this.states.has(state), () => this.toggleState(state))));
    if (focused >= 0) byId("states").children[focused]?.focus();
  }

  toggleState(state) {
    if (!this.states.delete(state)) this.states.add(state);
    this.keep();
  }

  drawColumns() {
    const shown = this.chosen.length ? this.chosen : usual(this.columns, NARROW.matches);
    const print = JSON.stringify([Object.keys(this.columns), shown]);
    if (print === this.columnsPrint) return;
    this.columnsPrint = print;
    const sheet = byId("columns").querySelector(".sheet");
    const focused = /** @type {HTMLElement} */ (document.activeElement.closest?.(".sheet label"))?.dataset.key;
    sheet.replaceChildren(...Object.entries(this.columns).map(([key, { label }]) => {
      const box = el("input", { type: "checkbox", checked: shown.includes(key), disabled: key === "number", onchange: () => this.toggleColumn(key, shown) });
      return el("label", { class: "check", "data-key": key }, box, key.startsWith("metric.") ? `${label} (metric)` : label);
    }));
    if (focused) [...sheet.children].find((label) => label.dataset.key === focused)?.firstChild.focus();
  }

  toggleColumn(key, shown) {
    const wanted = new Set(shown.includes(key) ? shown.filter((one) => one !== key) : [...shown, key]);
    this.chosen = Object.keys(this.columns).filter((one) => wanted.has(one));
    if (this.chosen.join() === usual(this.columns, NARROW.matches).join()) this.chosen = [];
    this.keep();
  }

  drawCompare() {
    const chosen = [...this.picked].filter((number) => this.model.trials[number]).sort((left, right) => left - right);
    const query = new URLSearchParams(chosen.slice(0, MOST_COMPARED).map((number) => ["trial", `${this.model.key}:${number}`]));
    byId("compare").hidden = byId("unpick").hidden = !chosen.length;
    byId("compare").href = at(`/compare?${query}`);
    byId("compare").textContent = chosen.length > MOST_COMPARED ? `Compare the first ${MOST_COMPARED} of ${chosen.length}` : `Compare ${plural(chosen.length, "trial", "trials")}`;
  }

  unpick() {
    this.picked.clear();
    this.keep();
  }
}
