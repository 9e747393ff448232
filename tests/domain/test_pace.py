"""The time that a study will still take."""

from dataclasses import replace
from typing import Any

import pytest

from service.domain.progress import StudyProgress, study_seconds_left
from service.domain.records import Study
from service.domain.states import StudyState
from tests.operations.driving import spec_of

NOW = 10_000.0


def study(created: int, **changes: Any) -> Study:
    return Study(
        id="1", name="pets", state=StudyState.ACTIVE, reason=None, spec=spec_of(**changes), facts=None,
        created=created, seq=1, created_at=0.0, started_at=NOW - 600, finished_at=None,
    )  # fmt: skip


def ended(count: int, seconds: float) -> dict[str, Any]:
    return {"ended": count, "first_start": NOW - seconds, "last_end": NOW}


def test_what_is_left_goes_on_at_the_rate_of_what_ended() -> None:
    assert study_seconds_left(study(10), StudyProgress(**ended(10, 100)), NOW) == pytest.approx(100)
    assert study_seconds_left(study(20), StudyProgress(waiting=5, **ended(10, 100)), NOW) == pytest.approx(50)


def test_many_trials_of_one_pass_count_as_many() -> None:
    assert study_seconds_left(study(128, budget={"trials": 256}), StudyProgress(**ended(128, 2)), NOW) == pytest.approx(2)


def test_running_trials_count_by_what_is_left_of_them_and_are_waited_for() -> None:
    running: dict[str, Any] = {"running": 4, "running_since": NOW - 30, "running_seconds_left": 10.0}
    assert study_seconds_left(study(20), StudyProgress(**running, **ended(16, 160)), NOW) == pytest.approx(10)
    assert study_seconds_left(study(20), StudyProgress(**running | {"running_seconds_left": 500.0}, **ended(16, 16)), NOW) == pytest.approx(
        500
    )


def test_before_any_trial_has_ended_the_running_ones_tell() -> None:
    running = StudyProgress(running=2, running_since=NOW - 30, running_seconds_left=10.0)
    assert study_seconds_left(study(12), running, NOW) == pytest.approx(20 * (10 - 0.5 + 1), rel=0.2)
    assert study_seconds_left(study(12), replace(running, running_seconds_left=None), NOW) is None


def test_hours_are_an_upper_bound() -> None:
    hour = {"budget": {"trials": 20, "hours": 1.0}}
    assert study_seconds_left(study(10, **hour), StudyProgress(**ended(10, 100)), NOW) == pytest.approx(100)
    assert study_seconds_left(study(10, **hour), StudyProgress(**ended(10, 10_000)), NOW) == pytest.approx(3_000)
    assert study_seconds_left(study(10, budget={"hours": 1.0}), StudyProgress(**ended(10, 100)), NOW) == pytest.approx(3_000)


def test_a_trial_that_was_started_in_time_may_end_after_the_hours() -> None:
    running = StudyProgress(running=1, running_since=NOW - 30, running_seconds_left=70.0)
    assert study_seconds_left(study(10, budget={"hours": 0.1}), running, NOW) == pytest.approx(70)


def test_nothing_is_told_before_anything_is_known_or_when_the_study_does_not_go_on() -> None:
    assert study_seconds_left(study(0), StudyProgress(), NOW) is None
    for state in set(StudyState) - {StudyState.ACTIVE}:
        assert study_seconds_left(replace(study(10), state=state), StudyProgress(**ended(10, 100)), NOW) is None


def test_a_grid_ends_with_its_last_combination() -> None:
    space = {"batch_size": {"type": "categorical", "choices": list(range(1, 13))}}
    grid = study(10, search_space=space, sampler={"name": "grid"}, budget={"trials": 1_000})
    assert study_seconds_left(grid, StudyProgress(**ended(10, 100)), NOW) == pytest.approx(20)
