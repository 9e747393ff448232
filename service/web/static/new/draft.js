// The document under way: what the form changes, place by place, and what is kept of it until a study is made.

import { at } from "../dom.js";

const KEY = `thawline-new${at("/")}${location.search}`; // a copy of a study has a draft of its own

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
    // a browser that keeps nothing, or has no room: then a reload begins anew
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

  // `undefined` removes the field, and maps that have become empty with it.
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

// As the server writes the place of a fault.
export const pointer = (path) => `#${path.map((part) => `/${String(part).replaceAll("~", "~0").replaceAll("/", "~1")}`).join("")}`;

export const pathOf = (text) => text.split("/").slice(1).map((part) => part.replaceAll("~1", "/").replaceAll("~0", "~"));
