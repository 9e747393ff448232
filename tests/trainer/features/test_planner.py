"""The plan of what to store: by hand on a few networks, and by properties on any."""

from dataclasses import replace
from itertools import combinations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trainer.features.planner import LEAST_SECONDS, UNITS, Plan, Problem, plan


def problem(**changes: object) -> Problem:
    """A ViT-like network of 12 equal stages of a second each; reading takes a tenth, a row 100 bytes; 10 images."""
    stages = len(changes.get("stage_seconds", range(12)))  # type: ignore[arg-type]
    values = {
        "input_seconds": 0.0, "stage_seconds": (1.0,) * stages, "read_seconds": (0.1,) * stages, "write_seconds": (0.0,) * stages,
        "row_bytes": (100,) * stages, "examples": 10, "views": 1, "demand": {}, "stored": {}, "budget": 10**9,
    }  # fmt: skip
    return Problem(**values | changes)  # type: ignore[arg-type]


def expected_seconds(of: Problem, depths: tuple[int, ...]) -> float:
    """By the definition: build each depth, then every run reads the best of those it may, or none."""
    built = sum(of.building(depth) for depth in depths)
    return built + sum(
        passes * of.examples * min([of.computing[k], *(of.computing[k] - of.spared(depth) for depth in depths if depth <= k)])
        for k, passes in of.demand.items()
    )


def test_equal_stages_are_stored_where_each_group_of_runs_ends() -> None:
    found = plan(problem(demand={0: 100, 6: 10, 11: 10}))
    assert found.depths == (6, 11) and [found.source(k) for k in (0, 5, 6, 10, 11, 12)] == [0, 0, 6, 6, 11, 11]
    # computing 10 images x 10 passes x (6 + 11) s; storing 10 x (6 + 11) s, then 10 x 10 x 2 reads of 0.1 s
    assert found.bypass_seconds == pytest.approx(1700) and found.seconds == pytest.approx(170 + 20) and found.size == 2000


def test_a_depth_that_few_need_is_not_worth_building() -> None:
    assert plan(problem(demand={6: 1})).depths == (), "read once, it is built for nothing"
    assert plan(problem(demand={6: 2})).depths == (6,)
    assert plan(problem(demand={11: 100, 12: 1})).depths == (11,), "one epoch computes the last stage from the eleventh's output"


def test_what_is_stored_already_costs_nothing() -> None:
    found = plan(problem(demand={12: 1}, stored={11: 1.0}))
    assert found.depths == (11,) and found.seconds == pytest.approx(10 * (0.1 + 1))


def test_squeezing_networks_are_stored_where_their_rows_are_small() -> None:
    """Early outputs are large and slow to read, later ones small: SqueezeNet's first stages are cheaper to compute."""
    early = problem(stage_seconds=(0.3, 0.3, 0.3, 0.3), read_seconds=(0.5, 0.55, 0.2, 0.02), row_bytes=(5000, 4000, 1000, 100))
    assert plan(replace(early, demand={1: 100})).depths == ()
    assert plan(replace(early, demand={1: 50, 4: 50})).depths == (4,)
    tight = replace(early, demand={3: 50, 4: 50}, budget=10_999)
    assert plan(tight).depths == (3,), "both do not fit, and the third serves all: 100 x (0.9 - 0.2) against 50 x (1.2 - 0.02)"


def test_views_multiply_bytes_and_building() -> None:
    assert plan(problem(demand={12: 10}, views=10)).depths == (), "each view is read once"
    shared = plan(problem(demand={12: 30}, views=10))
    assert shared.depths == (12,) and shared.size == 10 * 10 * 100


def test_the_images_themselves_are_spared_too() -> None:
    slow = problem(stage_seconds=(0.001,), read_seconds=(0.1,), demand={1: 100})
    assert plan(slow).depths == () and plan(replace(slow, input_seconds=1.0)).depths == (1,)


def test_what_would_spare_next_to_nothing_is_not_stored() -> None:
    small = problem(stage_seconds=(1e-6,), read_seconds=(1e-7,), demand={1: LEAST_SECONDS * 1e5})
    assert plan(small).depths == () and "storing would gain less than" in str(plan(small))


def test_a_plan_explains_itself() -> None:
    assert str(plan(problem(demand={6: 10}))) == "stored behind 6 stages, 1 kB: 70 s in place of 600 s expected"


seconds = st.floats(1e-6, 2)


@st.composite
def problems(draw: st.DrawFn) -> Problem:
    stages = draw(st.integers(1, 6))
    row = st.lists(seconds, min_size=stages, max_size=stages).map(tuple)
    return Problem(
        input_seconds=draw(seconds), stage_seconds=draw(row), read_seconds=draw(row), write_seconds=draw(row),
        row_bytes=tuple(draw(st.lists(st.integers(1, 8), min_size=stages, max_size=stages))),
        examples=draw(st.integers(1, 3)), views=draw(st.integers(1, 3)),
        demand=draw(st.dictionaries(st.integers(0, stages), st.floats(0, 20), max_size=4)),
        stored=draw(st.dictionaries(st.integers(1, stages), st.floats(0, 1), max_size=3)),
        budget=draw(st.integers(0, 300)),
    )  # fmt: skip


@given(problems())
def test_no_choice_within_the_budget_is_better(of: Problem) -> None:
    assert sum(map(of.size, range(1, len(of.row_bytes) + 1))) <= UNITS, "bytes are weighed exactly"
    found = plan(of)
    choices = [depths for count in range(len(of.row_bytes) + 1) for depths in combinations(range(1, len(of.row_bytes) + 1), count)]
    best = min(expected_seconds(of, depths) for depths in choices if sum(map(of.size, depths)) <= of.budget)
    assert found.seconds <= best + LEAST_SECONDS + 1e-9
    assert found.seconds == pytest.approx(expected_seconds(of, found.depths)), "its own estimate is what the definition says"


@given(problems())
def test_a_plan_is_never_worse_than_computing_and_never_above_the_budget(of: Problem) -> None:
    found = plan(of)
    assert found.seconds <= found.bypass_seconds == pytest.approx(expected_seconds(of, ()))
    assert found.size == sum(map(of.size, found.depths)) <= of.budget


@given(problems(), st.integers(0, 300))
def test_a_larger_budget_never_takes_longer(of: Problem, more: int) -> None:
    def seconds(budget: int) -> float:
        return plan(replace(of, budget=budget)).seconds

    assert seconds(of.budget + more) <= seconds(of.budget) + 1e-9


@given(problems())
def test_a_run_never_reads_deeper_than_it_freezes(of: Problem) -> None:
    found: Plan = plan(of)
    for frozen in range(len(of.row_bytes) + 1):
        assert found.source(frozen) <= frozen and found.source(frozen) in (0, *found.depths)


def test_fifty_stages_and_a_short_budget_are_planned_quickly() -> None:
    many = problem(
        stage_seconds=tuple(0.001 * (1 + i % 7) for i in range(50)), read_seconds=(1e-5,) * 50, write_seconds=(1e-5,) * 50,
        row_bytes=tuple(1000 * (50 - i) for i in range(50)), examples=100_000, demand={k: 3 + k % 5 for k in range(51)}, budget=10**10,
    )  # fmt: skip
    found = plan(many)
    assert found.depths and found.size <= 10**10 and found.seconds < found.bypass_seconds / 1.5
