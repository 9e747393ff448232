// One EventSource a page. Tells what changed; what it changed to is read from the rows.

import { eventsAddress } from "./api.js";

export const KINDS = [
  "study_created", "study_checked", "study_paused", "study_resumed", "study_stopped", "study_completed", "study_failed",
  "trial_queued", "trial_started", "trial_reported", "trial_saved", "trial_completed", "trial_pruned", "trial_failed",
  "trial_cancelled", "trial_requeued",
];
const SETTLE_MILLISECONDS = 250; // events that arrive together are one change

// Calls `changed(numbers, study)` with the trials and whether the study itself was touched, and `status(word)` with live, waiting or ended.
export function follow(study, after, changed, status) {
  const source = new EventSource(eventsAddress(study, after));
  const numbers = new Set();
  let timer = null;

  const flush = () => {
    timer = null;
    const batch = [...numbers];
    numbers.clear();
    changed(batch);
  };
  const note = (event) => {
    const body = JSON.parse(event.data);
    if (Number.isInteger(body.number)) numbers.add(body.number);
    timer ??= setTimeout(flush, SETTLE_MILLISECONDS);
  };

  for (const kind of KINDS) source.addEventListener(kind, note);
  source.addEventListener("end", () => {
    source.close();
    status("ended");
  });
  source.addEventListener("open", () => status("live"));
  source.addEventListener("error", () => status(source.readyState === EventSource.CLOSED ? "ended" : "waiting"));
  addEventListener("pagehide", () => source.close(), { once: true });
  return source;
}
