// Redraws a part of a page only if its data has changed, so that focus, selection, scroll position and open details survive.

const prints = new WeakMap(); // node → JSON of the data that it shows

// Replaces the node's children by `make()` (a nested list; nulls are omitted), unless the node already shows `value`.
export function renew(node, value, make) {
  const print = JSON.stringify(value);
  if (prints.get(node) === print) return;
  prints.set(node, print);
  node.replaceChildren(...[make()].flat(Infinity).filter((child) => child != null));
}
