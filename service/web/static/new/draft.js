// The edited document, and its copy in session storage until the study is created.

import { at } from "../dom.js";

const KEY = `thawline-new${at("/")}${location.search}`; // the query is part of the key, so that a copy of a study has a separate draft

export function kept() {
  try {
    return JSON.parse(sessionStorage.getItem(KEY));
  } catch {
    return null;
  }
}

export function keep(state) {
  try {
    sessionStorage.setItem(KEY, JSON.stringify(state));
  } catch {
    // storage is disabled or full: a reload starts with an empty form
  }
}

export const forget = () => sessionStorage.removeItem(KEY);

const own = (holder, key) => (holder !== null && typeof holder === "object" && Object.hasOwn(holder, key) ? holder[key] : undefined);

export class Draft {
  constructor(document, changed) {
    this.document = document;
    this.changed = changed;
  }

  get(path) {
    return path.reduce(own, this.document);
  }

  // `undefined` removes the field, and the maps that become empty.
  set(path, value, { keepEmpty = false } = {}) {
    this.document = placed(this.document, path, value, keepEmpty) ?? {};
    this.changed();
  }
}

function placed(holder, /** @type {any[]} */ [key, ...rest], value, keepEmpty) {
  const before = holder !== null && typeof holder === "object" ? holder : {};
  const inner = rest.length ? placed(own(before, key), rest, value, keepEmpty) : value;
  if (Array.isArray(before)) return before.map((item, place) => (String(place) === String(key) ? inner : item));
  const entries = Object.entries(before).filter(([name]) => name !== key);
  const place = Object.keys(before).indexOf(key);
  if (inner !== undefined) entries.splice(place < 0 ? entries.length : place, 0, [key, inner]);
  return entries.length || keepEmpty ? Object.fromEntries(entries) : undefined;
}

// The JSON pointer of a path, in the form of the server's faults.
export const pointer = (path) => `#${path.map((part) => `/${String(part).replaceAll("~", "~0").replaceAll("/", "~1")}`).join("")}`;

export const pathOf = (text) => text.split("/").slice(1).map((part) => part.replaceAll("~1", "/").replaceAll("~0", "~"));
