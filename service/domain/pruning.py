"""Why a trial was pruned, and what pruning saved."""

from typing import Self, assert_never

from pydantic import Field, FiniteFloat, model_validator

from search_spaces.parameters import FrozenModel
from service.domain.samplers import Asha, Hyperband, Median, NoPruner, Patient, Percentile, Pruner, Threshold, Wilcoxon
from service.domain.states import ValueKind
from trainer.configuration import Direction

MOST_PEERS = 50  # that are named
WORDS = {ValueKind.NAN: "nan", ValueKind.POS_INF: "inf", ValueKind.NEG_INF: "-inf"}


class Peer(FrozenModel):
    """A trial that the pruned one was compared with."""

    number: int
    value: FiniteFloat = Field(description="the one it was compared by: at the same step, or in the same rung")


class Finding(FrozenModel):
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


class PruningReason(Finding):
    """The same, and in a sentence."""

    sentence: str = Field(description="names the value, the epoch, and what it fell short of; all of it follows from the numbers")


def with_sentence(finding: Finding) -> PruningReason:
    """The finding and its sentence."""
    return PruningReason(**{name: getattr(finding, name) for name in Finding.model_fields}, sentence=sentence_of(finding))


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


class Savings(FrozenModel):
    """Training that did not happen because trials were pruned."""

    epochs: int = Field(description="that the pruned trials had still before them")
    of: int = Field(description="epochs that all trials would have trained without pruning")
    seconds: FiniteFloat | None = Field(
        description="the same, at each trial's own pace; where that is not known, at what an epoch took the others; null when none is known"
    )


class SimulatedPruner(FrozenModel):
    """A pruner, asked again about the recorded curves, in the order of the reports, on what it would have seen."""

    name: str
    label: str
    own: bool = Field(description="the study's own: told as it was")
    kept_winner: bool | None = Field(description="null where no trial is complete, or what is unknown might decide it")
    likely: bool | None = Field(description="the same by what is known alone: the unknown left out")
    winner: int | None = Field(description="best of the trials that it would have let run to an end that is known")
    trials_pruned: int = Field(description="as far as their curves are known; duplicates count with the trial that answered them")
    continued: int = Field(description="trials that were pruned in truth and would have gone on: nobody knows how")
    epochs: tuple[int, int] = Field(description="trained, at least and at most: the latter if all that went on had run to their end")

    @model_validator(mode="after")
    def _bounds_in_order(self) -> Self:
        if self.epochs[0] > self.epochs[1]:
            raise ValueError(f"at least {self.epochs[0]} and at most {self.epochs[1]} epochs")
        return self


class PotentialWinner(FrozenModel):
    """A pruned trial that might have become the best."""

    trial: int
    chance: FiniteFloat = Field(
        ge=0, le=1, description="share of complete trials whose gain from that epoch on would have lifted it so far"
    )
    n: int = Field(description="complete trials that have a value at that epoch")


class Agreement(FrozenModel):
    """How well the replay of the study's own pruner repeats what happened: where trials ran at one time, order is not all."""

    same: int = Field(description="trials that end at the same epoch")
    of: int


class PruningReport(FrozenModel):
    """The pruning of a study, looked back on."""

    partial: bool = Field(description="the search goes on: all of it up to now")
    saved: Savings
    winner: int | None = Field(description="the best complete trial; null before there is one")
    words: tuple[str, ...] = Field(description="all of it in plain sentences, the most important first")
    pruners: tuple[SimulatedPruner, ...] = Field(description="the study's own first; empty where there are too many reports")
    overtaking: tuple[PotentialWinner, ...] = Field(description="the most likely ones first; only those with any chance")
    chance: FiniteFloat | None = Field(
        description="that at least one pruned trial would have overtaken the winner, were they independent; null when none was pruned, "
        "or no complete trial tells"
    )
    agreement: Agreement | None = Field(default=None, description="null without a pruner, and for wilcoxon, which is not replayed")
