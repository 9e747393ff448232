"""The verdict of a confirmation: computed from the runs, read from the store, and the sentences that state it."""

import math
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from service.confirmation import statistics
from service.confirmation.race import (
    Arm,
    Pair,
    arms_of,
    dropped,
    have_scores,
    mean_of,
    paired,
    resolution_of,
    rounds_of,
    scores_of,
    tests_of,
)
from service.confirmation.statistics import USUAL, Crossed, Tails
from service.domain.records import Study, Trial
from service.domain.spec import Objective
from service.domain.states import Phase, StudyState
from service.domain.verdict import LEVEL, Compared, Estimate, Helped, Optimism, Price, Verdict, constant_of
from service.store import Transaction, queries
from trainer.configuration import counted
from trainer.tasks.base import Metric, TaskSpec
from trainer.tasks.capabilities import ExternalRunner
from trainer.tasks.registry import spec_of

LONGEST_CAUSE = 200  # characters of the reason of a failure


@dataclass(frozen=True, slots=True)
class Unit:
    """The format of the objective's values: percent for shares, with as many digits as the width of the interval warrants."""

    percent: bool
    decimals: int

    @classmethod
    def fitting(cls, verdict: Verdict, metric: Metric) -> "Unit":
        """The format that shows one digit of the expected value's uncertainty in percent, two in another unit."""
        percent = metric.is_share
        expected = verdict.expected
        half = (expected.high - expected.low) / 2 if expected is not None else 0.0
        if half <= 0:
            return cls(percent, 1 if percent else 3)
        if percent:
            return cls(percent, min(max(-math.floor(math.log10(half * 100)), 1), 3))
        return cls(percent, min(max(1 - math.floor(math.log10(half)), 0), 6))

    def plain(self, number: float) -> str:
        """The number without a unit."""
        scaled = number * 100 if self.percent else number
        if abs(scaled) >= 1e6:
            return f"{scaled:.3g}"
        return f"{scaled:z.{self.decimals}f}"

    def value(self, number: float) -> str:
        return f"{self.plain(number)} %" if self.percent else self.plain(number)

    def difference(self, number: float) -> str:
        return f"{self.plain(number)} points" if self.percent else self.plain(number)

    def interval(self, estimate: Estimate) -> str:
        return f"{self.plain(estimate.low)} to {self.plain(estimate.high)}"


def words_of(verdict: Verdict, metric: Metric, example: str | None) -> tuple[str, ...]:
    """The verdict as sentences, the most important first. `example` is the task's noun for a test example.

    It is None where the runs themselves decide on which data they are scored, so that nothing is known of it. Failure texts are quoted
    without escaping; the caller escapes them for its format.
    """
    unit, examples = Unit.fitting(verdict, metric), None if example is None else f"{example}s"
    return (
        *_state(verdict),
        *_recommended(verdict),
        *_expected(verdict, unit, examples),
        *_helped_sentence(verdict, unit, examples),
        *_optimism_sentence(verdict, unit, examples),
        *_out(verdict),
    )


def _state(verdict: Verdict) -> Iterator[str]:
    runs, most = sum(len(arm.rounds) for arm in verdict.arms), verdict.seeds * len(verdict.arms)
    if verdict.state == "running":
        yield f"The confirmation is under way: {runs} of at most {most} runs have ended, so these results may change."
    if verdict.state == "stopped":
        yield f"The study ended before its confirmation did, after {counted(runs, 'run')} of at most {most}."


def _recommended(verdict: Verdict) -> Iterator[str]:
    chosen = _arm(verdict, verdict.recommended)
    if chosen is None:
        yield (
            "Nothing can be recommended yet: no configuration has two runs with a result."
            if verdict.state == "running"
            else ("Nothing can be recommended: no configuration has two runs with a result.")
        )
        return
    name, runs = _capital(_name(chosen)), counted(len(chosen.rounds), "run")
    if len(verdict.arms) == 1:
        yield f"{name} is recommended: it is the only configuration that was confirmed, in {runs} with fresh seeds."
    elif len(verdict.tied) == 1:
        yield f"{name} is recommended: over {runs} with fresh seeds it is better than every other configuration that was confirmed."
    else:
        tied = _listed([_name(arm) for number in verdict.tied if (arm := _arm(verdict, number)) is not None])
        yield (
            f"{name} is recommended: {tied} cannot be told apart over {runs} with fresh seeds ({_tie_test(verdict)}), "
            f"{_why(verdict, chosen)}."
        )


