"""The verdict of a confirmation, a pure function of its arms."""

import math
from collections.abc import Collection, Mapping, Sequence
from typing import Literal

import numpy as np

from service.domain.spec import Objective
from service.domain.verdict import LEVEL, Compared, Estimate, Helped, Optimism, Price, Verdict
from service.evidence import intervals
from service.evidence.arms import Arm
from service.evidence.crossed import Crossed
from service.evidence.intervals import USUAL, Tails
from service.evidence.pairs import Pair, have_scores, mean_of, paired, resolution_of, rounds_of, scores_of, tests_of
from service.evidence.race import dropped
from service.evidence.words import words_of
from trainer.tasks.base import Metric, TaskSpec

FEWEST_RUNS = 2  # of which a spread can be told
State = Literal["running", "done", "stopped"]


def judge(arms: Sequence[Arm], objective: Objective, *, task: TaskSpec, seeds: int, test_examples: int, state: State) -> Verdict:
    """What the runs so far say.

    Best is the arm with the best mean; tied with it are those whose paired difference to it could be 0, at a level shared out among them
    (Bonferroni). Of the tied ones within one standard error of the best the cheapest is recommended: the one-standard-error rule of
    Breiman et al., Classification and Regression Trees, 1984, section 3.4.3. An arm that failed, that the race gave up, or that has fewer
    than two runs is never recommended.
    """
    metric = task.metrics[objective.metric]
    lost = dropped(arms, objective.direction, seeds)
    left = [arm for arm in arms if arm.failed is None and arm.trial not in lost and len(arm.repeats) >= FEWEST_RUNS]
    best = _best(left, objective)
    pairs = {} if best is None else {arm.trial: paired(best, arm, objective.direction) for arm in arms if arm is not best}
    tied = [] if best is None else [best, *_tied(left, pairs, len(arms))]
    known = Verdict(
        state=state,
        objective=objective,
        seeds=seeds,
        test_images=test_examples,
        arms=tuple(_compared(arm, metric, pairs.get(arm.trial), lost, {one.trial for one in tied}, len(arms)) for arm in arms),
        best=best.trial if best is not None else None,
        tied=tuple(arm.trial for arm in tied),
    )
    if best is not None:
        chosen = _cheapest([best, *(arm for arm in tied[1:] if _is_within_one_error(pairs[arm.trial]))], pairs)
        known = known.model_copy(update={"optimism": _optimism(arms, objective)})
        known = known.model_copy(update=_worth(chosen, next((arm for arm in arms if arm.baseline), None), known, metric))
    return known.model_copy(update={"words": words_of(known, metric, task.example)})


def _best(left: Sequence[Arm], objective: Objective) -> Arm | None:
    """By the mean over the rounds that all of them have; over its own ones where they have none in common."""
    if not left:
        return None
    common = set.intersection(*map(rounds_of, left))
    return (max if objective.direction == "maximize" else min)(left, key=lambda arm: mean_of(arm, common or rounds_of(arm)))


def _behind(pair: Pair | None, arms: int) -> Estimate | None:
    if pair is None or len(pair.behind) < FEWEST_RUNS:
        return None
    tails = Tails.of(1 - (1 - LEVEL) / max(arms - 1, 1))
    return intervals.over_seeds(pair.behind, tails=tails, resolution=pair.resolution)


def _tied(left: Sequence[Arm], pairs: Mapping[int, Pair], arms: int) -> list[Arm]:
    """Those that cannot be told apart from the best, without it, by how far they are behind."""
    near = {arm.trial: behind for arm in left if (behind := _behind(pairs.get(arm.trial), arms)) is not None and behind.low <= 0}
    return sorted((arm for arm in left if arm.trial in near), key=lambda arm: near[arm.trial].value)


def _is_within_one_error(pair: Pair) -> bool:
    return float(pair.behind.mean()) <= pair.error


def _cheapest(near: Sequence[Arm], pairs: Mapping[int, Pair]) -> Arm:
    """By parameters, then time, then memory; of equally cheap ones the best. Times are noisy: two digits of them count."""

    def price(arm: Arm) -> tuple[float, ...]:
        behind = float(pairs[arm.trial].behind.mean()) if arm.trial in pairs else 0.0
        if arm.cost is None:
            return math.inf, math.inf, math.inf, behind
        return arm.cost.trainable, float(f"{arm.cost.train_seconds:.1e}"), arm.cost.peak_memory, behind

    return min(near, key=price)


