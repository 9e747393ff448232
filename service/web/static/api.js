// The REST interface: answers as values, problems as errors with the server's own sentence.

const ROOT = "/api/v1";

export class Problem extends Error {
  constructor(status, body) {
    super([body.detail ?? "The server does not answer.", ...(body.errors ?? []).map((fault) => fault.detail)].join(" "));
    this.status = status;
  }
}

async function call(method, path) {
  const answer = await fetch(ROOT + path, { method, headers: { Accept: "application/json" } });
  if (answer.status === 401) location.assign(`/login?next=${encodeURIComponent(location.pathname)}`);
  if (!answer.ok) throw new Problem(answer.status, await answer.json().catch(() => ({})));
  return answer.status === 204 ? null : answer.json();
}

const study = (key) => `/studies/${encodeURIComponent(key)}`;
const query = (values) => new URLSearchParams(Object.entries(values).filter(([, value]) => value != null)).toString();

export const listStudies = (after) => call("GET", `/studies?${query({ limit: 50, after })}`);
export const listWorkers = () => call("GET", "/workers");
export const getStudy = (key) => call("GET", study(key));
export const changeStudy = (key, change) => call("POST", `${study(key)}/${change}`);
export const getChanges = (key, after) => call("GET", `${study(key)}/changes?after=${after}`);
export const bestAddress = (key, format) => `${ROOT}${study(key)}/best?format=${format}`;
export const eventsAddress = (key, after) => `${ROOT}${study(key)}/events?after=${after}`;
