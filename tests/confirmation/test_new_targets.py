"""With a known population: the intervals of an unbounded metric and of those that are no means hold the truth as often as they say."""

from collections.abc import Callable, Sequence
from functools import cache, partial
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from scipy.special import ndtr

from service.confirmation.race import Arm
from service.confirmation.verdict import judge
from service.domain.spec import Objective
from service.domain.verdict import Estimate
from tests.confirmation.worlds import Floats, arm, cost
from tests.operations.driving import FACTS
from trainer.targets.classes.measuring import tallies_of
from trainer.targets.labels.scores import LabelPredictions
from trainer.targets.numbers.scores import Residuals
from trainer.tasks.capabilities import ExampleScores
from trainer.tasks.image_classification.spec import SPEC as CLASSES
from trainer.tasks.image_classification.task import TASK
from trainer.tasks.image_multilabel.spec import SPEC as LABELS
from trainer.tasks.image_regression.spec import SPEC as NUMBERS

STUDIES, SEEDS, EXAMPLES = 300, 5, 250
RMSE = Objective(metric="rmse", direction="minimize")
AUROC = Objective(metric="auroc", direction="maximize")
PRECISION = Objective(metric="average_precision", direction="maximize")
BIAS, OF_EXAMPLES, OF_BOTH = 0.5, 2.0, 1.0  # standard deviations of a residual: of a seed, of an example, of both
BEHIND = 1.15  # factor of the baseline's residuals
PREVALENCE = np.array([0.5, 0.3, 0.15])  # of the labels
APART, OF_SEED = np.array([1.5, 2.0, 1.0]), 0.15  # mean distance of the logits with and without the label, and a seed's deviation
WORSE = 0.3  # the baseline's distance less
OF_CLASSES = np.array([0.5, 0.3, 0.2])  # shares of the classes
TOLD_APART, POPULATION = 1.5, 200_000  # mean logit of the true class; examples from which the truth about classes is computed
POINTS, WEIGHTS = np.polynomial.hermite_e.hermegauss(41)
FEW_POINTS, FEW_WEIGHTS = np.polynomial.hermite_e.hermegauss(3)  # enough for a function of a seed that is nearly linear


def over_seeds(of: Callable[[float], float], deviation: float) -> float:
    """The mean of a function of a seed's normal effect: Gauss and Hermite's sums."""
    return float(np.array([of(deviation * point) for point in POINTS]) @ WEIGHTS / WEIGHTS.sum())


@cache
def true_rmse(factor: float) -> float:
    return factor * over_seeds(lambda bias: float(np.sqrt(bias**2 + OF_EXAMPLES**2 + OF_BOTH**2)), BIAS)


@cache
def true_auroc(less: float) -> float:
    spread = np.sqrt(2) * np.hypot(OF_EXAMPLES, OF_BOTH)
    return over_seeds(lambda seed: float(ndtr((APART - less + seed) / spread).mean()), OF_SEED)


def regressions(rng: np.random.Generator, *, heavy: bool) -> list[Arm]:
    """A configuration that is cheap, and a baseline that is worse, on the same examples and with the same seeds."""
    targets = rng.normal(100, 10, EXAMPLES)
    ease = rng.laplace(0, OF_EXAMPLES / np.sqrt(2), EXAMPLES) if heavy else rng.normal(0, OF_EXAMPLES, EXAMPLES)
    bias = rng.normal(0, BIAS, SEEDS)
    found = []
    for number, factor in enumerate((1.0, BEHIND)):
        residuals = factor * (ease + bias[:, None] + rng.normal(0, OF_BOTH, (SEEDS, EXAMPLES)))
        tests = np.sqrt((residuals**2).mean(1))
        found.append(scored(number, tests, [Residuals(own, targets) for own in residuals]))
    return found


def labellings(rng: np.random.Generator) -> list[Arm]:
    """The same with three labels. A logit is that of the example, with an offset if it has the label."""
    actual = rng.random((EXAMPLES, len(PREVALENCE))) < PREVALENCE
    ease, seeds = rng.normal(0, OF_EXAMPLES, actual.shape), rng.normal(0, OF_SEED, SEEDS)
    found = []
    for number, less in enumerate((0.0, WORSE)):
        apart = APART - less + seeds[:, None, None]
        logits = ease + actual * apart + rng.normal(0, OF_BOTH, (SEEDS, *actual.shape))
        runs = [LabelPredictions(actual=actual, predicted=own > 0, logits=own) for own in logits]
        found.append(scored(number, np.array([area(one) for one in runs]), runs))
    return found


def logits_of_classes(rng: np.random.Generator, less: float, seeds: Floats, actual: NDArray[np.int64], ease: Floats) -> Floats:
    """Logits [seeds, examples, classes] of a configuration that is `less` good at telling classes apart."""
    apart = TOLD_APART - less + seeds[:, None, None]
    logits: Floats = ease + (actual[:, None] == np.arange(len(OF_CLASSES))) * apart + rng.normal(0, OF_BOTH, (len(seeds), *ease.shape))
    return logits


