// The pruning report: saved epochs, and whether another pruner would have changed the winner. Fetched when the panel is opened.

import { getPruning } from "../api.js";
import { byId, el } from "../dom.js";
import { count, duration, percent, plural } from "../format.js";
import { showNotice } from "../parts.js";
import { trialAddress } from "../trials.js";

const head = (name, number = false) => el("th", { scope: "col", class: number ? "number" : null }, name);
const link = (key, number) => (number == null ? "–" : el("a", { href: trialAddress(key, number) }, `Trial ${number}`));

function epochs([low, high]) {
  return low === high ? count(low) : `${count(low)} to ${count(high)}`;
}

// If unknown epochs could change the decision, the decision on the known epochs alone.
function fate({ kept_winner: kept, likely, own }) {
  if (kept !== null) return kept ? "kept" : own ? "pruned" : "would have been pruned";
  return likely == null ? "unknown" : `probably ${likely ? "kept" : "pruned"}`;
}

function prunerRow(key, pruner) {
  return el("tr", { class: pruner.own ? "own" : null },
    el("th", { scope: "row" }, pruner.label ?? pruner.name, pruner.own ? el("span", { class: "quiet" }, " · this study's") : null),
    el("td", {}, fate(pruner)), el("td", {}, link(key, pruner.winner)),
    el("td", { class: "number" }, count(pruner.trials_pruned)), el("td", { class: "number" }, epochs(pruner.epochs)));
}

function saved({ epochs: savedEpochs, of, seconds }) {
  const time = seconds == null ? "" : `, about ${duration(1000 * seconds)} of training`;
  return of ? `Pruning saved ${plural(savedEpochs, "epoch", "epochs")} of ${count(of)} (${percent(savedEpochs / of)})${time}.` : "Nothing was pruned.";
}

function overtaking(key, found) {
  if (!found.length) return null;
  return [
    el("h3", {}, "Pruned trials that might have overtaken the winner"),
    el("ul", { class: "sentences" }, found.map((one) => el("li", {}, link(key, one.trial), `: ${percent(one.chance)}, by the gains of ${plural(one.n, "complete trial", "complete trials")}`))),
  ];
}

function report(key, answer) {
  const sentences = answer.words.length ? answer.words : [saved(answer.saved)];
  return [
    answer.partial ? el("p", { class: "quiet" }, "Preliminary: the search is not complete.") : null,
    el("ul", { class: "sentences" }, sentences.map((sentence) => el("li", {}, sentence))),
    answer.pruners.length ? el("div", { class: "scroll", tabindex: 0, role: "group", "aria-label": "Other pruners on the same curves" },
      el("table", { class: "pruners" },
        el("thead", {}, el("tr", {}, head("Pruner"), head("The winner"), head("Best completed trial"), head("Trials pruned", true), head("Epochs trained", true))),
        el("tbody", {}, answer.pruners.map((pruner) => prunerRow(key, pruner))))) : null,
    overtaking(key, answer.overtaking),
  ].flat().filter(Boolean);
}

export class PruningPanel {
  constructor(key) {
    this.key = key;
    this.seen = null;
    this.study = null;
    byId("pruning").addEventListener("toggle", () => this.read());
  }

  update(study) {
    this.study = study;
    byId("pruning").hidden = !study.best;
    if (study.finished_at) this.read();
  }

  async read() {
    const { study } = this;
    if (!byId("pruning").open || !study || this.seen === study.seq) return;
    this.seen = study.seq;
    byId("pruning-body").setAttribute("aria-busy", "true");
    try {
      byId("pruning-body").replaceChildren(...report(this.key, await getPruning(this.key)));
      showNotice(byId("pruning-notice"), null);
    } catch (error) {
      this.seen = null;
      showNotice(byId("pruning-notice"), error.message);
    }
    byId("pruning-body").setAttribute("aria-busy", "false");
  }
}
