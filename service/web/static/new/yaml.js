// Writes a document as YAML, for reading and editing. The server parses it; no YAML is parsed here.

import { numberText } from "./scalars.js";

// A plain scalar that YAML 1.2 parses as a string, also in flow collections.
const WORD = /^[A-Za-z_/~][A-Za-z0-9_./+@~-]*( [A-Za-z0-9_./+@~-]+)*$/;
const TAKEN = /^(~|null|true|false)$/i;
const LONGEST_LINE = 110;

function scalarText(value) {
  if (typeof value === "number") return numberText(value);
  if (typeof value !== "string") return JSON.stringify(value);
  return WORD.test(value) && !TAKEN.test(value) ? value : quoted(value);
}

// JSON strings are valid YAML, except for characters that YAML requires to be escaped.
function quoted(value) {
  return JSON.stringify(value).replace(/[\u007f-\u009f\u2028\u2029\ufeff\ud800-\udfff]/gu, (one) => `\\u${one.charCodeAt(0).toString(16).padStart(4, "0")}`);
}

function flow(value) {
  if (Array.isArray(value)) return `[${value.map(flow).join(", ")}]`;
  if (value !== null && typeof value === "object") return `{${Object.entries(value).map(([key, item]) => `${scalarText(key)}: ${flow(item)}`).join(", ")}}`;
  return scalarText(value);
}

const isMap = (value) => value !== null && typeof value === "object" && !Array.isArray(value);

function lines(map, depth) {
  const indent = "  ".repeat(depth);
  return Object.entries(map).flatMap(([key, value]) => {
    const short = `${indent}${scalarText(key)}: ${flow(value)}`;
    const open = isMap(value) && Object.keys(value).length > 0 && (short.length > LONGEST_LINE || (depth === 0 && Object.values(value).some(isMap)));
    return open ? [`${indent}${scalarText(key)}:`, ...lines(value, depth + 1)] : [short];
  });
}

export function toYaml(document) {
  return isMap(document) ? `${lines(document, 0).join("\n")}\n` : `${flow(document)}\n`;
}
