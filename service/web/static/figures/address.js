// The chosen figure and its parameters in the page's URL: ?figure=contour&param=lr&param=momentum

export function readChoice(known) {
  const query = new URLSearchParams(location.search);
  const name = known.includes(query.get("figure")) ? query.get("figure") : known[0];
  return { name, params: query.getAll("param") };
}

export function writeChoice({ name, params }) {
  const address = new URL(location.href);
  address.searchParams.set("figure", name);
  address.searchParams.delete("param");
  for (const param of params) address.searchParams.append("param", param);
  history.replaceState(history.state, "", address);
}
