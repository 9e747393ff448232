// The trial table. Only the rows in view are in the document, however many there are.

import { el } from "../dom.js";
import { trialAddress } from "../trials.js";

const ROW = 37; // px; study.css says the same
const AROUND = 12; // rows above and below the view
const IN_PRINT = 100;
const STILL_MILLISECONDS = 150; // without a change, until what is shown counts
const LONG = 14; // characters that a cell may not have room for

export class Table {
  // `picked` is a set of numbers; `sort(key)` and `pick(number)` are called when someone asks for it.
  constructor(node, model, { picked, sort, pick }) {
    this.model = model;
    this.picked = picked;
    this.sort = sort;
    this.pick = pick;
    this.table = node;
    this.view = node.parentElement;
    this.rows = []; // trials in their order
    this.columns = [];
    this.kept = new Map(); // number → {trial, row, columns}
    this.active = null; // the number of the row that the keyboard is at
    this.frame = null;
    this.printing = false;
    this.view.addEventListener("scroll", () => this.soon(), { passive: true });
    this.table.addEventListener("keydown", (event) => this.key(event));
    this.table.addEventListener("focus", () => this.active === null && this.move(0));
    new ResizeObserver(() => this.refit()).observe(this.view);
    addEventListener("beforeprint", () => this.print(true));
    addEventListener("afterprint", () => this.print(false));
  }

  // `columns` is a list of [key, column].
  show(rows, columns, sorted) {
    const head = JSON.stringify([columns.map(([key]) => key), sorted]);
    if (head !== this.head) {
      this.head = head;
      this.columns = columns;
      this.kept.clear();
      this.table.tHead.replaceChildren(el("tr", { "aria-rowindex": 1 }, el("th", { class: "pick" }, el("span", { class: "hidden" }, "Chosen")), columns.map((column) => this.heading(column, sorted))));
      this.table.setAttribute("aria-colcount", columns.length + 1);
    }
    this.rows = rows;
    this.table.setAttribute("aria-rowcount", rows.length + 1);
    this.draw();
  }

  heading([key, { label, numeric }], { by, descending }) {
    const order = by === key ? (descending ? "descending" : "ascending") : null;
    const arrow = order ? el("span", { "aria-hidden": "true" }, descending ? " ▼" : " ▲") : null;
    return el("th", { scope: "col", class: numeric ? "number" : null, "aria-sort": order },
      el("button", { type: "button", class: "sort", title: `Sort by ${label}`, onclick: () => this.sort(key) }, label, arrow));
  }

  refit() {
    if (this.view.clientWidth !== this.width) this.release();
    this.width = this.view.clientWidth;
    this.soon();
  }

  soon() {
    this.frame ??= requestAnimationFrame(() => {
      this.frame = null;
      this.draw();
    });
  }

  draw() {
    const [from, to] = this.window();
    const body = this.table.tBodies[0];
    const wanted = this.rows.slice(from, to).map((trial, index) => this.row(trial, from + index));
    const shown = new Set(wanted);
    for (const [number, { row }] of this.kept) if (!shown.has(row)) this.kept.delete(number);
    const all = this.rows.length ? [gap(from), ...wanted, gap(this.rows.length - to)].filter(Boolean) : [this.none()];
    place(body, all);
    clearTimeout(this.settling);
    this.settling = setTimeout(() => this.hold(), STILL_MILLISECONDS);
  }

  // A column that was wide stays so: columns do not move to and fro under rows that come and go.
  hold() {
    if (this.printing || !this.rows.length) return;
    const widths = [...this.table.tHead.rows[0].cells].map((cell) => cell.offsetWidth);
    [...this.table.tHead.rows[0].cells].forEach((cell, index) => (cell.style.minWidth = `${widths[index]}px`));
  }

  release() {
    for (const cell of this.table.tHead.rows[0]?.cells ?? []) cell.style.minWidth = "";
  }

  window() {
    if (this.printing) return [0, Math.min(this.rows.length, IN_PRINT)];
    const top = Math.floor(this.view.scrollTop / ROW);
    const many = Math.ceil(this.view.clientHeight / ROW);
    const from = Math.max(0, Math.min(top - AROUND, this.rows.length - many - AROUND));
    return [from, Math.min(this.rows.length, Math.max(from, top) + many + AROUND)];
  }

