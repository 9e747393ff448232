// The form: a panel for each part of a study. It shows and edits the draft's document.

import { at, el } from "../dom.js";
import { plural, scalar } from "../format.js";
import { choice, field, numberInput, textInput } from "./fields.js";
import { optionFields, section, summary, variants } from "./options.js";
import { fixedPanel, spacePanel } from "./space.js";

export const CONFIRM = { top: 3, seeds: 5 };
export const TEST_SHARE = 0.2;
const LOCATIONS = [[null, "accessible to server and workers"], ["workers", "accessible to workers only"]];

function panel(title, ...content) {
  return el("section", { class: "panel" }, el("header", {}, el("h2", {}, title)), content);
}

// `context` has draft, tasks (names, empty for a copy), schema, models, weights (of the chosen model), stages, presets, hyperparameters, notSearched, metrics, task, words (`form` of
// the task's module), redraw.
export function panels(context) {
  return [
    panel("Study and data", studyFields(context)),
    panel("Model", modelFields(context)),
    panel("Search space", spacePanel(context)),
    panel("Fixed hyperparameters", fixedPanel(context)),
    panel("Objective and budget", goalFields(context)),
    panel("Search", searchFields(context)),
    panel("Confirmation", confirmFields(context)),
  ];
}

// Choosing a task opens its form, which has a draft of its own. A copy of a study keeps the task.
function taskField({ tasks, task }) {
  if (tasks.length < 2) return null;
  const input = el("select", { onchange: () => location.assign(at(`/new?task=${tasks[input.selectedIndex]}`)) },
    tasks.map((name) => el("option", { selected: name === task.name }, name.replaceAll("_", " "))));
  return field("Task", ["task"], input, "a script of your own (task: script) has no form: write a file, and create it with thaw study create FILE");
}

function studyFields(context) {
  const { draft, words } = context;
  return el("div", { class: "fields" },
    taskField(context),
    field("Name", ["name"], textInput(draft, ["name"], { maxlength: 128 })),
    wide(field("Path of the data", ["data", "path"], textInput(draft, ["data", "path"], { class: "mono" }), words.path ?? "a folder or a table")),
    (words.columns ?? []).map(([name, label, usual]) => field(label, ["data", name], textInput(draft, ["data", name], { placeholder: usual }))),
    wide(field("Location", ["data", "location"], choice(draft, ["data", "location"], LOCATIONS), "data on the server is checked now, other data by the first worker")),
    field("Validation share", ["data", "validation"], numberInput(draft, ["data", "validation"], { placeholder: "0.2" }), joined(words.strata, "used to compare trials")),
    field("Test share", ["data", "test"], numberInput(draft, ["data", "test"], { placeholder: "0" }), joined(words.strata, "not used by the search; the confirmation scores the best configurations on it")));
}

const joined = (...parts) => parts.filter(Boolean).join("; ");

function wide(made) {
  made.classList.add("wide");
  return made;
}

function modelFields(context) {
  const { draft, models, weights, stages, words } = context;
  const name = models.length ? choice(draft, ["model", "name"], models.map((one) => [one, one]), (chosen) => {
    draft.set(["model", "name"], chosen);
    context.modelChosen();
  }) : textInput(draft, ["model", "name"], { class: "mono" });
  const model = field("Model", ["model", "name"], name, stages ? `${plural(stages, "stage", "stages")} that can be frozen, and the head` : words.name ?? null);
  return [
    el("div", { class: "fields" },
      models.length ? model : wide(model), // a path
      wide(field("Weights", ["model", "weights"], textInput(draft, ["model", "weights"], { class: "mono", list: "weights-names", placeholder: words.weights ? "DEFAULT: the model's own pretrained weights" : "" }),
        words.weights ?? "a .safetensors, .pt or .pth file, or random"))),
    el("datalist", { id: "weights-names" }, weights.map((one) => el("option", { value: one }))),
  ];
}

