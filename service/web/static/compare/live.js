// Updates compared trials while some of them run: by events if all are of one study, else by polling.

import { follow } from "../live.js";
import { afterReport, withReports } from "../trial/course.js";
import { hasEnded } from "../trial/story.js";

const EACH_MILLISECONDS = 2000;

const underWay = (columns) => columns.filter(({ trial }) => !hasEnded(trial));

// `columns()` returns the current trials, `reread(trials)` reads them again, `changed()` redraws, `status(state)` shows the state of the connection. Returns a function that stops the updates.
export function keepUp(columns, reread, changed, status) {
  if (!underWay(columns()).length) {
    status("ended");
    return () => {};
  }
  const studies = new Set(columns().map(({ study }) => study.id));
  return studies.size === 1 ? byEvents(columns, reread, changed, status) : byReading(columns, reread, status);
}

function byEvents(columns, reread, changed, status) {
  const { key, study } = columns()[0];
  let seen = Math.min(...columns().map((one) => one.study.seq));
  const update = async (events) => {
    const due = new Set();
    let drawn = false;
    for (const event of events.filter(({ seq }) => seq > seen)) {
      const column = columns().find((one) => one.number === event.number);
      if (!column || event.seq <= column.study.seq || ["trial_logged", "trial_saved"].includes(event.kind)) continue;
      const after = afterReport(column.trial, event);
      if (after === null) due.add(column);
      else {
        column.trial = after;
        column.rows = withReports(column.rows, event.reports);
        drawn = true;
      }
    }
    seen = Math.max(seen, ...events.map(({ seq }) => seq));
    if (due.size) await reread([...due]);
    else if (drawn) changed();
    if (!underWay(columns()).length) end("ended");
  };
  const source = follow(study.id ?? key, seen, update, status);
  const end = (state) => {
    source.close();
    if (state) status(state);
  };
  return () => end(null);
}

function byReading(columns, reread, status) {
  let timer = null;
  let over = false;
  const look = async () => {
    if (!document.hidden) await reread(underWay(columns()));
    if (over) return;
    if (underWay(columns()).length) timer = setTimeout(look, EACH_MILLISECONDS);
    else status("ended");
  };
  status("live");
  timer = setTimeout(look, EACH_MILLISECONDS);
  return () => {
    over = true;
    clearTimeout(timer);
  };
}