  // A row stays the same node as long as it is in view: only cells that changed are filled anew, so that nobody's click is lost.
  row(trial, index) {
    const kept = this.kept.get(trial.number) ?? { row: this.make(trial), trial: null };
    const best = this.model.study.best?.number === trial.number;
    if (kept.trial !== trial || kept.best !== best || trial.state === "running") this.fill(kept.row, trial);
    Object.assign(kept, { trial, best });
    this.kept.set(trial.number, kept);
    const { row } = kept;
    const picked = this.picked.has(trial.number);
    if (row.ariaRowIndex !== String(index + 2)) row.ariaRowIndex = index + 2;
    if (row.ariaSelected !== String(picked)) row.ariaSelected = String(picked);
    row.classList.toggle("active", trial.number === this.active);
    row.classList.toggle("best", best);
    row.firstChild.firstChild.checked = picked;
    return row;
  }

  make({ number }) {
    const box = el("input", { type: "checkbox", tabindex: -1, "aria-label": `Choose trial ${number}`, onchange: () => this.pick(number) });
    const cells = this.columns.map(([, { rowHeader, numeric, wide }]) =>
      el(rowHeader ? "th" : "td", { scope: rowHeader ? "row" : null, class: [numeric && "number", wide && "remark"].filter(Boolean).join(" ") || null }));
    const open = (event) => event.target.closest("a, .pick") || getSelection().toString() || this.open(number);
    return el("tr", { id: `trial-${number}`, onclick: open }, el("td", { class: "pick" }, box), cells);
  }

  fill(row, trial) {
    this.columns.forEach(([, column], index) => {
      const cell = row.children[index + 1];
      const shown = column.show(trial);
      const node = typeof shown === "string" ? document.createTextNode(shown) : shown;
      if (cell.firstChild?.isEqualNode(node)) return;
      cell.replaceChildren(node);
      cell.title = node.length > LONG ? shown : "";
    });
  }

  none() {
    const words = this.model.list().length ? "No trial matches the filter." : "No trial yet. A worker starts the first one when it has checked the data.";
    return el("tr", {}, el("td", { colspan: this.columns.length + 1, class: "quiet" }, words));
  }

  key(event) {
    if (event.target !== this.table || event.altKey || event.ctrlKey || event.metaKey) return;
    const page = Math.max(1, Math.floor(this.view.clientHeight / ROW) - 2);
    const by = { ArrowDown: 1, ArrowUp: -1, PageDown: page, PageUp: -page, Home: -Infinity, End: Infinity }[event.key];
    if (by !== undefined) this.move(by);
    else if (event.key === "Enter" && this.active !== null) this.open(this.active);
    else if (event.key === " " && this.active !== null) this.pick(this.active);
    else return;
    event.preventDefault();
  }

  // The keyboard's row, by so many rows further, and into view.
  move(by) {
    if (!this.rows.length) return;
    const at = this.rows.findIndex((trial) => trial.number === this.active);
    const index = Math.max(0, Math.min(this.rows.length - 1, Math.max(0, at) + (at < 0 ? 0 : by)));
    this.active = this.rows[index].number;
    const head = this.table.tHead.offsetHeight;
    const { scrollTop, clientHeight } = this.view;
    if (index * ROW < scrollTop) this.view.scrollTop = index * ROW;
    else if ((index + 1) * ROW + head > scrollTop + clientHeight) this.view.scrollTop = (index + 1) * ROW + head - clientHeight;
    this.draw();
    this.table.setAttribute("aria-activedescendant", `trial-${this.active}`);
  }

  open(number) {
    location.assign(trialAddress(this.model.key, number));
  }

  print(printing) {
    this.printing = printing;
    this.release();
    this.draw();
  }
}

// Stands for so many rows that are out of view.
function gap(rows) {
  if (rows <= 0) return null;
  const row = el("tr", { class: "gap", "aria-hidden": "true" }, el("td"));
  row.style.height = `${rows * ROW}px`;
  return row;
}

function place(body, rows) {
  const kept = new Set(rows);
  for (const child of [...body.children]) if (!kept.has(child)) child.remove();
  let next = body.firstChild;
  for (const row of rows) {
    if (row === next) next = next.nextSibling;
    else body.insertBefore(row, next);
  }
}
