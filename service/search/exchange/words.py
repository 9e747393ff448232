"""The words by which what Optuna has no place for stands in its database, so that it comes back."""

from collections.abc import Mapping

from optuna.trial import TrialState as OptunaState

from service.domain.states import TrialState

PREFIX = "thawline:"
SPEC = f"{PREFIX}spec"
FACTS = f"{PREFIX}facts"
LEFT_OUT = f"{PREFIX}confirmation_trials"
PARAMS = f"{PREFIX}params"
METRIC = "metric:"  # before the name of a metric, of which the last value is noted
METRIC_NAMES = "study:metric_names"  # Optuna's own
NOTED = ("number", "state", "source", "reason", "detail", "attempt", "worker", "duplicate_of")
"""Fields of a trial that are attributes of Optuna's, each under `thawline:<field>`."""

STATES: Mapping[TrialState, OptunaState] = {
    TrialState.QUEUED: OptunaState.WAITING,
    TrialState.RUNNING: OptunaState.RUNNING,
    TrialState.PAUSED: OptunaState.RUNNING,
    TrialState.COMPLETE: OptunaState.COMPLETE,
    TrialState.PRUNED: OptunaState.PRUNED,
    TrialState.FAILED: OptunaState.FAIL,
    TrialState.CANCELLED: OptunaState.FAIL,
}