def _tie_test(verdict: Verdict) -> str:
    """The test by which configurations count as tied."""
    rivals, best = len(verdict.arms) - 1, f"trial {verdict.best}"
    if rivals == 1:
        return f"paired t test against {best}, the best, at 5 %"
    return f"paired t test of each against {best}, the best, with 5 % divided among {rivals} comparisons"


def _why(verdict: Verdict, chosen: Compared) -> str:
    """The reason for the recommendation among tied configurations."""
    best = _arm(verdict, verdict.best)
    if best is None or chosen.trial == best.trial:
        return "and it has the best mean"
    near = f"within one standard error of the best, trial {best.trial}"
    cost = _cost_against(chosen.price, best.price)
    return f"and it is the cheapest of those {near} ({cost})" if cost else f"and it is {near}, at the same cost"


def _cost_against(ours: Price | None, theirs: Price | None) -> str:
    """The cost by which the first configuration counts as cheaper, in the order of `_cheapest`; empty if the costs are the same."""
    if ours is None:
        return ""
    if theirs is None:
        return f"{_parameters(ours)}, {_seconds(ours)}, {_memory(ours)}; the cost of the best is not known"
    if ours.trainable != theirs.trainable:
        return f"{_parameters(ours)} against {theirs.trainable:,}"
    if compared_seconds(ours.train_seconds) != compared_seconds(theirs.train_seconds):
        return f"{_seconds(ours)} against {_seconds(theirs)}, with as many trained parameters"
    if ours.peak_memory != theirs.peak_memory:
        return f"{_memory(ours)} against {_memory(theirs)}, with as many trained parameters and as much time"
    return ""


def _parameters(price: Price) -> str:
    return counted(price.trainable, "trained parameter")


def _seconds(price: Price) -> str:
    return f"{compared_seconds(price.train_seconds):g} s a run"


def _memory(price: Price) -> str:
    return f"{price.peak_memory / 2**20:,.2f} MiB"


def _expected(verdict: Verdict, unit: Unit, examples: str | None) -> Iterator[str]:
    if (expected := verdict.expected) is None:
        return
    where = "over seeds; the script chooses the data that it is scored on, so that nothing is known of other data"
    if examples is not None:
        these = f"these {verdict.test_images} test {examples}" if verdict.test_images else f"these test {examples}"
        new = f", and {unit.interval(verdict.new_images)} on new {examples} of the same kind" if verdict.new_images is not None else ""
        where = f"on {these}{new}"
    single = verdict.single_run
    more = f" A single run with a fresh seed falls between {_between(unit, single)}, 19 times in 20." if single else ""
    value, interval = unit.value(expected.value), unit.interval(expected)
    yield f"Expected {verdict.objective.metric}: {value}; its 95 % interval is {interval} {where}.{more}"


def _helped_sentence(verdict: Verdict, unit: Unit, examples: str | None) -> Iterator[str]:
    chosen, baseline = _arm(verdict, verdict.recommended), next((arm for arm in verdict.arms if arm.baseline), None)
    if chosen is None:
        return
    if verdict.helped is None or baseline is None:
        yield "It is not known whether tuning helped: the baseline has fewer than two runs with a result."
    elif chosen.baseline:
        yield f"Tuning did not help: the baseline itself, {_numbered(chosen)}, is the recommended configuration."
    elif verdict.uplift is not None:
        yield _uplift_sentence(verdict, chosen, baseline, verdict.uplift, unit, examples)


