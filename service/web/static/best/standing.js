// Sentences on whether the configuration is confirmed.

import { at, el } from "../dom.js";
import { count } from "../format.js";
import { examples, worded } from "../measures.js";

// The verdict that recommends the configuration; null if it is not confirmed.
export const confirmedBy = (confirmation, study) => (confirmation?.phase === "done" && confirmation.verdict?.recommended != null ? worded(confirmation.verdict, study) : null);

function warning(study) {
  const tries = study.counts.complete;
  return tries > 1 ? `The best of ${count(tries)} trials looks better than it is.` : "One run with one seed is little evidence.";
}

function prospect(study, confirmation) {
  if (study.spec.confirm) return [study.phase === "none" ? "The study ended before its confirmation began." : (confirmation?.note ?? "")];
  const copy = el("a", { class: "changes", href: at(`/new?from=${encodeURIComponent(study.name)}`) }, "Copy this study");
  return [`A study with a confirmation trains its best configurations and the baseline again with new seeds${study.task.external ? "" : `, and scores them on test ${examples(study)} that no trial has used`}. `, ...(study.task.external ? [] : [copy])];
}

export function standing(study, confirmation) {
  const verdict = confirmedBy(confirmation, study);
  if (!verdict) {
    return [
      el("p", { class: "finding" }, `Not confirmed. ${warning(study)}`),
      el("p", {}, ...prospect(study, confirmation)),
      ...(confirmation?.verdict?.words ?? []).slice(0, 1).map((sentence) => el("p", {}, sentence)),
    ];
  }
  const [first, ...rest] = verdict.words;
  return [
    el("p", { class: "quiet" }, confirmation.note),
    el("p", { class: "finding" }, first ?? ""),
    rest.length ? el("ul", { class: "sentences" }, rest.map((sentence) => el("li", {}, sentence))) : null,
  ].filter(Boolean);
}