def _compared(arm: Arm, metric: Metric, pair: Pair | None, lost: Mapping[int, int], tied: Collection[int], arms: int) -> Compared:
    return Compared(
        trial=arm.trial,
        baseline=arm.baseline,
        params=arm.params,
        searched=arm.searched,
        rounds=tuple(repeat.round for repeat in arm.repeats),
        runs=tuple(repeat.trial for repeat in arm.repeats),
        test=tuple(repeat.test for repeat in arm.repeats),
        validation=tuple(repeat.validation for repeat in arm.repeats),
        mean=_mean(arm, metric) if len(arm.repeats) >= FEWEST_RUNS else None,
        behind=_behind(pair, arms),
        tied=arm.trial in tied,
        stopped_after=lost.get(arm.trial),
        failed=arm.failed,
        price=Price(trainable=arm.cost.trainable, train_seconds=arm.cost.train_seconds, peak_memory=arm.cost.peak_memory)
        if arm.cost is not None
        else None,
    )


def _mean(arm: Arm, metric: Metric, tails: Tails = USUAL) -> Estimate:
    return intervals.within(intervals.over_seeds(tests_of(arm), tails=tails, resolution=resolution_of(arm)), metric.low, metric.high)


def _worth(chosen: Arm, baseline: Arm | None, known: Verdict, metric: Metric) -> dict[str, object]:
    """The fields of the verdict that are about the recommendation."""
    objective = known.objective
    tails = Tails.of_chosen(len(known.tied), objective.direction == "maximize")
    one_more = intervals.of_one_more(tests_of(chosen), resolution=resolution_of(chosen))
    expected, new = _mean(chosen, metric, tails), _on_new_examples(chosen, objective.metric, metric, tails)
    worth: dict[str, object] = {
        "recommended": chosen.trial,
        "expected": expected,
        # Both are estimates: by chance that for more than these examples could come out as the narrower one.
        "new_images": intervals.no_narrower(new, expected) if new is not None else None,
        "single_run": intervals.within(one_more, metric.low, metric.high),
    }
    if baseline is None or baseline.failed is not None:
        return worth
    return worth | ({"helped": "no"} if baseline is chosen else _uplift(chosen, baseline, known, metric))


def _on_new_examples(arm: Arm, name: str, metric: Metric, tails: Tails) -> Estimate | None:
    rounds = rounds_of(arm)
    if not have_scores([arm], rounds, name):
        return None
    mean, scores = float(tests_of(arm).mean()), Crossed.of(scores_of(arm, rounds, name))
    if metric.is_share:
        return intervals.share_on_new_examples(mean, scores, tails=tails)
    return intervals.within(intervals.mean_on_new_examples(mean, scores, tails=tails), metric.low, metric.high)


def _uplift(chosen: Arm, baseline: Arm, known: Verdict, metric: Metric) -> dict[str, object]:
    """Nothing where they have not two rounds in common."""
    pair = paired(chosen, baseline, known.objective.direction)
    if len(pair.behind) < FEWEST_RUNS:
        return {}
    rivals = sum(number != baseline.trial for number in known.tied)  # had the baseline been chosen, there would be no uplift
    tails = Tails.of_chosen(rivals, higher_is_better=True)
    uplift = intervals.over_seeds(pair.behind, tails=tails, resolution=pair.resolution)
    new = _uplift_on_new_examples(chosen, baseline, pair, known.objective.metric, metric, tails)
    new = intervals.no_narrower(new, uplift) if new is not None else None
    return {"uplift": uplift, "uplift_new_images": new, "helped": _helped(uplift, new)}


def _uplift_on_new_examples(chosen: Arm, baseline: Arm, pair: Pair, name: str, metric: Metric, tails: Tails) -> Estimate | None:
    """Paired by round and example."""
    if not have_scores([chosen, baseline], pair.rounds, name):
        return None
    sign = 1.0 if metric.direction == "maximize" else -1.0
    both = zip(scores_of(chosen, pair.rounds, name), scores_of(baseline, pair.rounds, name), strict=True)
    rows, mean = (sign * (ours - theirs) for ours, theirs in both), float(pair.behind.mean())
    if metric.is_share:
        return intervals.difference_on_new_examples(mean, rows, tails=tails)
    return intervals.mean_on_new_examples(mean, Crossed.of(rows), tails=tails)


def _helped(uplift: Estimate, on_new: Estimate | None) -> Helped:
    """Where there are so many examples that their scores were not kept, new ones would hardly differ from them."""
    if uplift.low <= 0:
        return "no"
    return "unclear" if on_new is not None and on_new.low <= 0 else "yes"


def _optimism(arms: Sequence[Arm], objective: Objective) -> Optimism | None:
    """Of the arm that the search ranked first: it was chosen for its one value."""
    arm = arms[0]
    if arm.searched is None or not arm.repeats:
        return None
    sign = 1.0 if objective.direction == "maximize" else -1.0
    confirmed = float(tests_of(arm).mean())
    again = float(np.mean([repeat.validation for repeat in arm.repeats]))
    return Optimism(
        trial=arm.trial,
        searched=arm.searched,
        confirmed=confirmed,
        value=sign * (arm.searched - confirmed),
        chosen=sign * (arm.searched - again),
    )
