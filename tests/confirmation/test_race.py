"""Who is trained once more, and who is given up: decided on what all had so far, and found again from the runs alone."""

from collections.abc import Mapping

import numpy as np
import pytest

from service.confirmation.race import FIRST_ROUNDS, MISTAKEN, Arm, ConfirmationRound, dropped, next_round
from tests.confirmation.worlds import arm

NEAR, FAR = [0.9, 0.91, 0.92], [0.5, 0.52, 0.51]


def arms(tests: Mapping[int, list[float]], **changes: object) -> list[Arm]:
    """By trial; the last is the baseline."""
    return [arm(trial, values, baseline=trial == max(tests)) for trial, values in tests.items()]


def coming(tests: Mapping[int, list[float]], direction: str = "maximize", seeds: int = 5) -> ConfirmationRound | None:
    assert direction in ("maximize", "minimize")
    return next_round(arms(tests), "maximize" if direction == "maximize" else "minimize", seeds)


def test_all_that_are_near_go_on() -> None:
    assert coming({4: NEAR, 7: [0.91, 0.9, 0.92], 9: [0.9, 0.9, 0.9]}) == ConfirmationRound(4, (4, 7, 9))


def test_who_is_clearly_worse_is_trained_no_more_and_the_baseline_is() -> None:
    assert coming({4: NEAR, 7: FAR, 9: FAR}) == ConfirmationRound(4, (4, 9))


def test_of_a_loss_the_lower_is_better() -> None:
    assert coming({4: NEAR, 7: FAR, 9: NEAR}, "minimize") == ConfirmationRound(4, (7, 9))


def test_who_was_given_up_stays_given_up_however_its_rivals_fare_later() -> None:
    tests = {4: [*NEAR, 0.1], 7: FAR, 9: [0.9, 0.9, 0.9, 0.1]}
    assert coming(tests) == ConfirmationRound(5, (4, 9))
    assert dropped(arms(tests), "maximize", 5) == {7: 3}


def test_who_was_trained_on_was_not_given_up() -> None:
    assert dropped(arms({4: [*NEAR, 0.9], 7: [*FAR, 0.5], 9: [*NEAR, 0.9]}), "maximize", 4) == {}


def test_what_later_rounds_show_changes_no_earlier_decision() -> None:
    unsure = [0.80, 0.93, 0.86]
    assert coming({4: NEAR, 7: unsure, 9: NEAR}) == ConfirmationRound(4, (4, 7, 9))
    tests = {4: [*NEAR, 0.9], 7: [*unsure, 0.2], 9: [*NEAR, 0.9]}
    assert 7 not in dropped(arms(tests), "maximize", 4)


def test_after_the_last_seed_nothing_follows() -> None:
    assert coming({4: NEAR, 9: NEAR}, seeds=3) is None
    assert coming({4: [0.9, 0.9], 9: [0.9, 0.9]}, seeds=2) is None
    assert coming({4: [*NEAR, 0.9, 0.9], 9: [*NEAR, 0.9, 0.9]}) is None


def test_with_as_many_seeds_as_first_rounds_nobody_is_given_up() -> None:
    assert dropped(arms({4: NEAR, 7: FAR, 9: FAR}), "maximize", FIRST_ROUNDS) == {}


def test_nothing_follows_while_a_run_is_open() -> None:
    assert next_round([arm(4, NEAR), arm(7, NEAR[:2], open=1), arm(9, NEAR, baseline=True)], "maximize", 5) is None


def test_nobody_is_given_up_before_all_runs_of_the_round_have_ended() -> None:
    waiting = [arm(4, NEAR[:2], open=1), arm(7, FAR), arm(8, NEAR), arm(9, NEAR, baseline=True)]
    assert dropped(waiting, "maximize", 5) == {}
    later = [arm(4, NEAR, open=1), arm(7, FAR), arm(8, [*NEAR, 0.9]), arm(9, NEAR, baseline=True, open=1)]
    assert dropped(later, "maximize", 5) == {7: 3}
    just_queued = [arm(4, NEAR, open=1), arm(7, FAR), arm(9, NEAR, baseline=True, open=1)]
    assert dropped(just_queued, "maximize", 5) == {7: 3}


def test_who_failed_is_out_and_what_it_had_shown_before_still_counts() -> None:
    led = [arm(4, [*NEAR], failed="trial 50, round 4, is failed: out of memory"), arm(7, FAR), arm(9, [*FAR, 0.5], baseline=True)]
    assert next_round(led, "maximize", 5) == ConfirmationRound(5, (9,))
    assert dropped(led, "maximize", 5) == {7: 3}


def test_when_all_have_failed_nothing_follows() -> None:
    assert next_round([arm(4, [], failed="it diverged"), arm(9, [0.5], baseline=True, failed="it diverged")], "maximize", 5) is None


def test_one_configuration_alone_has_all_its_seeds() -> None:
    assert next_round([arm(0, NEAR, baseline=True)], "maximize", 5) == ConfirmationRound(4, (0,))


def test_a_round_that_was_cancelled_as_a_whole_is_trained_again() -> None:
    assert coming({4: NEAR[:2], 9: NEAR[:2]}) == ConfirmationRound(3, (4, 9))


def test_who_lacks_a_round_that_was_cancelled_takes_no_further_part_unless_it_is_the_baseline() -> None:
    assert coming({4: NEAR, 7: NEAR[:2], 9: NEAR[:2]}) == ConfirmationRound(4, (4, 9))


def test_thrice_one_image_less_is_no_reason_to_give_up_and_thrice_two_is() -> None:
    def given_up(images: int) -> bool:
        level = [0.9, 0.91, 0.92]
        worse = [value - images / 100 for value in level]
        rivals = [arm(4, level, resolution=0.01), arm(7, worse, resolution=0.01), arm(9, level, baseline=True, resolution=0.01)]
        return 7 in dropped(rivals, "maximize", 5)

    assert (given_up(1), given_up(2)) == (False, True)


@pytest.mark.parametrize("noise", [(3.0, 1.0, 1.0, 1.0), (3.0, 3.0, 0.3, 0.3)], ids=["the best is noisy", "two of each"])
def test_the_best_is_seldom_given_up_when_configurations_are_not_equally_noisy(noise: tuple[float, ...]) -> None:
    rng = np.random.default_rng(0)
    races, lost = 600, 0
    for _ in range(races):
        runs = rng.normal(0, 1, (4, 4)) * np.array(noise)[:, None]
        lost += 0 in dropped([arm(number, row, baseline=number == 3) for number, row in enumerate(runs)], "maximize", 5)
    assert lost <= MISTAKEN * races