def _uplift_sentence(verdict: Verdict, chosen: Compared, baseline: Compared, uplift: Estimate, unit: Unit, examples: str | None) -> str:
    new = verdict.uplift_new_images
    ours, theirs = _numbered(chosen), f"the baseline, {_numbered(baseline)}"
    by = f"{unit.difference(abs(uplift.value))} {'worse' if uplift.value < 0 else 'better'} than {theirs}"
    by += f" (95 % interval of this difference: {unit.interval(uplift)}"
    beside = _beside_the_tie(verdict, baseline)
    if verdict.helped == "no":
        return f"Tuning did not help: {ours} is {by}), a difference that fresh seeds alone explain.{beside}"
    if verdict.helped == "unclear" and new is not None:
        few = f"but there are too few of them to conclude the same for new ones ({unit.interval(new)})"
        return f"Unclear whether tuning helped: on these test {examples} {ours} is {by}), {few}.{beside}"
    return f"Tuning helped: {ours} is {by}{f', and {unit.interval(new)} on new {examples}' if new is not None else ''}).{beside}"


def _beside_the_tie(verdict: Verdict, baseline: Compared) -> str:
    """A sentence where the uplift and the comparison with the best differ about the baseline, since they are different tests."""
    compared = f"This compares the recommended configuration with the baseline alone, {_numbered(baseline)}"
    if verdict.helped != "no" and baseline.tied:
        comparisons = counted(len(verdict.arms) - 1, "comparison")
        return f" {compared}; that it cannot be told apart from the best is the result of a stricter test, which covers {comparisons}."
    if verdict.helped == "no" and baseline.behind is not None and baseline.behind.low > 0:
        return f" {compared}; the best, trial {verdict.best}, is better than the baseline."
    return ""


def _optimism_sentence(verdict: Verdict, unit: Unit, examples: str | None) -> Iterator[str]:
    if (found := verdict.optimism) is None:
        return
    arm = _arm(verdict, found.trial)
    its = _name(arm) if arm is not None else f"trial {found.trial}"
    seen, confirmed = unit.value(found.searched), unit.value(found.confirmed)
    compared = f"{seen} on the validation {examples} then, {confirmed} on the test {examples} with fresh seeds now"
    if examples is None:
        compared = f"{seen} then, {confirmed} with fresh seeds now"
    if found.value <= 0:
        yield f"The search did not flatter its best, {its}: {compared}."
        return
    luck = ""
    if found.chosen > 0 and examples is not None:
        worse = f"runs with fresh seeds are that much worse on the same validation {examples}"
        easier = f"; on the test {examples} they are {unit.difference(found.chosen - found.value)} better than on these"
        luck = f" Luck accounts for {unit.difference(found.chosen)}: {worse}{easier if found.chosen > found.value else ''}."
    yield f"The search flattered its best, {its}, by {unit.difference(found.value)}: {compared}.{luck}"


def _out(verdict: Verdict) -> Iterator[str]:
    for arm in verdict.arms:
        if arm.failed is not None:
            yield f"{_capital(_name(arm))} is excluded: {_cut(arm.failed)}."
        elif arm.stopped_after is not None:
            yield f"{_capital(_name(arm))} was dropped after round {arm.stopped_after}, because it was already clearly worse."


def _arm(verdict: Verdict, number: int | None) -> Compared | None:
    return next((arm for arm in verdict.arms if arm.trial == number), None)


def _numbered(arm: Compared) -> str:
    return f"trial {arm.trial}"


def _name(arm: Compared) -> str:
    return f"the baseline (trial {arm.trial})" if arm.baseline else _numbered(arm)


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]


def _listed(names: Sequence[str]) -> str:
    return f"{', '.join(names[:-1])} and {names[-1]}"


def _between(unit: Unit, estimate: Estimate) -> str:
    return f"{unit.plain(estimate.low)} and {unit.plain(estimate.high)}"


def _cut(cause: str) -> str:
    line = " ".join(cause.split()).rstrip(".")
    return line if len(line) <= LONGEST_CAUSE else f"{line[:LONGEST_CAUSE]} ..."


FEWEST_RUNS = 2  # needed to estimate a spread
ConfirmationState = Literal["running", "done", "stopped"]


