// Converts typed text to values, and back. Text that is not a number stays text, which the server reports as a fault.

const NUMBER = /^[-+]?(\d+\.?\d*|\.\d+)([eE][-+]?\d+)?$/;
const WORDS = { true: true, false: false, null: null };

export function numberOf(text) {
  const typed = text.trim();
  return NUMBER.test(typed) ? Number(typed) : typed;
}

export function scalarOf(text) {
  const typed = text.trim();
  if (Object.hasOwn(WORDS, typed)) return WORDS[typed];
  if (/^".*"$/.test(typed)) {
    try {
      return JSON.parse(typed);
    } catch {
      return typed;
    }
  }
  return numberOf(typed);
}

// The shorter notation: 1e-5 instead of 0.00001.
export function numberText(value) {
  if (typeof value !== "number") return String(value);
  const short = value.toExponential().replace("e+", "e");
  return short.length < String(value).length ? short : String(value);
}

// Text that would be parsed as another type is quoted.
export function textOf(value) {
  if (typeof value === "number") return numberText(value);
  if (typeof value !== "string") return JSON.stringify(value);
  return scalarOf(value) === value && !/[,"]/.test(value) ? value : JSON.stringify(value);
}

export const listText = (values) => (Array.isArray(values) ? values.map(textOf).join(", ") : String(values ?? ""));

// Items separated by commas. A comma inside quotes belongs to its item.
export function listOf(text) {
  const items = text.match(/\s*("(\\.|[^"\\])*"|[^,])+/g) ?? [];
  return items.map((item) => item.trim()).filter((item) => item !== "").map(scalarOf);
}
