// The page for a new study: a form and a text, two views of one document, which the server checks while it is edited.

import { Problem, checkStudy, createStudy, getSchema, getStudy, listSpaces, listTasks } from "./api.js";
import { at, byId } from "./dom.js";
import { showNotice } from "./parts.js";
import { baselineOf } from "./new/baseline.js";
import { Draft, forget, keep, kept } from "./new/draft.js";
import { firstFaulty, reveal, showAtFields } from "./new/faults.js";
import { CONFIRM, TEST_SHARE, panels } from "./new/form.js";
import { withoutDefaults } from "./new/options.js";
import { wholeSpace } from "./new/space.js";
import { showVerdict } from "./new/verdict.js";
import { toYaml } from "./new/yaml.js";
import { drawingOf } from "./reports.js";

const CHECK_MILLISECONDS = 300;
const RETRY_MILLISECONDS = 3000;
const FIRST = {
  data: { test: TEST_SHARE }, sampler: { name: "tpe" }, pruner: { name: "asha" }, budget: { trials: 40 }, confirm: CONFIRM,
};

const form = byId("form");
const text = byId("text");
const asked = new URLSearchParams(location.search);
const from = asked.get("from");
const touched = new Set(); // pointers of the fields that had the focus and lost it
let draft = null;
let view = "form";
let written = null; // the text as typed; null if the form was edited last
let showAll = false; // whether faults are shown at all fields, not only at touched ones
let verdict = null;
let checks = 0;
let timer = null;
let made = "{}"; // JSON of the baseline that was derived from the search space
let usualTask = null; // the task of documents without `task`
const context = { weights: [], stages: 0, redraw, modelChosen, usualBaseline };