function goalFields(context) {
  const { draft, metrics, schema, task } = context;
  const words = { maximize: "higher", minimize: "lower" };
  const objective = choice(draft, ["objective", "metric"], Object.entries(metrics).map(([name, direction]) => [name, `${name}, ${words[direction]} is better`]), (name) =>
    draft.set(["objective"], { metric: name, direction: metrics[name] }));
  return [
    el("div", { class: "fields" },
      field("Objective", ["objective", "metric"], objective, `on the validation ${task.example}s, after the last epoch`),
      field("Trials", ["budget", "trials"], numberInput(draft, ["budget", "trials"], { placeholder: "no limit" })),
      field("Hours", ["budget", "hours"], numberInput(draft, ["budget", "hours"], { placeholder: "no limit" }), "counted from the first trial"),
      field("Parallel trials", ["budget", "parallel"], numberInput(draft, ["budget", "parallel"], { placeholder: "number of slots" }), "maximum number of trials that run at the same time")),
    baseline(context),
    disclosure("Limits of a trial", el("div", { class: "fields" }, optionFields(draft, section(schema, "limits"), ["limits"]))),
  ];
}

function baseline(context) {
  const { draft } = context;
  const given = draft.get(["baseline"]);
  const input = el("input", { id: "baseline", type: "checkbox", checked: given !== undefined, onchange: () => {
    draft.set(["baseline"], input.checked ? context.usualBaseline() : undefined);
    context.redraw("#/baseline");
  } });
  const other = Object.entries(given ?? {}).map(([name, value]) => `${name} ${scalar(value)}`).join(", ");
  return el("div", { class: "field", "data-pointer": "#/baseline" },
    el("div", { class: "check" }, input, el("label", { for: "baseline" }, "Run the trainer's defaults as trial 0, to measure the gain of the search")),
    el("p", { class: "field-fault" }),
    el("p", { class: "hint" }, other ? `With ${other}.` : null));
}

function confirmFields(context) {
  const { draft, task } = context;
  const wanted = draft.get(["confirm"]) != null;
  const input = el("input", { id: "confirm", type: "checkbox", checked: wanted, onchange: () => {
    draft.set(["confirm"], input.checked ? CONFIRM : undefined);
    if (input.checked && !draft.get(["data", "test"])) draft.set(["data", "test"], TEST_SHARE);
    context.redraw("#/confirm");
  } });
  const number = (name, label, hint) => field(label, ["confirm", name], numberInput(draft, ["confirm", name], { placeholder: String(CONFIRM[name]), keepEmpty: true }), hint);
  return el("div", { class: "named", "data-pointer": "#/confirm" },
    el("div", { class: "check" }, input, el("label", { for: "confirm" }, `After the search, train the best configurations and the baseline again with new seeds, and score them on the test ${task.example}s`)),
    el("p", { class: "field-fault" }),
    wanted
      ? el("div", { class: "fields" }, number("top", "Best configurations", "number of configurations, by their value in the search"), number("seeds", "Seeds", "maximum runs of each configuration; clearly worse ones are stopped early"))
      : el("p", { class: "hint" }, "Without a confirmation, the best of many trials looks better than it is, by an unknown amount."));
}

function disclosure(title, content) {
  return el("details", { class: "disclosure", "data-title": title }, el("summary", {}, title), content);
}

function searchFields(context) {
  return el("div", { class: "halves" }, named(context, "sampler", "Sampler"), named(context, "pruner", "Pruner"));
}

function named(context, property, title) {
  const { draft, schema } = context;
  const known = variants(schema, property);
  const usual = schema.properties[property].default.name;
  const name = draft.get([property, "name"]) ?? usual;
  const part = known.find(([one]) => one === name)?.[1];
  const input = choice({ get: () => name }, [property, "name"], known.map(([one]) => [one, one]), (chosen) => {
    draft.set([property], { name: chosen });
    context.redraw(`#/${property}/name`);
  });
  const options = part ? optionFields(draft, part, [property]) : [];
  return el("div", { class: "named", "data-pointer": `#/${property}` },
    el("p", { class: "field-fault" }),
    field(title, [property, "name"], input, summary(part)),
    options.length ? disclosure(`Options of ${name}`, el("div", { class: "fields" }, options)) : null);
}

