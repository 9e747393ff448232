// What a worker is up to, by its own word and by its silence.

const SILENT_SECONDS = 60; // twelve heartbeats

// alive, draining, gone, or silent: it was killed, or its machine has no way to the database.
export function stateOf(worker) {
  return worker.state !== "gone" && worker.silent_seconds > SILENT_SECONDS ? "silent" : worker.state;
}
