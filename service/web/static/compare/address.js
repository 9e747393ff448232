// The page's URL parameters: ?trial=STUDY:NUMBER for each trial, and the metric of the curves.

export const MOST = 12; // trials shown side by side

const separator = (text) => text.lastIndexOf(":"); // a study's name can contain colons

function parsed(text) {
  const at = separator(text);
  const number = text.slice(at + 1);
  return at > 0 && /^[0-9]{1,9}$/.test(number) ? { text, study: text.slice(0, at), number: Number(number) } : { text, study: text, number: null };
}

// The trials in the URL, without duplicates: {text, study, number}; `number` is null if the text is malformed.
export function chosenTrials() {
  const texts = [...new Set(new URLSearchParams(location.search).getAll("trial"))];
  return texts.map(parsed);
}

export const nameOf = (study, number) => `${study}:${number}`;

export const chosenMetric = () => new URLSearchParams(location.search).get("metric");

// Sets the trials in the URL, as a new entry of the browser's history.
export function setTrials(texts) {
  const address = new URL(location.href);
  address.searchParams.delete("trial");
  for (const text of texts) address.searchParams.append("trial", text);
  history.pushState(null, "", address);
}

export function setMetric(name) {
  const address = new URL(location.href);
  address.searchParams.set("metric", name);
  history.replaceState(null, "", address);
}
