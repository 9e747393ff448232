// One EventSource a page. Events that arrive together are handed on together.

import { eventsAddress } from "./api.js";

export const KINDS = [
  "study_created", "study_checked", "study_paused", "study_resumed", "study_stopped", "study_confirming", "study_completed", "study_failed",
  "trial_queued", "trial_started", "trial_reported", "trial_saved", "trial_logged", "trial_completed", "trial_pruned", "trial_failed",
  "trial_cancelled", "trial_requeued",
];
const SETTLE_MILLISECONDS = 50; // events that arrive together are one change
const PAUSE_MILLISECONDS = 250; // from one change to the next, however fast events keep coming

// Calls `changed(events)` with all events since the last call, never while that call is still at work,
// and `status(word)` with live, waiting or ended.
export function follow(study, after, changed, status) {
  const source = new EventSource(eventsAddress(study, after));
  let events = [];
  let settling = false;
  let flushedAt = -Infinity;

  const flush = async () => {
    const batch = events;
    events = [];
    flushedAt = performance.now();
    try {
      await changed(batch);
    } finally {
      settling = false;
      if (events.length) settle();
    }
  };
  const settle = () => {
    if (settling) return;
    settling = true;
    setTimeout(flush, Math.max(SETTLE_MILLISECONDS, flushedAt + PAUSE_MILLISECONDS - performance.now()));
  };
  const note = (event) => {
    events.push(JSON.parse(event.data));
    settle();
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
