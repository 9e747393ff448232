"""The verdict on small cases that can be checked by hand, and its words."""

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from scipy import stats

from service.confirmation.race import Arm
from service.confirmation.verdict import ConfirmationState, judge
from service.domain.verdict import Verdict
from tests.confirmation.worlds import ACCURACY, LOSS, TASK, arm, cost
from trainer.targets.classes.predictions import Predictions

GOOD, BETTER, POOR = [0.90, 0.92, 0.91, 0.90, 0.92], [0.91, 0.915, 0.92, 0.90, 0.915], [0.80, 0.82, 0.80, 0.79, 0.81]


def verdict(*arms: Arm, objective: Any = ACCURACY, state: ConfirmationState = "done", images: int = 400) -> Verdict:
    return judge(arms, objective, task=TASK, seeds=5, test_examples=images, state=state)


def words(found: Verdict) -> str:
    return "\n".join(found.words)


def pictures(right: Sequence[float], count: int = 400) -> list[Predictions]:
    """Runs that get so large a share of two equal classes right, always the same images first."""
    actual = np.repeat([0, 1], count // 2)
    place = np.tile(np.arange(count // 2), 2)
    return [
        Predictions(
            actual=actual,
            predicted=np.where(place < round(share * count / 2), actual, 1 - actual),
            losses=np.full(count, 0.5),
            classes=2,
        )
        for share in right
    ]


def shown(trial: int, tests: Sequence[float], **changes: Any) -> Arm:
    """An arm whose runs tell of each image."""
    return arm(trial, tests, examples=pictures(tests), resolution=1 / 400, **changes)


def test_the_cheapest_that_is_as_good_as_the_best_is_recommended() -> None:
    found = verdict(arm(3, BETTER, cost=cost(trainable=9_000)), arm(5, GOOD, cost=cost(trainable=1_000)), arm(0, POOR, baseline=True))
    assert (found.best, found.tied, found.recommended) == (3, (3, 5), 5)
    assert "Trial 5 is recommended: trial 3 and trial 5 cannot be told apart" in found.words[0]
    assert (
        "the cheapest of those within one standard error of the best, trial 3 (1,000 trained parameters against 9,000)." in found.words[0]
    )


def test_who_is_tied_but_more_than_one_standard_error_behind_is_not_recommended_for_being_cheap() -> None:
    behind = [0.90, 0.89, 0.915, 0.90, 0.895]
    found = verdict(arm(3, BETTER, cost=cost(trainable=9_000)), arm(5, behind, cost=cost(trainable=1)), arm(0, POOR, baseline=True))
    assert (found.tied, found.recommended) == ((3, 5), 3)


MIB = 2**20


@pytest.mark.parametrize(
    ("dear", "cheap", "stated"),
    [
        (cost(trainable=2_000, train_seconds=1), cost(trainable=1_000, train_seconds=100), "1,000 trained parameters against 2,000"),
        (cost(train_seconds=20), cost(train_seconds=10), "10 s a run against 20 s a run, with as many trained parameters"),
        (
            cost(train_seconds=10.04, peak_memory=3 * MIB),
            cost(train_seconds=9.96, peak_memory=2 * MIB),
            "2.00 MiB against 3.00 MiB, with as many trained parameters and as much time",
        ),
        (None, cost(trainable=10**9), "1,000,000,000 trained parameters, 10 s a run, 95.37 MiB; the cost of the best is not known"),
    ],
    ids=["parameters first", "then time", "then memory, where times are about equal", "an unknown price is the highest"],
)
def test_the_price_is_parameters_then_time_then_memory(dear: Any, cheap: Any, stated: str) -> None:
    found = verdict(arm(3, BETTER, cost=dear), arm(5, GOOD, cost=cheap), arm(0, POOR, baseline=True))
    assert found.recommended == 5 and f"trial 3 ({stated})." in found.words[0]


def test_of_equally_cheap_ones_the_best_is_recommended() -> None:
    found = verdict(arm(5, GOOD, cost=cost()), arm(3, BETTER, cost=cost()), arm(0, POOR, baseline=True))
    assert found.recommended == 3
    assert found.words[0].endswith(", and it has the best mean.") and "cheapest" not in words(found)


def test_the_intervals_are_those_of_the_paired_t_test() -> None:
    found = verdict(arm(3, BETTER), arm(0, POOR, baseline=True))
    low, high = stats.ttest_rel(BETTER, POOR).confidence_interval(0.95)
    assert found.uplift is not None and found.expected is not None
    assert (found.uplift.low, found.uplift.high) == pytest.approx((low, high))
    low, high = stats.ttest_1samp(BETTER, 0.0).confidence_interval(0.95)
    assert (found.expected.low, found.expected.high) == pytest.approx((low, high))
    assert found.arms[1].behind is not None
    assert found.arms[1].behind.value == pytest.approx(np.mean(BETTER) - np.mean(POOR))
    assert found.arms[0].behind is None


def test_a_shift_that_a_whole_round_shares_is_no_difference() -> None:
    wild = np.array([0.5, 0.9, 0.7, 0.6, 0.8])
    found = verdict(arm(3, wild), arm(0, wild - [0.05, 0.04, 0.05, 0.06, 0.05], baseline=True))
    assert (found.tied, found.recommended) == ((3,), 3)
    assert found.uplift is not None and found.uplift.low > 0


def test_of_a_loss_the_lowest_is_best_and_an_uplift_is_still_above_zero() -> None:
    found = verdict(arm(3, [0.30, 0.31, 0.29]), arm(0, [0.50, 0.52, 0.49], baseline=True, searched=0.45), objective=LOSS)
    assert (found.best, found.recommended, found.helped) == (3, 3, "yes")
    assert found.uplift is not None and found.uplift.value == pytest.approx(0.2033, abs=1e-4)
    assert found.optimism is not None and found.optimism.value == pytest.approx(0.30 - 0.9)
    assert "Expected loss: 0.300" in words(found)
    assert "%" not in words(found).replace("95 %", "")


def test_tuning_helped_when_seeds_and_images_both_say_so() -> None:
    found = verdict(shown(3, BETTER), shown(0, POOR, baseline=True))
    assert found.helped == "yes"
    assert found.new_images is not None and found.expected is not None
    assert found.new_images.low < found.expected.low < found.expected.high < found.new_images.high
    assert found.uplift_new_images is not None and found.uplift_new_images.low > 0
    assert "Tuning helped: trial 3 is 10.8 points better than the baseline, trial 0 (95 % interval of this difference: 9." in words(found)


def test_a_gain_on_too_few_images_is_unclear() -> None:
    ours, theirs = [0.91, 0.91, 0.91, 0.91, 0.905], [0.90, 0.90, 0.90, 0.90, 0.90]
    found = verdict(shown(3, ours), shown(0, theirs, baseline=True))
    assert found.uplift is not None and found.uplift.low > 0
    assert found.helped == "unclear"
    assert "Unclear whether tuning helped" in words(found)


@pytest.mark.parametrize("cheap", [0, 3], ids=["the baseline is recommended", "a trial is"])
def test_what_could_be_the_seeds_alone_is_no_help(cheap: int) -> None:
    prices = {number: cost(trainable=1 if number == cheap else 2) for number in (0, 3)}
    found = verdict(shown(3, BETTER, cost=prices[3]), shown(0, GOOD, baseline=True, cost=prices[0]))
    assert (found.recommended, found.helped) == (cheap, "no")
    assert "Tuning did not help" in words(found)
    assert (found.uplift is None) == (cheap == 0)


def test_a_tied_baseline_beside_tuning_that_helped_is_explained_by_the_two_tests() -> None:
    behind = np.array([0.01, 0.03, 0.02, 0.0, 0.025])
    others = [arm(number, POOR) for number in (4, 5)]
    found = verdict(arm(3, BETTER), *others, arm(0, np.array(BETTER) - behind, baseline=True))
    assert (found.tied, found.recommended, found.helped) == ((3, 0), 3, "yes")
    assert "cannot be told apart over 5 runs with fresh seeds (paired t test of each against trial 3, the best, with 5 % divided" in words(
        found
    )
    assert "divided among 3 comparisons), and it has the best mean." in words(found)
    assert (
        "This compares the recommended configuration with the baseline alone, trial 0; that it cannot be told apart from the best is the "
        "result of a stricter test, which covers 3 comparisons." in words(found)
    )


def test_a_best_that_beats_the_baseline_beside_tuning_that_did_not_help_is_explained() -> None:
    best = np.array(BETTER)
    noisy = best + np.array([-0.03, 0.03, -0.02, 0.02, -0.005])
    found = verdict(
        arm(3, best, cost=cost(trainable=9)), arm(5, noisy, cost=cost(trainable=1)),
        arm(0, best - [0.02, 0.021, 0.019, 0.02, 0.02], baseline=True, cost=cost(trainable=9)),
    )  # fmt: skip
    assert (found.best, found.recommended, found.helped, 0 in found.tied) == (3, 5, "no", False)
    explained = (
        "This compares the recommended configuration with the baseline alone, trial 0; the best, trial 3, is better than the baseline."
    )
    assert explained in words(found)


def test_tests_that_agree_are_not_explained() -> None:
    for found in (verdict(shown(3, BETTER), shown(0, POOR, baseline=True)), verdict(shown(3, BETTER), shown(0, GOOD, baseline=True))):
        assert "This compares" not in words(found)


def test_optimism_is_what_the_search_saw_beyond_what_fresh_seeds_give() -> None:
    found = verdict(arm(3, BETTER, searched=0.95), arm(0, POOR, baseline=True))
    assert found.optimism is not None
    assert (found.optimism.value, found.optimism.chosen) == pytest.approx((0.95 - 0.912, 0.95 - 0.912))
    assert (
        "The search flattered its best, trial 3, by 3.8 points: 95.0 % on the validation images then, 91.2 % on the test images"
        in words(found)
    )
    other = verdict(arm(3, POOR, searched=0.95), arm(4, BETTER, searched=0.93), arm(0, POOR, baseline=True))
    assert other.recommended == 4
    assert other.optimism is not None and (other.optimism.trial, other.optimism.searched) == (3, 0.95)
    modest = verdict(arm(3, BETTER, searched=0.90), arm(0, POOR, baseline=True))
    assert "The search did not flatter its best, trial 3" in words(modest)


def test_luck_above_the_optimism_is_explained_by_easier_test_examples() -> None:
    best = arm(3, BETTER, searched=0.93)
    harder = replace(best, repeats=tuple(replace(one, validation=0.90) for one in best.repeats))
    luck = "Luck accounts for 3.0 points: runs with fresh seeds are that much worse on the same validation images"
    assert f"{luck}; on the test images they are 1.2 points better than on these." in words(verdict(harder, arm(0, POOR, baseline=True)))


def test_who_failed_is_named_with_its_cause_and_never_recommended() -> None:
    lost = "trial 50, round 2, is failed: out of\nmemory " + "x" * 500
    found = verdict(arm(3, [0.99, 0.99, 0.99], failed=lost), arm(5, GOOD), arm(0, POOR, baseline=True))
    assert (found.best, found.recommended, found.tied) == (5, 5, (5,))
    assert "Trial 3 is excluded: trial 50, round 2, is failed: out of memory xx" in words(found)
    assert max(map(len, found.words)) < 300


def test_who_was_given_up_is_named_with_its_round() -> None:
    found = verdict(arm(3, BETTER), arm(5, POOR[:3]), arm(0, POOR, baseline=True))
    assert [one.stopped_after for one in found.arms] == [None, 3, None]
    assert found.arms[1].tied is False
    assert "Trial 5 was dropped after round 3" in words(found)


def test_who_was_given_up_is_not_recommended_when_its_better_fails_later() -> None:
    led = arm(3, [0.95, 0.96, 0.955], failed="trial 50, round 4, is failed: out of memory")
    found = verdict(led, arm(5, [0.90, 0.91, 0.905]), arm(0, POOR, baseline=True))
    assert (found.arms[1].stopped_after, found.best, found.tied, found.recommended) == (3, 0, (0,), 0)


def test_the_tied_are_told_the_best_first() -> None:
    close = [np.array(BETTER) - step for step in ([0.003, 0.0, 0.003, 0.0, 0.003], [0.002, 0.0, 0.001, 0.0, 0.002])]
    found = verdict(arm(7, close[0]), arm(5, close[1]), arm(3, BETTER), arm(0, POOR, baseline=True))
    assert found.tied == (3, 5, 7)


def test_without_a_baseline_to_compare_with_it_is_not_known_whether_tuning_helped() -> None:
    for lost in (arm(0, [], baseline=True, failed="it diverged"), arm(0, [0.8], baseline=True)):
        found = verdict(arm(3, BETTER), lost)
        assert (found.recommended, found.helped, found.uplift) == (3, None, None)
        assert "It is not known whether tuning helped" in words(found)


def test_when_nothing_has_two_runs_nothing_is_recommended() -> None:
    found = verdict(arm(3, [0.9], open=1), arm(0, [], baseline=True, open=2), state="running")
    assert (found.best, found.tied, found.recommended, found.expected, found.helped) == (None, (), None, None, None)
    assert found.arms[0].mean is None
    assert "under way: 1 of at most 10 runs" in found.words[0]
    assert "Nothing can be recommended yet" in found.words[1]
    ended = verdict(arm(3, [], failed="it diverged"), arm(0, [], baseline=True, failed="it diverged"))
    assert ended.words[0].startswith("Nothing can be recommended: ")


def test_a_study_that_was_stopped_says_so_first() -> None:
    found = verdict(arm(3, BETTER[:2]), arm(0, POOR[:2], baseline=True), state="stopped")
    assert found.words[0].startswith("The study ended before its confirmation did, after 4 runs of at most 10")
    assert found.recommended == 3


def test_while_rounds_are_open_the_best_is_taken_on_those_that_all_have() -> None:
    easy_last = [0.8, 0.8, 0.99, 0.99]
    found = verdict(arm(3, easy_last), arm(5, [0.82, 0.82], open=2), arm(0, [0.7, 0.7], open=2, baseline=True), state="running")
    assert found.best == 5


def test_a_search_that_confirmed_its_baseline_alone_says_that_tuning_did_not_help() -> None:
    found = verdict(arm(0, GOOD, baseline=True))
    assert (found.recommended, found.helped) == (0, "no")
    assert found.words[0] == (
        "The baseline (trial 0) is recommended: it is the only configuration that was confirmed, in 5 runs with fresh seeds."
    )


def test_intervals_end_where_a_share_does() -> None:
    found = verdict(shown(3, [1.0, 1.0, 0.99, 1.0, 1.0]), shown(0, POOR, baseline=True))
    assert found.expected is not None and found.single_run is not None and found.new_images is not None
    assert found.expected.high == found.single_run.high == 1
    assert 0.9 < found.new_images.low < found.new_images.high <= 1


def test_runs_on_other_images_are_not_compared_image_by_image() -> None:
    odd = arm(0, POOR, baseline=True, examples=pictures(POOR, 398))
    found = verdict(shown(3, BETTER), odd)
    assert found.uplift is not None and found.uplift_new_images is None
    assert found.helped == "yes"


def test_a_loss_that_half_precision_could_not_hold_leaves_new_images_untold() -> None:
    broken = [
        Predictions(actual=one.actual, predicted=one.predicted, losses=one.losses * math.inf, classes=2) for one in pictures([0.9] * 3)
    ]
    found = verdict(arm(3, [0.3, 0.31, 0.32], examples=broken), arm(0, [0.5, 0.5, 0.51], baseline=True), objective=LOSS)
    assert found.new_images is None and found.expected is not None
    assert "new images" not in words(found)