def examples_of_classes(rng: np.random.Generator, count: int) -> tuple[NDArray[np.int64], Floats]:
    """The true classes in ascending order [count], and what all seeds have in common of the logits [count, classes]."""
    actual = np.sort(rng.choice(len(OF_CLASSES), count, p=OF_CLASSES))
    return actual, rng.normal(0, OF_EXAMPLES, (count, len(OF_CLASSES)))


def classifications(rng: np.random.Generator, metric: str) -> list[Arm]:
    """The same with three classes. The scores are those of the trainer's reports."""
    actual, ease = examples_of_classes(rng, EXAMPLES)
    seeds, targets, found = rng.normal(0, OF_SEED, SEEDS), torch.tensor(actual), []
    for number, less in enumerate((0.0, WORSE)):
        logits = torch.tensor(logits_of_classes(rng, less, seeds, actual, ease), dtype=torch.float32)
        tallies = tallies_of(logits.transpose(1, 2), targets)
        measured = TASK.measure(tallies, targets, INFO, examples=True)
        runs = [CLASSES.examples(one.report()) for one in measured]
        found.append(scored(number, np.array([one.metrics[metric] for one in measured]), [run for run in runs if run is not None]))
    return found


@cache
def true_of_classes(less: float) -> dict[str, float]:
    """The metrics of a population, each class against the others, by sorting."""
    rng = np.random.default_rng(1)
    actual, ease = examples_of_classes(rng, POPULATION)

    def of_seed(seed: float) -> Any:
        (logits,) = logits_of_classes(np.random.default_rng(2), less, np.array([seed]), actual, ease)
        margins = logits - np.logaddexp.reduce(logits, axis=1, keepdims=True)
        found = []
        for label, column in enumerate(margins.T):
            positive = (actual == label)[np.argsort(-column)]
            hits, listed = positive.cumsum(), np.arange(1, POPULATION + 1)
            wrong_pairs = (listed - hits)[positive].sum()  # negatives that rank above a positive
            found.append((1 - wrong_pairs / (hits[-1] * (POPULATION - hits[-1])), (hits / listed)[positive].mean()))
        return np.array(found).mean(0)

    means = sum(weight * of_seed(OF_SEED * point) for point, weight in zip(FEW_POINTS, FEW_WEIGHTS, strict=True)) / FEW_WEIGHTS.sum()
    return {"auroc": float(means[0]), "average_precision": float(means[1])}


def truths_of_classes(metric: str) -> tuple[float, float]:
    return true_of_classes(0.0)[metric], true_of_classes(WORSE)[metric]


def area(one: LabelPredictions) -> float:
    """The macro area under the ROC curve by all pairs of an example with and one without a label."""
    areas = [(logits[actual][:, None] > logits[~actual][None]).mean() for actual, logits in zip(one.actual.T, one.logits.T, strict=True)]
    return float(np.mean(areas))


def scored(number: int, tests: Floats, examples: Sequence[ExampleScores]) -> Arm:
    return arm(number, tests, baseline=number == 1, examples=examples, cost=cost(trainable=1 + number))


def holds(estimate: Estimate | None, truth: float) -> bool:
    assert estimate is not None
    return estimate.low <= truth <= estimate.high


INFO = FACTS.model_copy(update={"classes": ("a", "b", "c")})
Draw = Callable[[np.random.Generator], list[Arm]]
CASES: dict[str, tuple[Any, Objective, Draw, Callable[[], tuple[float, float]]]] = {
    "rmse": (NUMBERS, RMSE, partial(regressions, heavy=False), lambda: (true_rmse(1.0), true_rmse(BEHIND))),
    "rmse, heavy tails": (NUMBERS, RMSE, partial(regressions, heavy=True), lambda: (true_rmse(1.0), true_rmse(BEHIND))),
    "auroc": (LABELS, AUROC, labellings, lambda: (true_auroc(0.0), true_auroc(WORSE))),
    "auroc of classes": (CLASSES, AUROC, partial(classifications, metric="auroc"), partial(truths_of_classes, "auroc")),
    "average precision of classes": (
        CLASSES, PRECISION, partial(classifications, metric="average_precision"), partial(truths_of_classes, "average_precision"),
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", CASES)
def test_the_metric_on_new_examples_is_within_its_interval_and_the_uplift_within_its_own(case: str) -> None:
    task, objective, draw, truth = CASES[case]
    rng, (here, there) = np.random.default_rng(8), truth()
    judged = [judge(draw(rng), objective, task=task, seeds=SEEDS, test_examples=EXAMPLES, state="done") for _ in range(STUDIES)]
    reported = [one for one in judged if one.recommended == 0]
    assert len(reported) > 0.9 * STUDIES
    ours = np.mean([holds(one.new_images, here) for one in reported])
    gained = np.mean([holds(one.uplift_new_images, abs(here - there)) for one in reported])
    blind = np.mean([holds(one.expected, here) for one in reported])
    print(f"{case} {here:.4f}: {ours:.1%}; uplift {abs(here - there):.4f}: {gained:.1%}; over seeds alone {blind:.1%}")  # noqa: T201
    assert 0.90 <= ours <= 0.98
    assert 0.90 <= gained <= 0.98
    assert blind < 0.85, "seeds alone say nothing of other examples"