def judge(
    arms: Sequence[Arm], objective: Objective, *, task: TaskSpec, seeds: int, test_examples: int, state: ConfirmationState
) -> Verdict:
    """The verdict from the runs so far.

    The best arm is the one with the best mean. An arm is tied with it if the interval of their paired difference reaches 0, at a level
    that is divided among the arms (Bonferroni). The cheapest of the tied arms within one standard error of the best is recommended: the
    one-standard-error rule of Breiman et al., Classification and Regression Trees, 1984, section 3.4.3. Arms that failed, that the race
    dropped, or that have fewer than two runs are never recommended.
    """
    metric = objective.measure(task)
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
    example = None if isinstance(task, ExternalRunner) else task.example
    return known.model_copy(update={"words": words_of(known, metric, example)})


def _best(left: Sequence[Arm], objective: Objective) -> Arm | None:
    """The arm with the best mean over the rounds that all arms have; without common rounds, over each arm's own."""
    if not left:
        return None
    common = set.intersection(*map(rounds_of, left))
    return (max if objective.direction == "maximize" else min)(left, key=lambda arm: mean_of(arm, common or rounds_of(arm)))


def _behind(pair: Pair | None, arms: int) -> Estimate | None:
    if pair is None or len(pair.behind) < FEWEST_RUNS:
        return None
    # Bonferroni: the arms - 1 differences to the best share the error probability.
    tails = Tails.of(1 - (1 - LEVEL) / max(arms - 1, 1))
    return statistics.over_seeds(pair.behind, tails=tails, resolution=pair.resolution)


def _tied(left: Sequence[Arm], pairs: Mapping[int, Pair], arms: int) -> list[Arm]:
    """The arms that cannot be told apart from the best, without the best itself, in ascending order of how far they are behind."""
    near = {arm.trial: behind for arm in left if (behind := _behind(pairs.get(arm.trial), arms)) is not None and behind.low <= 0}
    return sorted((arm for arm in left if arm.trial in near), key=lambda arm: near[arm.trial].value)


def _is_within_one_error(pair: Pair) -> bool:
    return float(pair.behind.mean()) <= pair.error


def _cheapest(near: Sequence[Arm], pairs: Mapping[int, Pair]) -> Arm:
    """The cheapest arm by trainable parameters, then time, then memory; the best of equally cheap ones.

    Times are compared by `compared_seconds`, because they are noisy.
    """

    def price(arm: Arm) -> tuple[float, ...]:
        behind = float(pairs[arm.trial].behind.mean()) if arm.trial in pairs else 0.0
        if arm.cost is None:
            return math.inf, math.inf, math.inf, behind
        return arm.cost.trainable, compared_seconds(arm.cost.train_seconds), arm.cost.peak_memory, behind

    return min(near, key=price)


def compared_seconds(seconds: float) -> float:
    """The time with two significant digits."""
    return float(f"{seconds:.1e}")


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
    return statistics.within(statistics.over_seeds(tests_of(arm), tails=tails, resolution=resolution_of(arm)), metric.low, metric.high)


