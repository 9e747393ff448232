// The page's URL parameters: filter, sort order, columns and selection. Other parameters are left unchanged.

const LISTS = ["state", "columns", "pick"];
const TEXTS = ["filter", "sort", "metric"];

export function readAddress() {
  const query = new URLSearchParams(location.search);
  const lists = LISTS.map((name) => [name, (query.get(name) ?? "").split(",").filter(Boolean)]);
  return Object.fromEntries([...lists, ...TEXTS.map((name) => [name, query.get(name) ?? ""])]);
}

// Sets some of the parameters. Empty ones are removed from the URL.
export function writeAddress(changes) {
  const address = new URL(location.href);
  for (const [name, value] of Object.entries(changes)) {
    const text = [value].flat().join(",");
    if (text) address.searchParams.set(name, text);
    else address.searchParams.delete(name);
  }
  const wanted = address.href.replace(/%2C/g, ",");
  if (wanted !== location.href) history.replaceState(history.state, "", wanted);
}
