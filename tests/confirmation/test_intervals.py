"""The intervals against scipy.stats, and at the edges where formulas break."""

import numpy as np
import pytest
from scipy import stats

from service.confirmation.statistics import (
    Crossed,
    Tails,
    chance_of_no_less,
    difference_on_new_examples,
    mean_on_new_examples,
    of_one_more,
    over_seeds,
    share_on_new_examples,
    spread,
)

VALUES = np.array([0.91, 0.88, 0.93, 0.9, 0.89])


def test_the_interval_over_seeds_is_students() -> None:
    found = over_seeds(VALUES)
    low, high = stats.ttest_1samp(VALUES, 0.0).confidence_interval(0.95)
    assert (found.low, found.high) == pytest.approx((low, high), rel=1e-12)
    assert found.value == pytest.approx(0.902)
    assert found.level == 0.95


def test_a_stricter_level_is_wider() -> None:
    low, high = stats.ttest_1samp(VALUES, 0.0).confidence_interval(0.99)
    found = over_seeds(VALUES, tails=Tails.of(0.99))
    assert (found.low, found.high) == pytest.approx((low, high))
    assert found.level == 0.99


def test_one_more_run_falls_in_the_prediction_interval() -> None:
    half = stats.t.ppf(0.975, 4) * VALUES.std(ddof=1) * np.sqrt(1 + 1 / 5)
    found = of_one_more(VALUES)
    assert (found.low, found.high) == pytest.approx((0.902 - half, 0.902 + half), rel=1e-12)


@pytest.mark.parametrize("values", [VALUES - 0.89, VALUES - 0.95])
def test_the_chance_of_no_less_is_that_of_a_one_sided_t_test(values: np.ndarray) -> None:
    assert chance_of_no_less(values) == pytest.approx(stats.ttest_1samp(values, 0.0, alternative="greater").pvalue, rel=1e-10)


@pytest.mark.parametrize(("mean", "chance"), [(0.1, 0.0), (0.0, 1.0), (-0.1, 1.0)])
def test_without_any_spread_the_sign_decides(mean: float, chance: float) -> None:
    assert chance_of_no_less(np.full(3, mean)) == pytest.approx(chance, abs=1e-12)


def test_scores_that_are_whole_images_are_never_taken_as_exact() -> None:
    same = np.full(4, 0.75)
    assert spread(same) == 0
    assert spread(same, 1 / 20) == pytest.approx(1 / 20 / np.sqrt(12))
    assert spread(VALUES, 1e-6) == VALUES.std(ddof=1)
    assert 0.75 < over_seeds(same, resolution=1 / 20).high < 0.75 + 1 / 20
    assert chance_of_no_less(np.full(3, 1 / 20), 1 / 20) > 0.001, "three times one image is no proof"


def test_another_machines_rounding_is_within_the_interval_of_one_more_run() -> None:
    found = of_one_more(np.full(100, 0.75), resolution=1 / 20)
    assert (found.low, found.high) == pytest.approx((0.7, 0.8))


def test_who_was_chosen_among_many_has_more_room_where_it_looks_too_good() -> None:
    usual, chosen, few = (
        over_seeds(VALUES),
        over_seeds(VALUES, tails=Tails.of_chosen(4, True)),
        over_seeds(VALUES, tails=Tails.of_chosen(2, True)),
    )
    assert chosen.low < usual.low
    assert chosen.high == usual.high
    assert chosen.low == pytest.approx(0.902 - stats.t.ppf(1 - 0.05 / 4, 4) * stats.sem(VALUES))
    assert few == usual
    lower = over_seeds(VALUES, tails=Tails.of_chosen(4, False))
    assert lower.high - 0.902 == pytest.approx(0.902 - chosen.low)


def table(seeds: int = 4, images: int = 60) -> np.ndarray:
    """Scores of seeds on images, both with effects of their own."""
    rng = np.random.default_rng(0)
    return rng.normal(0, 1, (seeds, 1)) + rng.normal(0, 2, (1, images)) + rng.normal(0, 1, (seeds, images))


def test_the_crossed_variance_is_that_of_the_analysis_of_variance() -> None:
    rows = table()
    n, count = rows.shape
    by_seed, by_image = rows.mean(1), rows.mean(0)
    residual = ((rows - by_seed[:, None] - by_image + rows.mean()) ** 2).sum() / ((n - 1) * (count - 1))
    found = Crossed.of(rows)
    assert found.residual == pytest.approx(residual)
    variance, freedom = found.error()
    terms = by_seed.var(ddof=1) / n, by_image.var(ddof=1) / count, residual / n / count
    assert variance == pytest.approx(terms[0] + terms[1] - terms[2])
    assert freedom == pytest.approx(variance**2 / (terms[0] ** 2 / 3 + terms[1] ** 2 / 59 + terms[2] ** 2 / 177))


def test_images_without_seeds_that_differ_are_a_t_interval_over_images() -> None:
    row = table()[0]
    found = mean_on_new_examples(float(row.mean()), Crossed.of([row] * 400))
    low, high = stats.ttest_1samp(row, 0.0).confidence_interval(0.95)
    assert (found.low, found.high) == pytest.approx((low, high), rel=1e-2)


def test_a_model_that_is_always_right_may_still_be_wrong_on_the_next_image() -> None:
    found = share_on_new_examples(1.0, Crossed.of(np.ones((5, 100))))
    wilson = stats.binomtest(100, 100).proportion_ci(method="wilson")
    assert found.high == found.value == 1
    assert found.low == pytest.approx(wilson.low, abs=2e-3)


def test_a_share_has_wilsons_interval_where_all_seeds_agree() -> None:
    row = np.repeat([1.0, 0.0], [90, 10])
    found = share_on_new_examples(0.9, Crossed.of([row] * 3))
    wilson = stats.binomtest(90, 100).proportion_ci(method="wilson")
    assert (found.low, found.high) == pytest.approx((wilson.low, wilson.high), abs=2e-3)


def test_three_images_that_all_fell_to_one_side_are_no_proof_and_ten_are() -> None:
    def low(images: int) -> float:
        row = np.repeat([1.0, 0.0], [images, 200 - images])
        return difference_on_new_examples(images / 200, [row] * 5).low

    assert low(3) < 0 < low(10)


def test_equal_models_differ_by_nothing_and_by_little_on_new_examples() -> None:
    found = difference_on_new_examples(0.0, np.zeros((5, 200)))
    assert found.low == pytest.approx(-found.high)
    assert 0 < found.high < 0.02
