// The log of an attempt: shows its end first, earlier parts on request, and new lines as they arrive. Follows the end unless scrolled up.

import { getLog } from "../api.js";
import { el } from "../dom.js";
import { ENDINGS } from "./story.js";

const PAGE = 500; // chunks
const NEAR = 24; // px; a smaller distance from the end counts as the end

// The number of the log's last chunk, which is after `known`. Exponential and binary search, so that a long log is not read completely.
async function lastOf(read, known) {
  const exists = async (seq) => (await read({ after: seq - 1, limit: 1 })).chunks.length > 0;
  let [low, step] = [known, PAGE];
  while (await exists(low + step)) [low, step] = [low + step, 2 * step];
  let high = low + step; // invariant: chunk `low` exists, chunk `high` does not
  while (high - low > 1) {
    const middle = Math.floor((low + high) / 2);
    if (await exists(middle)) low = middle;
    else high = middle;
  }
  return low;
}

// Creates the log in `node`; returns {show(attempts), grown(event)}.
export function trialLog(node, key, number) {
  const text = el("pre", { class: "log", tabindex: 0, role: "log", "aria-live": "off", "aria-label": "Log" });
  const choice = el("select", { onchange: () => choose(Number(choice.value)) });
  const chooser = el("label", { class: "select", hidden: true }, "Attempt", choice);
  const earlier = el("button", { class: "button small", type: "button", hidden: true, onclick: () => chain(readEarlier) }, "Show earlier lines");
  const toEnd = el("button", { class: "button small", type: "button", hidden: true, onclick: follow }, "Jump to the end");
  const empty = el("p", { class: "quiet" }, "Nothing has been logged.");
  let attempt = null; // the attempt that is shown
  let newest = true; // whether a newer attempt replaces it
  let [first, last] = [1, 0]; // the range of chunks that is shown
  let following = true;
  let work = Promise.resolve();

  const read = (values) => getLog(key, number, { attempt, ...values });
  const atEnd = () => text.scrollHeight - text.scrollTop - text.clientHeight < NEAR;

  // Reads run one after another. The next read includes the chunks of a failed one.
  function chain(reading) {
    work = work.then(reading).catch((error) => (empty.textContent = error.message));
    return work;
  }

  function follow() {
    following = true;
    text.scrollTop = text.scrollHeight;
    toEnd.hidden = true;
  }

  function show() {
    empty.hidden = last > 0;
    text.hidden = !last;
    earlier.hidden = first <= 1;
    if (following) follow();
    else toEnd.hidden = atEnd();
  }

  async function readOn() {
    for (let more = attempt !== null; more; ) {
      const part = await read({ after: last, limit: PAGE });
      if (!part.chunks.length) break;
      text.append(part.chunks.map((chunk) => chunk.text).join(""));
      last = part.chunks.at(-1).seq;
      more = part.next !== null;
      if (more && last === PAGE) await skipToEnd();
    }
    show();
  }

  async function skipToEnd() {
    const end = await lastOf(read, last);
    if (end - last <= PAGE) return;
    text.replaceChildren();
    last = end - PAGE;
    first = last + 1;
  }

  async function readEarlier() {
    const from = Math.max(1, first - PAGE);
    const part = await read({ after: from - 1, limit: first - from });
    const below = text.scrollHeight - text.scrollTop;
    following = false;
    text.prepend(part.chunks.map((chunk) => chunk.text).join(""));
    first = from;
    show();
    text.scrollTop = text.scrollHeight - below;
  }

  function choose(chosen) {
    newest = chosen === Number(choice.options[0]?.value);
    begin(chosen);
  }

  function begin(chosen) {
    chain(async () => {
      attempt = chosen;
      [first, last, following] = [1, 0, true];
      text.replaceChildren();
      empty.textContent = "Nothing has been logged in this attempt.";
      await readOn();
    });
  }

  text.addEventListener("scroll", () => {
    following = atEnd();
    toEnd.hidden = following;
  });
  node.append(el("div", { class: "toolbar" }, chooser, earlier, toEnd), empty, text);
  text.hidden = true;

  return {
    // `attempts`: the trial's attempts, oldest first.
    show(attempts) {
      const options = [...attempts].reverse().map((one) => el("option", { value: one.attempt }, `${one.attempt}: ${one.ending ? ENDINGS[one.ending] : "running"}`));
      const latest = attempts.at(-1)?.attempt ?? null;
      chooser.hidden = attempts.length < 2;
      const begun = latest !== null && newest && latest !== attempt;
      const chosen = begun || attempt === null ? latest : attempt;
      choice.replaceChildren(...options);
      if (chosen !== null) choice.value = String(chosen);
      if (begun) begin(latest);
    },
    // Handles a `trial_logged` event.
    grown(event) {
      if (event.attempt === attempt) chain(() => (event.chunk > last ? readOn() : null));
    },
  };
}