// The body for the server: the text as typed, parsed if it is JSON; or the form's document.
function requestBody() {
  if (written === null) return draft.document;
  if (/^\s*[{[]/.test(written)) {
    try {
      return JSON.parse(written);
    } catch {
      return written;
    }
  }
  return written;
}

// Updates a derived baseline when the search space changes. A baseline that the user wrote is kept.
function followSpace() {
  const { baseline } = draft.document;
  if (baseline === undefined || JSON.stringify(baseline) !== made) return;
  const now = context.usualBaseline();
  made = JSON.stringify(now);
  draft.document = { ...draft.document, baseline: now };
}

function usualBaseline() {
  const usual = baselineOf(wholeSpace(context), context.hyperparameters);
  made = JSON.stringify(usual);
  return usual;
}

function changed() {
  written = null;
  followSpace();
  later();
}

function save() {
  keep({ document: draft.document, written, view, told: showAll, made });
}

function later(milliseconds = CHECK_MILLISECONDS) {
  save();
  clearTimeout(timer);
  timer = setTimeout(check, milliseconds);
}

// The server's check of the current document; null if a later check has started.
async function check() {
  clearTimeout(timer);
  const mine = (checks += 1);
  try {
    const answer = await checkStudy(requestBody());
    if (mine !== checks) return null;
    judge(answer);
    return answer;
  } catch (error) {
    if (mine !== checks) return null;
    judge(refusal(error));
    if (!(error instanceof Problem) || error.status === 429 || error.status >= 500) later(RETRY_MILLISECONDS);
    return null;
  }
}

// A problem as the result of a check. A conflict (409) is a fault of the field `name`.
function refusal(error) {
  if (error.status === 409) return { study: null, faults: [{ pointer: "#/name", detail: error.message }] };
  return { study: null, faults: error.faults ?? [], trouble: error.faults?.length ? null : error.message };
}

function judge(one) {
  verdict = one;
  showVerdict(byId("verdict"), form, verdict, context.presets.find((preset) => preset.name === verdict.study?.preset));
  showAtFields(form, verdict.faults, (pointer) => showAll || [...touched].some((place) => place === pointer || place.startsWith(`${pointer}/`)));
  text.setAttribute("aria-invalid", String(verdict.faults.length > 0));
}

// Draws the form from the document. The focus moves to the field at `pointer`; without `pointer` it is restored.
function redraw(pointer = null) {
  const open = new Set([...form.querySelectorAll("details[open]")].map((one) => one.dataset.title));
  const back = pointer === null ? focused() : { pointer, index: 0 };
  form.replaceChildren(...panels(context));
  for (const one of form.querySelectorAll("details")) one.open = open.has(one.dataset.title);
  if (verdict) judge(verdict);
  if (back) refocus(back);
}

// The focused field and its incomplete input: while "0.1" is typed, the text "0." has the value 0 in the document.
function focused() {
  const place = form.contains(document.activeElement) ? /** @type {HTMLElement} */ (document.activeElement.closest("[data-pointer]")) : null;
  if (!place) return null;
  const { type, value, selectionStart, selectionEnd } = /** @type {any} */ (document.activeElement);
  const typed = type === "text" ? { value, selection: [selectionStart, selectionEnd] } : null;
  return { pointer: place.dataset.pointer, index: controls(place).indexOf(document.activeElement), typed };
}

/** @param {{ pointer: string, index: number, typed?: { value: string, selection: number[] } | null }} where */
function refocus({ pointer, index, typed }) {
  const place = [...form.querySelectorAll("[data-pointer]")].find((node) => node.dataset.pointer === pointer);
  const control = place && controls(place)[index];
  control?.focus();
  if (!typed || control?.type !== "text") return;
  control.value = typed.value;
  control.setSelectionRange(...typed.selection);
}

function controls(place) {
  return [...place.querySelectorAll("input, select, button")];
}

async function modelChosen() {
  const name = draft.get(["model", "name"]);
  const model = context.models.includes(name) ? await context.words.model(name).catch(() => null) : null;
  if (draft.get(["model", "name"]) !== name) return;
  context.weights = model?.weights.length ? [...model.weights, "DEFAULT", "random"] : ["random"];
  context.stages = model?.stages.length ?? 0;
  if (view === "form") redraw();
}

async function show(wanted) {
  if (wanted === "form" && written !== null && !(await readText())) return;
  view = wanted;
  if (view === "text" && written === null) text.value = toYaml(inOrder(draft.document));
  for (const [name, panel] of [["form", form], ["text", byId("writing")]]) {
    panel.hidden = name !== view;
    byId(`tab-${name}`).setAttribute("aria-selected", String(name === view));
    byId(`tab-${name}`).tabIndex = name === view ? 0 : -1;
  }
  if (view === "form") redraw();
  if (verdict) judge(verdict);
  save();
}

function inOrder(document) {
  const order = Object.keys(context.schema.properties);
  const place = (/** @type {[string, any]} */ [name]) => (order.includes(name) ? order.indexOf(name) : order.length);
  return Object.fromEntries(Object.entries(document).sort((left, right) => place(left) - place(right)));
}

// Loads the text into the form. Resolves to whether the text can be parsed.
async function readText() {
  const document = (await check())?.document;
  const readable = document !== null && typeof document === "object" && !Array.isArray(document);
  showNotice(byId("notice"), readable ? null : "The form cannot show this text; its errors are listed beside it.");
  if (readable) {
    await learn(document.task ?? usualTask).catch(() => {}); // fails for a task that is not installed; the check reports it
    draft.document = document;
    showAll = true; // the user has seen the whole text
    modelChosen();
  }
  return readable;
}

async function create(event) {
  event.preventDefault();
  byId("create").disabled = true;
  showAll = true;
  showNotice(byId("notice"), null);
  const answer = await check();
  try {
    if (answer?.study) {
      const study = await createStudy(requestBody());
      forget();
      location.assign(at(`/studies/${encodeURIComponent(study.name)}`));
      return;
    }
  } catch (error) {
    judge(refusal(error));
  }
  byId("create").disabled = false;
  showNotice(byId("notice"), verdict?.trouble ? `The study was not created. ${verdict.trouble} The form keeps its content.` : null);
  const faulty = view === "form" && verdict && firstFaulty(form, verdict.faults);
  if (faulty) reveal(faulty);
  save();
}

// Loads the task's schema, models and texts, which determine the fields of the form.
async function learn(name) {
  if (name === context.task?.name) return;
  const task = (await listTasks()).find((one) => one.name === name) ?? { name, example: "example", module: null, input_module: null };
  const [schema, { form: words = {} }] = await Promise.all([getSchema(name), drawingOf(task)]);
  const models = (await words.models?.()) ?? [];
  Object.assign(context, { task, words, models, schema: schema.study, hyperparameters: schema.hyperparameters.properties, notSearched: schema.not_searched, metrics: schema.metrics });
}

function firstDocument(spec) {
  if (spec) {
    // A study of an earlier version trained in float32, but a new document without a precision gets `auto`.
    const fixed = "precision" in { ...spec.search_space, ...spec.fixed } ? spec.fixed : { ...spec.fixed, precision: "float32" };
    return { ...withoutDefaults({ ...spec, fixed }, context.schema, usualTask), name: `${spec.name}-copy` };
  }
  const [metric, direction] = Object.entries(context.metrics)[0];
  const { name } = context.task;
  const preset = context.presets.some((one) => one.name === name) ? { preset: name } : {};
  return { ...(name === usualTask ? {} : { task: name }), objective: { metric, direction }, ...FIRST, ...context.words.first, ...preset };
}

async function start() {
  const known = kept();
  const [tasks, { presets }, copied] = await Promise.all([listTasks(), listSpaces(), from && !known ? getStudy(from) : null]);
  usualTask = tasks[0].name;
  const formed = tasks.filter(({ external }) => !external); // a study of a script is written as a file
  if (copied && !formed.some(({ name }) => name === copied.spec.task)) {
    throw new Error("This study runs a script, for which there is no form. Change its file, and create it with `thaw study create FILE`.");
  }
  const wanted = known ? known.document.task : (copied?.spec.task ?? asked.get("task"));
  await learn(formed.some(({ name }) => name === wanted) ? wanted : usualTask);
  context.presets = presets.filter(({ task }) => task === context.task.name);
  draft = new Draft(known?.document ?? firstDocument(copied?.spec), changed);
  context.draft = draft;
  context.tasks = from ? [] : formed.map(({ name }) => name);
  if (!known && !from) draft.document.baseline = usualBaseline();
  made = known?.made ?? made;
  showAll = known?.told ?? Boolean(from);
  written = known?.written ?? null;
  if (written !== null) text.value = written;
  byId("title").textContent = from ? "Copy of a study" : "New study";
  await show(known?.view ?? "form");
  byId("work").hidden = false;
  modelChosen();
  check();
}

function tabKeys(event) {
  const other = { form: "text", text: "form" }[view];
  if (!["ArrowLeft", "ArrowRight"].includes(event.key)) return;
  show(other).then(() => byId(`tab-${view}`).focus());
}

form.addEventListener("focusout", (event) => {
  const place = event.target.closest("[data-pointer]")?.dataset.pointer;
  if (place && !event.target.matches("button")) touched.add(place);
});
text.addEventListener("input", () => {
  written = text.value;
  later();
});
for (const name of ["form", "text"]) {
  byId(`tab-${name}`).addEventListener("click", () => show(name));
  byId(`tab-${name}`).addEventListener("keydown", tabKeys);
}
byId("work").addEventListener("submit", create);
byId("anew").addEventListener("click", () => {
  forget();
  location.assign(at("/new"));
});
start().catch((error) => showNotice(byId("notice"), error.message));
