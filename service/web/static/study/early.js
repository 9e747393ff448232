// Starts the page's first requests while its other modules are loading.

import { pathParts } from "../dom.js";
import { getCurves, getTable } from "../api.js";

export const key = decodeURIComponent(pathParts()[1]);

const table = getTable(key, 0);
const curves = table.then(() => getCurves(key, new URLSearchParams(location.search).get("metric"), 0));
const answers = { table, curves };
for (const answer of Object.values(answers)) answer.catch(() => {}); // errors are reported where the response is awaited

// Returns a response once, and forgets it.
export function take(name) {
  const answer = answers[name];
  delete answers[name];
  return answer;
}
