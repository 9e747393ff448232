// Follows a study's events with one EventSource for each page, and delivers them in batches.

import { eventsAddress, getChanges } from "./api.js";

const KINDS = [
  "study_created", "study_checked", "study_paused", "study_resumed", "study_stopped", "study_extended", "study_reranked", "study_renamed", "study_confirming", "study_completed", "study_failed",
  "study_unavailable", "study_available",
  "trial_queued", "trial_started", "trial_reported", "trial_saved", "trial_logged", "trial_completed", "trial_pruned", "trial_failed",
  "trial_cancelled", "trial_requeued",
];
const SETTLE_MILLISECONDS = 50; // events that arrive within this time form one batch
const PAUSE_MILLISECONDS = 250; // minimum time between two batches
const LOOK_MILLISECONDS = 5000; // between two polls of a study whose stream has ended
const ENDED = ["complete", "stopped", "failed"];
const GONE = [404, 422]; // the study does not exist, or another study has its name

// Calls `changed(events)` with all events since the last call, never before that call is complete,
// and `status(state)` with `live`, `waiting` or `ended`. The server ends the stream when the study ends. The study can continue later
// (if it is resumed or extended), so a visible page then polls for changes and opens a new stream when there are any.
// `look()` polls at once; `close()` ends stream and polling.
export function follow(study, after, changed, status) {
  let source = null;
  let seen = after;
  let looking = null; // id of the polling interval; null while there is a stream
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
    const one = JSON.parse(event.data);
    seen = Math.max(seen, one.seq);
    events.push(one);
    settle();
  };
  const open = () => {
    stopLooking();
    source = new EventSource(eventsAddress(study, seen));
    for (const kind of KINDS) source.addEventListener(kind, note);
    source.addEventListener("end", ended);
    source.addEventListener("open", () => status("live"));
    source.addEventListener("error", () => (source.readyState === EventSource.CLOSED ? ended() : status("waiting")));
  };
  const ended = () => {
    source.close();
    status("ended");
    looking ??= setInterval(() => document.hidden || look(), LOOK_MILLISECONDS);
  };
  const look = async () => {
    if (looking === null) return;
    try {
      const answer = await getChanges(study, seen);
      if (looking !== null && (answer.seq > seen || !ENDED.includes(answer.study.state))) open();
    } catch (error) {
      if (GONE.includes(error.status)) stopLooking();
    }
  };
  const lookAgain = () => document.hidden || look();
  const stopLooking = () => {
    clearInterval(looking);
    looking = null;
  };
  const close = () => {
    source.close();
    stopLooking();
    document.removeEventListener("visibilitychange", lookAgain);
  };

  open();
  document.addEventListener("visibilitychange", lookAgain);
  addEventListener("pagehide", () => source.readyState === EventSource.CLOSED || ended()); // the page can be restored from the back/forward cache
  return { look, close };
}
