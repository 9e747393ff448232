// The panel of the confirmation: a preview during the search, then progress and results.

import { getConfirmation } from "../api.js";
import { armsChart } from "../confirmation/plot.js";
import { armsTable } from "../confirmation/table.js";
import { worthFigures } from "../confirmation/worth.js";
import { at, byId, el } from "../dom.js";
import { plural } from "../format.js";
import { examples, worded } from "../measures.js";
import { showNotice } from "../parts.js";
import { renew } from "../renew.js";

const PAUSE_MILLISECONDS = 1000; // minimum time between two reads
const TROUBLE_MILLISECONDS = 4000; // after a failed read
const BUSY = ["trial_queued", "trial_started", "trial_completed", "trial_failed", "trial_cancelled", "trial_requeued"]; // events after which the confirmation is read again

const address = (key, rest = "") => at(`/studies/${encodeURIComponent(key)}${rest}`);

function prospect(study) {
  const { spec: { confirm }, sizes } = study;
  const tested = sizes?.test ? plural(sizes.test, `test ${study.task.example}`, `test ${examples(study)}`) : `the test ${examples(study)}`;
  return `When the search is over, its best ${plural(confirm.top, "configuration", "configurations")} and the baseline are trained again, with up to ${plural(confirm.seeds, "new seed", "new seeds")} each${study.task.external ? "" : `, and scored on ${tested}, which are not used before`}.`;
}

export class ConfirmationPanel {
  // `changed(verdict)` is called with each new verdict.
  constructor(key, changed) {
    this.key = key;
    this.changed = changed;
    this.study = null;
    this.answer = null;
    this.readAt = -Infinity;
    this.timer = null;
    this.reading = false;
    this.again = false;
    this.drawn = null;
    this.settled = false;
    this.chart = armsChart();
    byId("confirmation-chart").append(this.chart.node);
    byId("confirmation-table").addEventListener("toggle", () => this.show());
  }

  // Updates the panel from the study, and reads the confirmation if necessary.
  update(study) {
    const before = this.study;
    this.study = study;
    byId("confirmation").hidden = study.spec.confirm === null;
    if (study.spec.confirm === null) return;
    if (study.phase !== before?.phase || study.state !== before?.state) this.due();
    this.show();
  }

  // Events of the runs. Reports change nothing here.
  apply(events) {
    if (events.some((event) => BUSY.includes(event.kind))) this.due();
  }

  due() {
    if (this.study?.phase === "search") return;
    if (this.reading) this.again = true;
    else this.timer ??= setTimeout(() => this.read(), Math.max(0, this.readAt + PAUSE_MILLISECONDS - performance.now()));
  }

  async read() {
    Object.assign(this, { timer: null, reading: true, again: false, readAt: performance.now() });
    try {
      this.answer = await getConfirmation(this.key);
      showNotice(byId("confirmation-notice"), null);
      this.show();
      if (this.answer.verdict) this.changed(this.answer.verdict);
    } catch (error) {
      const deleted = error.status === 404; // the page shows this already
      showNotice(byId("confirmation-notice"), deleted ? null : `${error.message} Trying again.`);
      this.again ||= !deleted;
      this.readAt += TROUBLE_MILLISECONDS;
    }
    this.reading = false;
    if (this.again) this.due();
  }

  show() {
    const { study, answer } = this;
    const verdict = worded(answer?.verdict ?? null, study);
    byId("confirmation-best").hidden = study.phase !== "done" || !verdict;
    byId("confirmation-best").href = address(this.key, "/best");
    renew(byId("confirmation-finding"), [study.phase, study.best, study.spec.confirm, study.sizes, answer], () => this.finding(verdict));
    renew(byId("confirmation-progress"), [study.phase, answer?.runs], () => (study.phase === "running" && answer ? this.progress() : []));
    const worth = worthFigures(verdict);
    byId("confirmation-worth").hidden = !worth.length;
    renew(byId("confirmation-worth"), verdict, () => worth);
    this.showArms(verdict);
    this.showSentences(verdict);
  }

  showArms(verdict) {
    const some = verdict?.arms.length > 0;
    byId("confirmation-chart").hidden = byId("confirmation-table").hidden = !some;
    if (!some) return;
    const print = JSON.stringify(verdict);
    if (print !== this.drawn) this.chart.draw(verdict, this.key);
    this.drawn = print;
    if (byId("confirmation-table").open) renew(byId("confirmation-rows"), verdict, () => armsTable(verdict, this.key));
  }

  // All sentences but the first. The list is opened when the verdict is final.
  showSentences(verdict) {
    const sentences = verdict?.words.slice(1) ?? [];
    byId("confirmation-sentences").hidden = !sentences.length;
    byId("confirmation-sentences").querySelector("summary").textContent = verdict?.state === "running" ? "Results so far" : "In words";
    renew(byId("confirmation-list"), sentences, () => sentences.map((sentence) => el("li", {}, sentence)));
    if (this.settled || !verdict || verdict.state === "running") return;
    this.settled = byId("confirmation-sentences").open = true;
  }

  finding(verdict) {
    const { study, answer } = this;
    if (study.phase === "search") return el("p", {}, prospect(study));
    if (study.phase === "none") return el("p", {}, study.best ? "The study ended before its confirmation began." : "The study has nothing to confirm: no trial of its search is complete.");
    const first = verdict?.words[0];
    return el("p", { class: first ? "finding" : null }, first ?? answer?.note ?? "Reading the confirmation …");
  }

  progress() {
    const { runs, verdict } = this.answer;
    const most = Math.max((verdict?.arms.length ?? 0) * this.study.spec.confirm.seeds, runs.done + runs.running + runs.queued, 1);
    const bar = el("div", { class: "rounds", role: "progressbar", "aria-label": "Runs of the confirmation", "aria-valuemin": 0, "aria-valuemax": most, "aria-valuenow": runs.done },
      ["done", "running"].filter((state) => runs[state]).map((state) => {
        const part = el("span", { class: state });
        part.style.setProperty("--share", runs[state] / most);
        return part;
      }));
    return [el("p", { class: "quiet" }, `${plural(runs.running, "run is", "runs are")} running, ${runs.queued} queued. Clearly worse configurations are stopped early.`), bar];
  }
}
