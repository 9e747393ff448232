// Page module of tasks with texts as input: facts about the texts, and the form for a new study.

import { el } from "../dom.js";
import { count, plural } from "../format.js";

const MOST_EXAMPLES = 3;
const TOKENS = { decoded: "computed by this run", cached: "read from the cache" };

// Groups of rows with equal or nearly equal texts.
function duplicates({ groups, rows, copies, crossing, mixed, across, examples }) {
  const same = copies ? ` ${plural(copies, "row equals", "rows equal")} another row in text and target.` : "";
  if (!groups) return `none found.${same}`;
  const apart = crossing ? ` ${count(crossing)} would have been divided.` : "";
  const named = examples.slice(0, MOST_EXAMPLES).map((names) => names.join(" = "));
  return [
    el("p", {}, `${plural(rows, "row", "rows")} in ${plural(groups, "group", "groups")}${across ? "" : ", each kept in one part of the split"}.${apart}${same}`),
    across ? el("p", { class: "fault" }, `${plural(across, "group has", "groups have")} rows in several parts of the data's own split and ${across === 1 ? "was" : "were"} not moved: scores may look better than they are.`) : null,
    mixed ? el("p", { class: "fault" }, `${plural(mixed, "group has", "groups have")} more than one target: one of the rows may have a wrong one.`) : null,
    named.length ? el("details", { class: "disclosure" }, el("summary", {}, "Examples"), el("ul", { class: "examples" }, named.map((names) => el("li", { class: "mono" }, names)))) : null,
  ];
}

function lengths({ max_length, texts, truncated, tokens, longest }) {
  const cut = truncated ? `${count(truncated)} of ${count(texts)} are cut at max_length ${max_length}` : `none is cut at max_length ${max_length}`;
  return `${(tokens / Math.max(1, texts)).toFixed(1)} tokens on average, ${count(longest)} at most; ${cut}`;
}

// Defaults and texts of the form for a new study; `paths` by the target.
export const form = {
  first: { fixed: { epochs: 3, max_length: 128 } },
  paths: {
    classes: "a .csv, .tsv, .jsonl or .parquet file with a row for each text",
    numbers: "a .csv, .tsv, .jsonl or .parquet file with a row for each text",
    labels: "a .csv, .tsv, .jsonl or .parquet file with a row for each text; labels joined by |",
  },
  name: "a folder with config.json, tokenizer.json and model.safetensors, or a name of the Hugging Face hub",
  weights: "DEFAULT: those of the model; or random",
  columns: [
    ["text", "Column of the texts", "text"],
    ["text_b", "Column of the second texts", "none; for pairs of texts"],
    ["target", "Column of the targets", "label"],
  ],
};

// Rows of the panel "Data and model": [name, content].
export function facts({ facts: known }) {
  return [
    ...(known.tokens ? [["Lengths", lengths(known.tokens)]] : []),
    ...(known.duplicate_texts ? [["Near-duplicates", duplicates(known.duplicate_texts)]] : []),
    ...(known.commit ? [["Commit of the model", known.commit]] : []),
  ];
}

// Rows on the work that a run shares with others.
export function reuse({ pixels }) {
  return [["Tokens", TOKENS[pixels] ?? pixels]];
}
