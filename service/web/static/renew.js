// Parts of a page that are made again only when what they show has changed: focus, selection, scroll and what was unfolded survive.

const prints = new WeakMap(); // node → what it shows, as text

// Replaces the node's children by those that `make()` gives (a list, nested, with nulls left out) unless it shows `value` already.
export function renew(node, value, make) {
  const print = JSON.stringify(value);
  if (prints.get(node) === print) return;
  prints.set(node, print);
  node.replaceChildren(...[make()].flat(Infinity).filter((child) => child != null));
}
