// Client of the REST interface. Responses are returned as values; problems are thrown as errors with the server's message.

import { at, here } from "./dom.js";

const API = at("/api/v1");

export class Problem extends Error {
  constructor(status, body) {
    super([body.detail ?? "The server does not answer.", ...(body.errors ?? []).map((fault) => fault.detail)].join(" "));
    this.status = status;
    this.faults = body.errors ?? []; // each with the JSON pointer of its field
  }
}

// `body` is sent as JSON; a string is sent unchanged, as YAML.
async function call(method, path, body) {
  const text = typeof body === "string";
  const headers = { Accept: "application/json", ...(body === undefined ? {} : { "Content-Type": text ? "application/yaml" : "application/json" }) };
  const answer = await fetch(API + path, { method, headers, body: text ? body : JSON.stringify(body) });
  if (answer.status === 401) location.assign(at(`/login?next=${encodeURIComponent(here())}`));
  if (!answer.ok) throw new Problem(answer.status, await answer.json().catch(() => ({})));
  return answer.status === 204 ? null : answer.json();
}

let tasks = null; // promise of the installed tasks by name; read once, and again after a failure

function readTasks() {
  tasks ??= call("GET", "/tasks").then(
    (answer) => new Map(answer.tasks.map((task) => [task.name, task])),
    (error) => {
      tasks = null;
      throw error;
    },
  );
  return tasks;
}

const UNKNOWN = { example: "example", external: false, metrics: {}, report: [], module: null, input_module: null }; // for a task that is not installed on the server any more

// Resolves to the response after setting `task`, the description of the study's task, on each study that `studiesOf` returns.
async function withTasks(asked, studiesOf) {
  const [answer, known] = await Promise.all([asked, readTasks()]);
  for (const one of studiesOf(answer)) one.task = known.get(one.spec.task) ?? { name: one.spec.task, ...UNKNOWN };
  return answer;
}

const study = (key) => `/studies/${encodeURIComponent(key)}`;
const trial = (key, number) => `${study(key)}/trials/${number}`;
// An array becomes one parameter for each item.
const query = (values) =>
  new URLSearchParams(Object.entries(values).flatMap(([name, value]) => [value].flat().filter((one) => one != null).map((one) => [name, one]))).toString();

export const listStudies = (after, filters = {}) => withTasks(call("GET", `/studies?${query({ limit: 50, after, ...filters })}`), ({ studies }) => studies);
export const listWorkers = () => call("GET", "/workers");
export const getStudy = (key) => withTasks(call("GET", study(key)), (found) => [found]);
export const changeStudy = (key, change) => call("POST", `${study(key)}/${change}`);
export const extendStudy = (key, add) => call("PATCH", study(key), { add });
export const getChanges = (key, after) => call("GET", `${study(key)}/changes?after=${after}`);
export const bestAddress = (key, format) => `${API}${study(key)}/best?format=${format}`;
export const eventsAddress = (key, after) => `${API}${study(key)}/events?after=${after}`;
export const createStudy = (document) => call("POST", "/studies", document);
export const checkStudy = (document) => call("POST", "/study-check", document);
export const getSchema = (task) => call("GET", `/study-schema?${query({ task })}`);
export const listTasks = async () => [...(await readTasks()).values()];
export const deleteStudy = (key) => call("DELETE", study(key));
export const getTable = (key, after) => withTasks(call("GET", `${study(key)}/table?${query({ after })}`), ({ study: found }) => [found]);
export const getCurves = (key, metric, after) => call("GET", `${study(key)}/curves?${query({ metric, after })}`);
export const getFigure = (key, name, params) => call("GET", `${study(key)}/figures/${name}?${query({ param: params })}`);
export const getConfirmation = (key) => call("GET", `${study(key)}/confirmation`);
export const getPruning = (key) => call("GET", `${study(key)}/pruning`);
export const getTrial = (key, number) => call("GET", trial(key, number));
export const getMetrics = (key, number) => call("GET", `${trial(key, number)}/metrics`);
export const getLog = (key, number, values = {}) => call("GET", `${trial(key, number)}/log?${query(values)}`);
export const queueTrial = (key, params) => call("POST", `${study(key)}/trials`, { params });
export const cancelTrial = (key, number) => call("POST", `${trial(key, number)}/cancel`);
export const drainWorker = (id) => call("POST", `/workers/${encodeURIComponent(id)}/drain`);
export const listSpaces = () => call("GET", "/search-spaces");
export const listModels = () => call("GET", "/models");
export const getModel = (name) => call("GET", `/models/${encodeURIComponent(name)}`);
