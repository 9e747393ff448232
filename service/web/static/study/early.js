// What the page shows first is asked for while the rest of its modules are still on their way.

import { pathParts } from "../dom.js";
import { getCurves, getTable } from "../api.js";

export const key = decodeURIComponent(pathParts()[1]);

const table = getTable(key, 0);
const curves = table.then(() => getCurves(key, new URLSearchParams(location.search).get("metric"), 0));
const answers = { table, curves };
for (const answer of Object.values(answers)) answer.catch(() => {}); // said where it is awaited

// Hands an answer over, once, and keeps nothing of it.
export function take(name) {
  const answer = answers[name];
  delete answers[name];
  return answer;
}
