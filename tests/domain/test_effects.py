"""Parameters without effect are found by learning curves that are equal bit for bit."""

import math
from collections.abc import Mapping
from typing import Any

import pytest

from service.domain.effects import CurveDigest, digest_of, sentences

CURVE = {1: 0.73512345, 2: 0.5123456789}


def trial(number: int, digest: str, **params: Any) -> CurveDigest:
    return CurveDigest(number, params, digest)


def test_a_parameter_that_alone_differs_between_equal_curves_has_no_effect() -> None:
    trials = [trial(1, "a", lr=0.1, momentum=0.1), trial(2, "b", lr=0.2, momentum=0.5), trial(3, "a", lr=0.1, momentum=0.9)]
    assert sentences(trials, "loss") == [
        "Parameter momentum has no effect: trials 1 and 3 differ only in it, and their curves of loss are equal bit for bit."
    ]


def test_a_parameter_that_has_an_effect_elsewhere_is_not_named() -> None:
    trials = [trial(1, "a", opt="adam", momentum=0.1), trial(2, "a", opt="adam", momentum=0.9), trial(3, "b", opt="sgd", momentum=0.1)]
    assert sentences([*trials, trial(4, "c", opt="sgd", momentum=0.9)], "loss") == []


def test_the_smallest_sets_of_parameters_are_named() -> None:
    trials = [trial(1, "a", x=1, y=1, z=1), trial(2, "a", x=2, y=2, z=1), trial(3, "b", x=3, y=2, z=5)]
    assert sentences(trials, "loss") == [
        "Parameters x and y have no effect: trials 1 and 2 differ only in them, and their curves of loss are equal bit for bit."
    ]


def test_all_curves_equal_means_that_the_script_ignores_its_parameters() -> None:
    (sentence,) = sentences([trial(number, "a", lr=number) for number in range(3)], "loss")
    assert sentence.startswith("No parameter has an effect: the curves of loss of all 3 complete trials are equal")


@pytest.mark.parametrize(
    ("curve", "has_digest"),
    [(CURVE, True), ({1: 0.5}, False), ({1: 0.5, 2: 0.75, 3: 0.75}, False), ({n: n / 8 for n in range(5)}, True), ({1: math.nan}, False),
     ({1: 0.1}, False), ({1: 1 / 3}, True)],
)  # fmt: skip
def test_a_curve_that_runs_share_by_chance_has_no_digest(curve: Mapping[int, float], has_digest: bool) -> None:
    assert (digest_of(curve) is not None) is has_digest
    assert digest_of(curve) == digest_of(dict(reversed(list(curve.items()))))


def test_another_value_gives_another_digest() -> None:
    assert digest_of(CURVE) != digest_of({**CURVE, 2: math.nextafter(CURVE[2], 1)})