def _worth(chosen: Arm, baseline: Arm | None, known: Verdict, metric: Metric) -> dict[str, object]:
    """The fields of the verdict that are about the recommendation."""
    objective = known.objective
    tails = Tails.of_chosen(len(known.tied), objective.direction == "maximize")
    one_more = statistics.of_one_more(tests_of(chosen), resolution=resolution_of(chosen))
    expected, new = _mean(chosen, metric, tails), _on_new_examples(chosen, objective.metric, metric, tails)
    worth: dict[str, object] = {
        "recommended": chosen.trial,
        "expected": expected,
        # Both are estimates, so by chance the interval for new examples could be narrower than that for these examples.
        "new_images": statistics.no_narrower(new, expected) if new is not None else None,
        "single_run": statistics.within(one_more, metric.low, metric.high),
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
        return statistics.share_on_new_examples(mean, scores, tails=tails)
    return statistics.within(statistics.mean_on_new_examples(mean, scores, tails=tails), metric.low, metric.high)


def _uplift(chosen: Arm, baseline: Arm, known: Verdict, metric: Metric) -> dict[str, object]:
    """The fields on the uplift over the baseline; empty if the two have fewer than two rounds in common."""
    pair = paired(chosen, baseline, known.objective.direction)
    if len(pair.behind) < FEWEST_RUNS:
        return {}
    rivals = sum(number != baseline.trial for number in known.tied)  # without the baseline: if it were chosen, there would be no uplift
    tails = Tails.of_chosen(rivals, higher_is_better=True)
    uplift = statistics.over_seeds(pair.behind, tails=tails, resolution=pair.resolution)
    new = _uplift_on_new_examples(chosen, baseline, pair, known.objective.metric, metric, tails)
    new = statistics.no_narrower(new, uplift) if new is not None else None
    return {"uplift": uplift, "uplift_new_images": new, "helped": _helped(uplift, new)}


def _uplift_on_new_examples(chosen: Arm, baseline: Arm, pair: Pair, name: str, metric: Metric, tails: Tails) -> Estimate | None:
    """The uplift on new examples, paired by round and example; None without scores of each example."""
    if not have_scores([chosen, baseline], pair.rounds, name):
        return None
    sign = 1.0 if metric.direction == "maximize" else -1.0
    both = zip(scores_of(chosen, pair.rounds, name), scores_of(baseline, pair.rounds, name), strict=True)
    rows, mean = (sign * (ours - theirs) for ours, theirs in both), float(pair.behind.mean())
    if metric.is_share:
        return statistics.difference_on_new_examples(mean, rows, tails=tails)
    return statistics.mean_on_new_examples(mean, Crossed.of(rows), tails=tails)


def _helped(uplift: Estimate, on_new: Estimate | None) -> Helped:
    """Whether tuning helped. `on_new` is None if there are too many examples to keep their scores."""
    # With so many examples, results on new ones would hardly differ.
    if uplift.low <= 0:
        return "no"
    return "unclear" if on_new is not None and on_new.low <= 0 else "yes"


def _optimism(arms: Sequence[Arm], objective: Objective) -> Optimism | None:
    """The optimism of the search about the arm that it ranked first by a single value."""
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


def phase_of(study: Study) -> Phase:
    """The study's phase, from the search to the end of the confirmation; `none` for a study without confirmation."""
    if study.spec.confirm is None or (study.confirmation is None and study.state.terminal):
        return "none"
    if study.confirmation is None:
        return "search"
    if study.state is StudyState.COMPLETE:
        return "done"
    return "stopped" if study.state.terminal else "running"


def verdict_of(tx: Transaction, study: Study) -> Verdict | None:
    """The verdict from the runs so far; None before the confirmation begins, and for a study without one."""
    phase = phase_of(study)
    if study.confirmation is None or study.spec.confirm is None or phase == "none" or phase == "search":
        return None
    examples = study.facts.sizes.get("test", 0) if study.facts is not None else 0
    searched, repeats = queries.trials_numbered(tx, study.id, study.confirmation.arms), queries.confirmation_trials(tx, study.id)
    arms, task = arms_of(study.spec, study.confirmation, searched, repeats, examples), spec_of(study.spec.task)
    verdict = judge(arms, study.spec.objective, task=task, seeds=study.spec.confirm.seeds, test_examples=examples, state=phase)
    constant = constant_of(study.facts, "test", study.spec.objective.metric)
    comparison = constant.confirmed(verdict) if constant is not None else None
    return verdict if comparison is None else verdict.model_copy(update={"words": (*verdict.words, comparison)})


def recommended_trial(tx: Transaction, study: Study) -> tuple[Trial | None, Verdict | None]:
    """The trial of the search with the recommended configuration, and the verdict that recommends it.

    Without a completed confirmation, this is the best trial of the search, and the verdict is None.
    """
    verdict = verdict_of(tx, study) if phase_of(study) == "done" else None
    if verdict is None or verdict.recommended is None:
        return queries.best_trial(tx, study), None
    (trial,) = queries.trials_numbered(tx, study.id, [verdict.recommended])
    return trial, verdict
