"""How our rows look to Optuna."""

import math

import pytest
from optuna.trial import TrialState as OptunaState

from search_spaces import Params
from service.domain.states import TrialState, ValueKind
from service.search.distributions import Distributions
from service.search.history import CONSTRAINT, History
from tests.search.simulation import study_spec, trial_row

PARAMS: Params = {"lr": 0.01, "batch_size": 32, "optimizer": "adam", "frozen_layers": 3}


def history(metric: str = "accuracy") -> History:
    spec = study_spec(metric=metric)
    return History(spec, Distributions(spec.search_space))


@pytest.mark.parametrize("state", [TrialState.QUEUED, TrialState.RUNNING, TrialState.PAUSED])
def test_a_trial_that_may_still_end_well_is_running(state: TrialState) -> None:
    [frozen] = history().absorb([trial_row(0, PARAMS, state)], [])
    assert frozen.state is OptunaState.RUNNING


@pytest.mark.parametrize("reason", ["crashed", "timeout", "lost", "bad_data", "script_error"])
def test_a_failure_that_the_parameters_are_not_to_blame_for_is_not_shown(reason: str) -> None:
    [frozen] = history().absorb([trial_row(0, PARAMS, TrialState.FAILED, reason=reason)], [])
    assert frozen.state is OptunaState.FAIL
    assert not frozen.constraints


@pytest.mark.parametrize(("metric", "worst"), [("accuracy", 0.2), ("loss", 0.8)])
def test_an_infeasible_trial_has_the_worst_known_value_whenever_that_came(metric: str, worst: float) -> None:
    past = history(metric)
    past.absorb([trial_row(0, PARAMS, TrialState.FAILED, reason="diverged"), trial_row(1, PARAMS, TrialState.COMPLETE, value=0.5)], [])
    past.absorb([trial_row(2, PARAMS, TrialState.COMPLETE, value=0.2)], [])
    past.absorb([trial_row(3, PARAMS, TrialState.COMPLETE, value=0.8)], [])
    past.absorb([trial_row(4, PARAMS, TrialState.FAILED, reason="out_of_memory")], [])
    assert [trial.value for trial in past.trials] == [worst, 0.5, 0.2, 0.8, worst]
    assert [trial.constraints["runs"] > 0 for trial in past.trials] == [True, False, False, False, True]


@pytest.mark.parametrize("kind", [ValueKind.NAN, ValueKind.POS_INF, ValueKind.NEG_INF, ValueKind.MISSING])
def test_a_final_value_that_is_no_finite_number_is_never_good(kind: ValueKind) -> None:
    past = history()
    past.absorb([trial_row(0, PARAMS, TrialState.COMPLETE, value_kind=kind), trial_row(1, PARAMS, TrialState.COMPLETE, value=0.1)], [])
    assert past.trials[0].system_attrs[CONSTRAINT] > 0
    assert past.trials[0].value == 0.1


def test_reports_of_a_lost_attempt_are_forgotten_with_the_rows_and_those_that_are_no_numbers_are_left_out() -> None:
    past = history()
    past.absorb([trial_row(0, PARAMS, step=5)], [(0, step, step / 10) for step in range(1, 6)])
    [frozen] = past.absorb([trial_row(0, PARAMS, step=3)], [(0, 3, 0.3), (0, 1, math.nan), (0, 2, 0.2)])
    assert frozen.intermediate_values == {2: 0.2, 3: 0.3}
