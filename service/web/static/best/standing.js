// Whether the configuration is confirmed, in plain words, and what follows from it.

import { at, el } from "../dom.js";
import { count } from "../format.js";
import { examples, worded } from "../measures.js";

// The verdict that recommends the configuration; null while it is not confirmed.
export const confirmedBy = (confirmation, study) => (confirmation?.phase === "done" && confirmation.verdict?.recommended != null ? worded(confirmation.verdict, study) : null);

function warning(study) {
  const tries = study.counts.complete;
  return tries > 1 ? `The best of ${count(tries)} tries looks better than it is.` : "One run with one seed says little.";
}

function prospect(study, confirmation) {
  if (study.spec.confirm) return [study.phase === "none" ? "The study ended before its confirmation began." : (confirmation?.note ?? "")];
  const copy = el("a", { class: "changes", href: at(`/new?from=${encodeURIComponent(study.name)}`) }, "Copy this study");
  return [`A study with a confirmation trains its best and the baseline again with fresh seeds, and scores them on ${examples(study)} that no trial has seen. `, copy];
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
