"""A worker's check of data and weights takes one slot at most, ends with its study, and has a limit of its own."""

from collections.abc import Callable
from typing import Any

import pytest

from service import operations
from service.domain.records import Study
from service.domain.states import StudyState
from service.store import Store
from service.worker.context import Checks, Timeouts

MakeStudy = Callable[..., Study]
OpenShop = Callable[..., Any]
Until = Callable[..., None]
PATIENCE = Timeouts(start=60, prepare=600, check=600, stall=60, grace=3)
HANGING, CRASHING = {"path": "/dead-mount"}, {"path": "/crashing"}
LONG = 120  # seconds, on busy cores


def is_checking(opened: Any, study: Study) -> bool:
    return any(study.id in runner._context.checks.under_way() for runner in opened.worker._runners)


def has_ended(opened: Any, study: Study) -> bool:
    return bool(opened.study(study).state.terminal)


def test_a_check_that_hangs_leaves_the_other_slots_to_other_studies(make_study: MakeStudy, shop: OpenShop, until: Until) -> None:
    hanging = make_study("train", data=HANGING, name="hanging")
    sound = make_study("train", name="sound")
    opened = shop(patience=PATIENCE, slots=2)
    until(lambda: has_ended(opened, sound), LONG)
    assert opened.study(sound).state is StudyState.COMPLETE
    assert opened.study(hanging).state is StudyState.ACTIVE and is_checking(opened, hanging)


@pytest.mark.parametrize("end", [operations.stop_study, operations.delete_study])
def test_a_check_ends_with_its_study(
    store: Store, make_study: MakeStudy, shop: OpenShop, until: Until, end: Callable[[Store, str], object]
) -> None:
    hanging = make_study("train", data=HANGING, name="hanging")
    opened = shop(patience=PATIENCE)
    until(lambda: is_checking(opened, hanging), LONG)
    end(store, hanging.id)
    sound = make_study("train", name="sound")
    until(lambda: has_ended(opened, sound), LONG)
    assert opened.study(sound).state is StudyState.COMPLETE


def test_a_check_that_crashes_each_time_is_counted_for_the_whole_worker(make_study: MakeStudy, shop: OpenShop, until: Until) -> None:
    crashing = make_study("train", data=CRASHING, name="crashing")
    sound = make_study("train", name="sound")
    opened = shop(patience=PATIENCE, slots=2)
    until(lambda: has_ended(opened, crashing) and has_ended(opened, sound), LONG)
    failed = opened.study(crashing)
    assert failed.state is StudyState.FAILED and "exit code 5" in (failed.reason or "")
    assert opened.study(sound).state is StudyState.COMPLETE


def test_one_slot_has_a_check_at_a_time() -> None:
    checks = Checks()
    with checks.begin("a") as first, checks.begin("a") as second, checks.begin("b") as other:
        assert (first, second, other) == (True, False, True)
        assert checks.under_way() == {"a", "b"}
    assert checks.under_way() == set()
    assert [checks.count_crash("a"), checks.count_crash("a"), checks.count_crash("b")] == [1, 2, 1]
    checks.forget_crashes("a")
    checks.forget_crashes("c")
    assert checks.count_crash("a") == 1
