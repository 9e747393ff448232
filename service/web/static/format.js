// Formats numbers, times and sizes for display.

const whole = new Intl.NumberFormat("en");

export const count = (value) => whole.format(value);

export function plural(value, one, many) {
  return `${count(value)} ${value === 1 ? one : many}`;
}

// A metric's value; shares in percent. See measures.js for `measure`.
export function metric(measure, value) {
  if (value == null) return "–";
  return measure.share ? `${(100 * value).toFixed(2)} %` : number(value);
}

// The absolute difference of two values; for shares in percentage points.
export function apart(measure, value, other) {
  const by = Math.abs(value - other);
  return measure.share ? `${(100 * by).toFixed(2)} points` : number(by);
}

// The signed difference of two values.
export function difference(measure, value, from) {
  return `${value < from ? "−" : value > from ? "+" : "±"}${apart(measure, value, from)}`;
}

export function number(value) {
  const size = Math.abs(value);
  if (size < 1e6 && Number.isInteger(value)) return String(value);
  return size >= 1e-3 && size < 1e5 ? String(Number(value.toPrecision(4))) : Number(value.toPrecision(3)).toExponential().replace("e+", "e");
}

export function scalar(value) {
  return typeof value === "number" && !Number.isSafeInteger(value) ? number(value) : String(value);
}

/** @type {[number, string][]} */
const SIZES = [[1e9, "GB"], [1e6, "MB"], [1e3, "kB"]];

export function bytes(value) {
  const [unit, name] = SIZES.find(([size]) => value >= size) ?? [1, "bytes"];
  return `${Number((value / unit).toPrecision(3))} ${name}`;
}

export const percent = (share) => `${Math.round(100 * share)} %`;

export function duration(milliseconds) {
  const seconds = Math.max(0, Math.round(milliseconds / 1000));
  if (seconds < 60) return `${seconds} s`;
  if (seconds < 3600) return `${Math.floor(seconds / 60)} min ${seconds % 60} s`;
  return `${Math.floor(seconds / 3600)} h ${Math.floor((seconds % 3600) / 60)} min`;
}

// The duration between two times in milliseconds; until now if the second is null.
export const between = (from, to) => (from == null ? "–" : duration((to ?? Date.now()) - from));

export function elapsed(from, to) {
  return from == null ? "–" : duration((to == null ? Date.now() : Date.parse(to)) - Date.parse(from));
}

export function ago(instant) {
  const seconds = (Date.now() - Date.parse(instant)) / 1000;
  return seconds < 45 ? "just now" : `${duration(1000 * (seconds < 3600 ? 60 * Math.round(seconds / 60) : seconds)).replace(/ 0 s$/, "")} ago`;
}
