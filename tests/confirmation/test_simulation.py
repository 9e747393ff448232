"""With a known truth: the stated intervals hold it as often as they say, and what is recommended is no worse than the single best value."""

from collections.abc import Callable, Iterable

import numpy as np
import pytest

from service.domain.verdict import Estimate
from tests.confirmation.worlds import LOSS, STUDIES, ReportedSoFar, World, studies_of

SELDOM, OFTEN = 0.90, 0.98  # of the runs in which an interval of 95 % may hold the truth

MODERATE = World(apart=0.01, noise=0.01, shared=0.005, uplift=0.01)
NOISY = World(apart=0.005, noise=0.02, shared=0.01, uplift=0.01)
EQUAL = World(apart=0.0, noise=0.01)
WINNER = World(apart=0.01, noise=0.004, ahead=0.03, uplift=0.02)
LOSSES = World(apart=0.02, noise=0.02, shared=0.02, uplift=0.03, objective=LOSS)
MANY = World(apart=0.0, noise=0.01, uplift=0.03, top=8, one_price=True)
WORLDS = {"moderate": MODERATE, "noisy": NOISY, "all equal": EQUAL, "a clear winner": WINNER, "losses": LOSSES, "eight equal": MANY}
FLATTERING = {name: WORLDS[name] for name in ("moderate", "noisy", "all equal", "losses")}

each_world = pytest.mark.parametrize("world", WORLDS.values(), ids=WORLDS.keys())
flattering_worlds = pytest.mark.parametrize("world", FLATTERING.values(), ids=FLATTERING.keys())


def tell(found: str) -> None:
    """Shown by pytest -rP."""
    print(found)  # noqa: T201


def share(reported: Iterable[ReportedSoFar], holds: Callable[[ReportedSoFar], bool | None]) -> float:
    """In how many of the studies of which it can be told."""
    return float(np.mean([found for one in reported if (found := holds(one)) is not None]))


def within(estimate: Estimate | None, truth: float) -> bool | None:
    return None if estimate is None else estimate.low <= truth <= estimate.high


def expected_holds(reported: ReportedSoFar) -> bool | None:
    return within(reported.verdict.expected, reported.recommended)


@each_world
def test_the_expected_metric_and_the_next_run_fall_where_is_stated(world: World) -> None:
    reported = studies_of(world)
    for name, found in {
        "the true mean": share(reported, expected_holds),
        "one more run": share(reported, lambda one: within(one.verdict.single_run, one.fresh)),
        "the uplift": share(reported, lambda one: within(one.verdict.uplift, world.sign * (one.recommended - one.truth[-1]))),
    }.items():
        tell(f"{world}: {name} in {found:.1%}")
        assert SELDOM <= found <= OFTEN, f"{name} was within its interval in {found:.1%} of {STUDIES} studies"


@flattering_worlds
def test_who_believes_the_best_of_many_tries_is_wrong_far_more_often(world: World) -> None:
    reported = studies_of(world)
    naive = share(reported, lambda one: abs(one.best_value - one.truth[0]) <= 1.96 * world.deviation)
    tell(f"{world}: the best value's own interval, its noise known, holds the truth in {naive:.1%}")
    assert naive < share(reported, expected_holds) - 0.2


@flattering_worlds
def test_the_optimism_is_what_the_best_of_many_tries_had_in_luck(world: World) -> None:
    found = [one.verdict.optimism.chosen for one in studies_of(world) if one.verdict.optimism and one.verdict.recommended == 0]
    true = [world.sign * (one.best_value - one.truth[0]) for one in studies_of(world) if one.verdict.recommended == 0]
    assert np.mean(found) == pytest.approx(np.mean(true), abs=world.deviation / 2)
    assert np.mean(found) > world.deviation / 2


@each_world
def test_what_is_recommended_is_no_worse_than_the_single_best_value(world: World) -> None:
    ours = np.mean([world.sign * (one.best_trial - one.recommended) for one in studies_of(world)])
    naive = np.mean([world.sign * (one.best_trial - one.truth[0]) for one in studies_of(world)])
    tell(f"{world}: {ours:.4f} behind the best trial on average, {naive:.4f} by the single best value")
    assert ours <= naive + 1e-9


def test_where_nothing_helps_it_is_hardly_ever_said_that_tuning_helped() -> None:
    assert share(studies_of(EQUAL), lambda one: one.verdict.helped == "yes") <= 0.05


@pytest.mark.parametrize("world", [MODERATE, WINNER, LOSSES], ids=["moderate", "a clear winner", "losses"])
def test_where_tuning_helps_it_is_mostly_said(world: World) -> None:
    assert share(studies_of(world), lambda one: one.verdict.helped == "yes") > 0.5


@each_world
def test_the_race_keeps_the_best_and_spends_no_run_more_than_was_asked_for(world: World) -> None:
    reported = studies_of(world)
    kept = share(reported, lambda one: one.verdict.arms[int(np.argmax(world.sign * one.truth))].stopped_after is None)
    spent = sum(one.runs for one in reported) / (STUDIES * (world.top + 1) * world.seeds)
    tell(f"{world}: the best kept in {kept:.1%}, {spent:.1%} of the runs trained")
    assert kept >= 0.95
    assert spent <= 1


def test_the_race_saves_runs_where_a_configuration_is_clearly_ahead() -> None:
    reported = studies_of(WINNER)
    assert sum(one.runs for one in reported) < 0.95 * STUDIES * (WINNER.top + 1) * WINNER.seeds
    assert share(reported, lambda one: one.verdict.recommended == 0) > 0.95
