// Creates DOM elements. Strings become text nodes; no string is parsed as HTML.

// The server's path prefix, derived from this module's URL: empty, or the prefix of a proxy.
const ROOT = new URL("..", import.meta.url).pathname.replace(/\/$/, "");

// A path of the server with the prefix added.
export const at = (path) => ROOT + path;

// The segments of this page's path without the prefix, such as `["studies", "digits"]`.
export const pathParts = () => location.pathname.split("/").slice(ROOT.split("/").length);

// This page's path, query and fragment, without the prefix.
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

// A sentence in which text between backticks becomes a `code` element.
export const withCode = (text) => text.split("`").map((part, index) => (index % 2 ? el("code", {}, part) : part));

// The element with this id. Its type depends on the page's HTML.
/** @type {(id: string) => any} */
export const byId = (id) => document.getElementById(id);

// Replaces the children of `parent` by `elements`. Children with the same `data-key` and `data-print` are kept and moved,
// so that focus, selection and scroll position survive an update. If the focused child is replaced, the first button of the new one gets the focus.
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
