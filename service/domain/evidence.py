"""What a pruner ended a trial on: the rule, the value, what was needed, and the trials it was compared with."""

from typing import assert_never

from pydantic import Field, FiniteFloat

from search_spaces.parameters import Frozen
from service.domain.samplers import Asha, Hyperband, Median, NoPruner, Patient, Percentile, Pruner, Threshold, Wilcoxon
from service.domain.states import ValueKind
from trainer.configuration import Direction

MOST_PEERS = 50  # that are named
WORDS = {ValueKind.NAN: "nan", ValueKind.POS_INF: "inf", ValueKind.NEG_INF: "-inf"}


class Peer(Frozen):
    """A trial that the pruned one was compared with."""

    number: int
    value: FiniteFloat = Field(description="the one it was compared by: at the same step, or in the same rung")


class Finding(Frozen):
    """What a pruner ended a trial on, as numbers."""

    rule: Pruner = Field(description="the pruner with its options")
    metric: str
    direction: Direction = Field(description="the better one")
    step: int = Field(description="the epoch after which it was ended")
    value: FiniteFloat | None = Field(
        description="what was judged: the newest value; by median and percentile, the best up to that epoch; null where it is not finite"
    )
    kind: ValueKind = Field(default=ValueKind.FINITE, description="of the value; one that is not finite ends a trial under every pruner")
    rung: int | None = Field(default=None, description="from 0; null where the rule has none")
    bracket: int | None = Field(default=None, description="of hyperband, from 0: its trials are compared among themselves")
    threshold: FiniteFloat | None = Field(default=None, description="what was needed to go on; null where the rule has no such number")
    peers: tuple[Peer, ...] = Field(default=(), max_length=MOST_PEERS, description="nearest to the threshold first, itself not among them")
    peers_total: int = Field(default=0, ge=0, description="how many there were")


class Evidence(Finding):
    """The same, and in a sentence."""

    sentence: str = Field(description="names the value, the epoch, and what it fell short of; all of it follows from the numbers")


def with_sentence(finding: Finding) -> Evidence:
    """The finding and its sentence."""
    return Evidence(**{name: getattr(finding, name) for name in Finding.model_fields}, sentence=sentence_of(finding))


def sentence_of(finding: Finding) -> str:
    """Why the trial was ended, in words."""
    if finding.value is None:
        return f"{finding.metric} is {WORDS.get(finding.kind, 'unknown')} at step {finding.step}."
    return _sentence(finding.rule, finding)


def _sentence(rule: Pruner, finding: Finding) -> str:
    newest = f"{finding.metric} is {_number(finding.value)} at step {finding.step}"
    match rule:
        case Median() | Percentile():
            return _behind_its_peers(rule, finding)
        case Asha(reduction_factor=factor) | Hyperband(reduction_factor=factor):
            ranked = finding.peers_total + 1
            place = f"the best {places(ranked, factor)} of {ranked} trials in rung {finding.rung}"
            return f"{newest}: not among {place}, which needs {_number(finding.threshold)}."
        case Threshold():
            side = "below the lower bound" if _falls_short(finding) else "above the upper bound"
            return f"{newest}, {side} {_number(finding.threshold)}."
        case Wilcoxon(p_threshold=threshold):
            best = f"the best trial, {finding.peers[0].number}," if finding.peers else "the best trial"
            return f"{newest}: step by step it is worse than {best} by a signed-rank test at p < {threshold:.6g}."
        case Patient(patience=patience, wrapped=wrapped):
            patient = f"{finding.metric} has not improved for more than {patience} steps"
            return f"{patient}: {newest}." if isinstance(wrapped, NoPruner) else f"{patient}, and {_sentence(wrapped, finding)}"
        case NoPruner():
            return f"{newest}."
        case _:
            assert_never(rule)


def _behind_its_peers(rule: Median | Percentile, finding: Finding) -> str:
    line = "the median" if isinstance(rule, Median) else f"what the best {rule.percentile:.6g} % reach"
    side = "below" if finding.direction == "maximize" else "above"
    own = f"The best {finding.metric} up to step {finding.step} is {_number(finding.value)}"
    return f"{own}, {side} {line} of {finding.peers_total} complete trials at that step: {_number(finding.threshold)}."


def places(ranked: int, factor: int) -> int:
    """How many of the trials in a rung go on, by successive halving with that reduction factor."""
    return max(ranked // factor, 1)


def _falls_short(finding: Finding) -> bool:
    return finding.value is not None and finding.threshold is not None and finding.value < finding.threshold


def _number(value: float | None) -> str:
    return "unknown" if value is None else f"{value:.6g}"
