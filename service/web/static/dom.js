// Elements from plain values. Text becomes text nodes and nothing else: no string is ever read as HTML.

// The path below which the server is found: empty, or the prefix of a proxy, as this module's own address holds it.
const ROOT = new URL("..", import.meta.url).pathname.replace(/\/$/, "");

// A path of the server as this browser asks for it.
export const at = (path) => ROOT + path;

// The parts of this page's path, below the prefix: `["studies", "digits"]`.
export const pathParts = () => location.pathname.split("/").slice(ROOT.split("/").length);

// This page's path and what stands in its address after that, below the prefix.
export const here = () => `/${pathParts().join("/")}${location.search}${location.hash}`;

const SVG = "http://www.w3.org/2000/svg";

function build(node, attributes, children) {
  for (const [name, value] of Object.entries(attributes)) {
    if (name.startsWith("on")) node.addEventListener(name.slice(2), value);
    else if (value === true) node.setAttribute(name, "");
    else if (value !== false && value != null) node.setAttribute(name, String(value));
  }
  node.append(...children.flat(Infinity).filter((child) => child != null));
  return node;
}

export const el = (tag, attributes = {}, ...children) => build(document.createElement(tag), attributes, children);

export const svg = (tag, attributes = {}, ...children) => build(document.createElementNS(SVG, tag), attributes, children);

// A sentence with what stands between backticks as code.
export const withCode = (text) => text.split("`").map((part, index) => (index % 2 ? el("code", {}, part) : part));

// The element of that id, whose kind the page's HTML decides.
/** @type {(id: string) => any} */
export const byId = (id) => document.getElementById(id);

// Replaces the children of `parent` by elements with stable `data-key`s, moving and keeping those whose `data-print` is unchanged,
// so that focus, selection and scroll survive an update. Where the focused one has changed, its first button takes the focus over.
export function reconcile(parent, elements) {
  const known = new Map([...parent.children].map((child) => [child.dataset.key, child]));
  const wanted = elements.map((element) => {
    const old = known.get(element.dataset.key);
    return old && old.dataset.print === element.dataset.print ? old : element;
  });
  const kept = new Set(wanted);
  const focused = parent.contains(document.activeElement) ? /** @type {HTMLElement} */ (document.activeElement.closest("[data-key]"))?.dataset.key : null;
  for (const child of [...parent.children]) if (!kept.has(child)) child.remove();
  wanted.forEach((element, index) => {
    if (parent.children[index] !== element) parent.insertBefore(element, parent.children[index] ?? null);
  });
  if (focused != null && !parent.contains(document.activeElement)) {
    wanted.find((element) => element.dataset.key === focused)?.querySelector("button")?.focus({ preventScroll: true });
  }
}
