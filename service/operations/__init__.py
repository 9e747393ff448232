"""Every write: one function, one transaction, and the event that tells of it inside that transaction."""

from service.operations.claiming import claim, unchecked_study
from service.operations.deciding import decide, decide_many
from service.operations.idempotency import Idempotency, Replay
from service.operations.passes import claim_together
from service.operations.probing import try_to_write
from service.operations.recording import Outcome, Pruned, Released, Write, heartbeat, record, requeue_lost
from service.operations.searches import Searches
from service.operations.standstills import lengthen_standstills
from service.operations.studies import create_study, delete_study, fail_study, pass_check, pause_study, resume_study, stop_study
from service.operations.trials import cancel_trial, enqueue_trials, queue_trial
from service.operations.workers import drain_worker, register_worker, retire_worker

__all__ = [
    "Idempotency", "Outcome", "Pruned", "Released", "Replay", "Searches", "Write", "cancel_trial", "claim", "claim_together",
    "create_study", "decide", "decide_many", "delete_study", "drain_worker", "enqueue_trials", "fail_study", "heartbeat",
    "lengthen_standstills", "pass_check", "pause_study", "queue_trial", "record", "register_worker", "requeue_lost", "resume_study",
    "retire_worker", "stop_study", "try_to_write", "unchecked_study",
]  # fmt: skip
