// The state of a worker, from its own report and its last heartbeat.

const SILENT_SECONDS = 60; // twelve heartbeats

// Returns alive, draining, gone, or silent: the worker was killed, or its machine cannot reach the database.
export function stateOf(worker) {
  return worker.state !== "gone" && worker.silent_seconds > SILENT_SECONDS ? "silent" : worker.state;
}
