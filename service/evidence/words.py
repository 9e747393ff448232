"""A verdict in plain sentences."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from service.domain.verdict import Compared, Estimate, Verdict
from trainer.tasks.base import Metric

LONGEST_CAUSE = 200  # characters of why a run failed


@dataclass(frozen=True, slots=True)
class Unit:
    """How numbers of the objective are written: shares in percent, others as they are; with the digits that its interval warrants."""

    percent: bool
    decimals: int

    @classmethod
    def fitting(cls, verdict: Verdict, metric: Metric) -> "Unit":
        """One digit of the expected value's uncertainty in percent, two in another unit."""
        percent = metric.is_share
        expected = verdict.expected
        half = (expected.high - expected.low) / 2 if expected is not None else 0.0
        if half <= 0:
            return cls(percent, 1 if percent else 3)
        if percent:
            return cls(percent, min(max(-math.floor(math.log10(half * 100)), 1), 3))
        return cls(percent, min(max(1 - math.floor(math.log10(half)), 0), 6))

    def plain(self, number: float) -> str:
        """Without a unit."""
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


def words_of(verdict: Verdict, metric: Metric, example: str) -> tuple[str, ...]:
    """What a verdict says, the most important first; `example` is the noun for what it was scored on.

    The text of a failure is quoted as it is and has to be escaped where it is shown.
    """
    unit, examples = Unit.fitting(verdict, metric), f"{example}s"
    return (
        *_state(verdict),
        *_recommended(verdict),
        *_expected(verdict, unit, examples),
        *_helped(verdict, unit, examples),
        *_optimism(verdict, unit, examples),
        *_out(verdict),
    )


def _state(verdict: Verdict) -> Iterator[str]:
    runs, most = sum(len(arm.rounds) for arm in verdict.arms), verdict.seeds * len(verdict.arms)
    if verdict.state == "running":
        yield f"The confirmation is under way: {runs} of at most {most} runs have ended, and what they say so far may change."
    if verdict.state == "stopped":
        yield f"The study ended before its confirmation did, after {_many(runs, 'run')} of at most {most}: more is not known."


def _recommended(verdict: Verdict) -> Iterator[str]:
    chosen = _arm(verdict, verdict.recommended)
    if chosen is None:
        yield (
            "Nothing can be recommended yet: no configuration has two runs with a result."
            if verdict.state == "running"
            else ("Nothing can be recommended: no configuration has two runs with a result.")
        )
        return
    name, runs = _capital(_name(chosen)), _many(len(chosen.rounds), "run")
    if len(verdict.arms) == 1:
        yield f"{name} is recommended: it is the only configuration that was confirmed, in {runs} with fresh seeds."
    elif len(verdict.tied) == 1:
        yield f"{name} is recommended: over {runs} with fresh seeds it is better than every other configuration that was confirmed."
    else:
        tied = _listed([_name(arm) for number in verdict.tied if (arm := _arm(verdict, number)) is not None])
        yield f"{name} is recommended: {tied} cannot be told apart over {runs} with fresh seeds, {_why(verdict, chosen)}."


def _why(verdict: Verdict, chosen: Compared) -> str:
    best = "the best" if chosen.trial == verdict.best else f"the best, trial {verdict.best}"
    return f"and it is the cheapest of those within one standard error of {best}{_price(chosen)}"


def _expected(verdict: Verdict, unit: Unit, examples: str) -> Iterator[str]:
    if (expected := verdict.expected) is None:
        return
    metric = verdict.objective.metric
    these = f"these {verdict.test_images} test {examples}" if verdict.test_images else f"these test {examples}"
    new = f", and {unit.interval(verdict.new_images)} on new {examples} of the same kind" if verdict.new_images is not None else ""
    yield (
        f"Expected {metric}: {unit.value(expected.value)}; its 95 % interval is {unit.interval(expected)} on {these}{new}. "
        + (
            f"A single run with a fresh seed falls between {_between(unit, verdict.single_run)}, 19 times in 20."
            if verdict.single_run
            else ""
        )
    ).rstrip()


def _helped(verdict: Verdict, unit: Unit, examples: str) -> Iterator[str]:
    chosen, baseline = _arm(verdict, verdict.recommended), next((arm for arm in verdict.arms if arm.baseline), None)
    if chosen is None:
        return
    if verdict.helped is None or baseline is None:
        yield "Whether tuning helped is not known: the baseline has fewer than two runs with a result to compare with."
    elif chosen.baseline:
        yield f"Tuning did not help: the baseline itself, {_numbered(chosen)}, is what to use."
    elif verdict.uplift is not None:
        yield _uplift(verdict, chosen, baseline, verdict.uplift, unit, examples)


def _uplift(verdict: Verdict, chosen: Compared, baseline: Compared, uplift: Estimate, unit: Unit, examples: str) -> str:
    new = verdict.uplift_new_images
    ours, theirs = _numbered(chosen), f"the baseline, {_numbered(baseline)}"
    by = f"{unit.difference(abs(uplift.value))} {'worse' if uplift.value < 0 else 'better'} than {theirs} ({unit.interval(uplift)}"
    if verdict.helped == "no":
        return f"Tuning did not help: {ours} is {by}), a difference that fresh seeds alone explain."
    if verdict.helped == "unclear" and new is not None:
        few = f"but they are too few to tell for new ones ({unit.interval(new)})"
        return f"Unclear whether tuning helped: on these test {examples} {ours} is {by}), {few}."
    return f"Tuning helped: {ours} is {by}{f'; {unit.interval(new)} on new {examples}' if new is not None else ''})."


def _optimism(verdict: Verdict, unit: Unit, examples: str) -> Iterator[str]:
    if (found := verdict.optimism) is None:
        return
    arm = _arm(verdict, found.trial)
    its = _name(arm) if arm is not None else f"trial {found.trial}"
    seen, confirmed = unit.value(found.searched), unit.value(found.confirmed)
    compared = f"{seen} on the validation {examples} then, {confirmed} on the test {examples} with fresh seeds now"
    if found.value <= 0:
        yield f"The search did not flatter its best, {its}: {compared}."
        return
    luck = (
        f" Luck of the draw: {unit.difference(found.chosen)}, gone with fresh seeds on the same validation {examples}."
        if found.chosen > 0
        else ""
    )
    yield f"The search flattered its best, {its}, by {unit.difference(found.value)}: {compared}.{luck}"


def _out(verdict: Verdict) -> Iterator[str]:
    for arm in verdict.arms:
        if arm.failed is not None:
            yield f"{_capital(_name(arm))} is out: {_cut(arm.failed)}."
        elif arm.stopped_after is not None:
            yield f"{_capital(_name(arm))} was given up after round {arm.stopped_after}: it was clearly worse already."


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


def _many(count: int, noun: str) -> str:
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"


def _between(unit: Unit, estimate: Estimate) -> str:
    return f"{unit.plain(estimate.low)} and {unit.plain(estimate.high)}"


def _price(arm: Compared) -> str:
    if arm.price is None:
        return ""
    return f" ({arm.price.trainable:,} trained parameters, {arm.price.train_seconds:.3g} s a run, {arm.price.peak_memory / 2**20:,.0f} MiB)"


def _cut(cause: str) -> str:
    line = " ".join(cause.split()).rstrip(".")
    return line if len(line) <= LONGEST_CAUSE else f"{line[:LONGEST_CAUSE]} ..."
