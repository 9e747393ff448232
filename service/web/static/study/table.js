// The table of trials. Only visible rows are in the document (virtual scrolling).

import { el } from "../dom.js";
import { trialAddress } from "../trials.js";

const ROW = 37; // px; must match study.css
const AROUND = 12; // rows rendered above and below the visible ones
const IN_PRINT = 100;
const STILL_MILLISECONDS = 150; // without changes, until the table is marked as settled
const LONG = 14; // characters; longer texts get a tooltip

export class Table {
  // `picked`: a set of trial numbers; `sort(key)` and `pick(number)` are called on user actions.
  constructor(node, model, { picked, sort, pick }) {
    this.model = model;
    this.picked = picked;
    this.sort = sort;
    this.pick = pick;
    this.table = node;
    this.view = node.parentElement;
    this.rows = []; // sorted trials
    this.columns = [];
    this.kept = new Map(); // number → {trial, row, columns}
    this.active = null; // trial number of the row with the keyboard focus
    this.frame = null;
    this.printing = false;
    this.view.addEventListener("scroll", () => this.soon(), { passive: true });
    this.table.addEventListener("keydown", (event) => this.key(event));
    this.table.addEventListener("focus", () => this.active === null && this.move(0));
    new ResizeObserver(() => this.refit()).observe(this.view);
    addEventListener("beforeprint", () => this.print(true));
    addEventListener("afterprint", () => this.print(false));
  }

  // `columns`: a list of [key, column].
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

  // Columns only become wider, so that they do not move while rows scroll in and out.
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

  // A visible row keeps its node, and only changed cells are replaced, so that a click during an update is not lost.
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
    const text = this.model.list().length ? "No trial matches the filter." : "No trial yet. A worker starts the first one when it has checked the data.";
    return el("tr", {}, el("td", { colspan: this.columns.length + 1, class: "quiet" }, text));
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

  // Moves the keyboard focus by some rows, and scrolls the row into view.
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

// A spacer for rows that are not rendered.
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
