// What the study found and on what: its best configuration, its data and its model.

import { bestAddress } from "../api.js";
import { byId, el } from "../dom.js";
import { count, plural, scalar } from "../format.js";
import { trialAddress } from "../trials.js";

const MOST_CLASSES = 24;
const MOST_EXAMPLES = 3;

const list = (pairs) => pairs.map(([name, value]) => el("div", {}, el("dt", {}, name), el("dd", {}, value)));

// The configuration to use, and how sure it is: the confirmed recommendation, until there is one the best of the search.
function chosen({ study, verdict, key }) {
  const { best, phase } = study;
  const confirmed = phase === "done" && verdict?.arms.find((arm) => arm.trial === verdict.recommended);
  const trial = (number) => el("a", { href: trialAddress(key, number) }, `trial ${number}`);
  if (confirmed) return { params: confirmed.params, words: ["Confirmed: the configuration of ", trial(confirmed.trial), confirmed.trial === best?.number ? "." : ", the cheapest of those that cannot be told apart."] };
  if (!best) return null;
  const tries = study.counts.complete > 1 ? `The best of ${count(study.counts.complete)} tries looks better than it is.` : "It was measured once.";
  return { params: best.params, words: ["Not confirmed: the configuration of ", trial(best.number), `. ${tries}`] };
}

export function showBest(model) {
  const { study, key } = model;
  const shown = chosen(model);
  const links = [
    el("a", { href: `/studies/${encodeURIComponent(key)}/best` }, "Use it"),
    ...["yaml", "json"].map((format) => el("a", { href: bestAddress(key, format), download: `${study.id}-best.${format}` }, format.toUpperCase())),
  ];
  byId("best-links").replaceChildren(...(shown ? links : []));
  byId("best").replaceChildren(...(shown
    ? [el("dl", { class: "params" }, list(Object.entries(shown.params).map(([name, value]) => [name, scalar(value)]))), el("p", { class: "hint" }, shown.words)]
    : [el("p", { class: "quiet" }, "It appears here with the first complete trial.")]));
}

function classes({ classes: names }) {
  return `${count(names.length)}: ${names.slice(0, MOST_CLASSES).join(", ")}${names.length > MOST_CLASSES ? ", …" : ""}`;
}

// Images that differ in their files and hardly in what they show.
function nearDuplicates({ groups, images, crossing, mixed, examples }) {
  if (!groups) return "none found";
  const apart = crossing ? ` ${count(crossing)} would have been torn apart.` : "";
  const named = examples.slice(0, MOST_EXAMPLES).map((names) => names.join(" = "));
  return [
    el("p", {}, `${plural(images, "image", "images")} in ${plural(groups, "group", "groups")}, each kept on one side of the split.${apart}`),
    mixed ? el("p", { class: "fault" }, `${plural(mixed, "group has", "groups have")} more than one label: one of the images is perhaps labelled wrongly.`) : null,
    named.length ? el("details", { class: "disclosure" }, el("summary", {}, "Examples"), el("ul", { class: "examples" }, named.map((names) => el("li", { class: "mono" }, names)))) : null,
  ];
}

export function showFacts({ study: { spec, facts } }) {
  byId("facts").replaceChildren(...list([
    ["Data", spec.data.path],
    ["Weights", spec.model.weights ?? "none, random initial values"],
    ["Images", facts ? Object.entries(facts.images).map(([part, size]) => `${count(size)} ${part}`).join(", ") : "checked by the first worker"],
    ["Classes", facts ? classes(facts) : "–"],
    ...(facts?.near_duplicates ? [["Near-duplicates", nearDuplicates(facts.near_duplicates)]] : []),
    ["Fixed", Object.entries(spec.fixed).map(([name, value]) => `${name} ${scalar(value)}`).join(", ") || "nothing"],
  ]));
}
