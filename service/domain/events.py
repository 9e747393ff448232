"""The kinds of events. An event is written in the transaction of the change that it tells of."""

from enum import StrEnum


class EventKind(StrEnum):
    STUDY_CREATED = "study_created"
    STUDY_CHECKED = "study_checked"
    STUDY_PAUSED = "study_paused"
    STUDY_RESUMED = "study_resumed"
    STUDY_STOPPED = "study_stopped"
    STUDY_EXTENDED = "study_extended"  # its budget was changed
    STUDY_RENAMED = "study_renamed"  # another study took its name
    STUDY_CONFIRMING = "study_confirming"  # the search is over; its best and the baseline are trained again
    STUDY_COMPLETED = "study_completed"
    STUDY_FAILED = "study_failed"
    STUDY_UNAVAILABLE = "study_unavailable"  # a worker cannot read its data or weights
    STUDY_AVAILABLE = "study_available"  # that worker can read them again
    TRIAL_QUEUED = "trial_queued"
    TRIAL_STARTED = "trial_started"
    TRIAL_REPORTED = "trial_reported"
    TRIAL_SAVED = "trial_saved"
    TRIAL_LOGGED = "trial_logged"  # its log has grown, the trial is as it was
    TRIAL_COMPLETED = "trial_completed"
    TRIAL_PRUNED = "trial_pruned"
    TRIAL_FAILED = "trial_failed"
    TRIAL_CANCELLED = "trial_cancelled"
    TRIAL_REQUEUED = "trial_requeued"
