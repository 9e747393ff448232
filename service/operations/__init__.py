"""All writes. Each function is one transaction, which also contains the event of the change."""

from service.operations.claiming import Searches, claim_together
from service.operations.idempotency import Idempotency, Replay
from service.operations.importing import import_study, remove_hidden, sweep_imports
from service.operations.recording import (
    Pruned,
    Released,
    TrialOutcome,
    Write,
    decide_many,
    fail_without_device,
    heartbeat,
    record,
    requeue_lost,
)
from service.operations.sinks import (
    advance_sink,
    fail_sink,
    forget_sinks,
    register_sink,
    release_sink,
    renew_sink,
    take_sink,
)
from service.operations.studies import (
    create_study,
    delete_study,
    extend_study,
    fail_study,
    pass_check,
    pause_study,
    rerank_study,
    resume_study,
    stop_study,
)
from service.operations.trials import cancel_trial, enqueue_trials, queue_trial
from service.operations.workers import (
    bound_keys,
    change_devices,
    count_set_aside,
    drain_worker,
    forget_workers,
    record_stale_leases,
    register_worker,
    report_available,
    report_unavailable,
    retire_worker,
    try_to_write,
)

__all__ = [
    "Idempotency", "Pruned", "Released", "Replay", "Searches", "TrialOutcome", "Write", "advance_sink", "bound_keys", "cancel_trial",
    "change_devices", "claim_together", "count_set_aside", "create_study", "decide_many", "delete_study", "drain_worker",
    "enqueue_trials", "extend_study", "fail_sink", "fail_study", "fail_without_device", "forget_sinks", "forget_workers", "heartbeat",
    "import_study", "pass_check", "pause_study", "queue_trial", "record", "record_stale_leases", "register_sink", "register_worker",
    "release_sink", "remove_hidden", "renew_sink", "report_available", "report_unavailable", "requeue_lost", "rerank_study",
    "resume_study", "retire_worker", "stop_study", "sweep_imports", "take_sink", "try_to_write",
]  # fmt: skip
