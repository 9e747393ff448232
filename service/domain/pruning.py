"""Reasons of pruning decisions, and the report on the savings of pruning."""

from typing import Self, assert_never

from pydantic import Field, FiniteFloat, model_validator

from search_spaces.parameters import FrozenModel
from service.domain.samplers import Asha, Hyperband, Median, NoPruner, Patient, Percentile, Pruner, Threshold, Wilcoxon
from service.domain.states import ValueKind
from trainer.configuration import Direction

MOST_PEERS = 50  # stored with a decision
NON_FINITE = {ValueKind.NAN: "nan", ValueKind.POS_INF: "inf", ValueKind.NEG_INF: "-inf"}


class Peer(FrozenModel):
    """A trial that the pruned one was compared with."""

    number: int
    value: FiniteFloat = Field(description="the value that was compared: at the same step, or in the same rung")


class Finding(FrozenModel):
    """The numbers that led a pruner to end a trial."""

    rule: Pruner = Field(description="the pruner with its options")
    metric: str
    direction: Direction = Field(description="the better direction")
    step: int = Field(description="the epoch after which the trial ended")
    value: FiniteFloat | None = Field(
        description="the newest value; for median and percentile, the best value up to that epoch; null where it is not finite"
    )
    kind: ValueKind = Field(default=ValueKind.FINITE, description="kind of the value; every pruner ends a trial whose value is not finite")
    rung: int | None = Field(default=None, description="counted from 0; null for pruners without rungs")
    bracket: int | None = Field(default=None, description="of hyperband, counted from 0; only trials of one bracket are compared")
    threshold: FiniteFloat | None = Field(default=None, description="the value required to continue; null for pruners without a threshold")
    peers: tuple[Peer, ...] = Field(
        default=(), max_length=MOST_PEERS, description="the other trials compared, nearest to the threshold first"
    )
    peers_total: int = Field(default=0, ge=0, description="number of trials in the comparison, the pruned one excluded")


class PruningReason(Finding):
    """A finding and its sentence."""

    sentence: str = Field(description="names the value, the epoch and the missed threshold; it is computed from the numbers")


def with_sentence(finding: Finding) -> PruningReason:
    return PruningReason(**{name: getattr(finding, name) for name in Finding.model_fields}, sentence=sentence_of(finding))


def sentence_of(finding: Finding) -> str:
    """The reason for which the trial was pruned, as a sentence."""
    if finding.value is None:
        return f"{finding.metric} is {NON_FINITE.get(finding.kind, 'unknown')} at step {finding.step}."
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
    line = "the median" if isinstance(rule, Median) else f"the threshold of the best {rule.percentile:.6g} %"
    side = "below" if finding.direction == "maximize" else "above"
    own = f"The best {finding.metric} up to step {finding.step} is {_number(finding.value)}"
    return f"{own}, {side} {line} of {finding.peers_total} complete trials at that step: {_number(finding.threshold)}."


def places(ranked: int, factor: int) -> int:
    """The number of trials in a rung that successive halving promotes with that reduction factor."""
    return max(ranked // factor, 1)


def _falls_short(finding: Finding) -> bool:
    return finding.value is not None and finding.threshold is not None and finding.value < finding.threshold


def _number(value: float | None) -> str:
    return "unknown" if value is None else f"{value:.6g}"


class Savings(FrozenModel):
    """Training that did not happen because trials were pruned."""

    epochs: int = Field(description="epochs that the pruned trials had left")
    of: int = Field(description="epochs that all trials would have trained without pruning")
    seconds: FiniteFloat | None = Field(
        description="their time at each trial's own pace, or the other trials' pace where its own is unknown; null when no pace is known"
    )


class SimulatedPruner(FrozenModel):
    """A pruner's decisions on the recorded curves, simulated in the order of the reports."""

    name: str
    label: str
    own: bool = Field(description="the study's own pruner: as it happened")
    kept_winner: bool | None = Field(description="null where no trial is complete, or where unknown continuations could change the winner")
    likely: bool | None = Field(description="the same, ignoring unknown continuations")
    winner: int | None = Field(description="best of the trials that would have run to their known end")
    trials_pruned: int = Field(description="trials pruned within their known curves; duplicates count with the trial that was trained")
    continued: int = Field(description="trials that were pruned in the study and would have continued, with unknown results")
    epochs: tuple[int, int] = Field(description="bounds of the epochs trained; the upper one if all continued trials had run to their end")

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
    """How well the simulation of the study's own pruner reproduces its decisions. They can differ where trials ran in parallel."""

    same: int = Field(description="trials that end at the same epoch in both")
    of: int


class PruningReport(FrozenModel):
    """Report on the pruning of a study."""

    partial: bool = Field(description="whether the search is still running; the report then covers the trials so far")
    saved: Savings
    winner: int | None = Field(description="the best complete trial; null before there is one")
    words: tuple[str, ...] = Field(description="the report in plain sentences, the most important first")
    pruners: tuple[SimulatedPruner, ...] = Field(description="the study's own pruner first; empty where there are too many reports")
    overtaking: tuple[PotentialWinner, ...] = Field(description="the most likely first; only trials with a chance above 0")
    chance: FiniteFloat | None = Field(
        description="that at least one pruned trial would have overtaken the winner, if trials were independent; null when none was "
        "pruned, or no complete trial allows an estimate"
    )
    agreement: Agreement | None = Field(default=None, description="null without a pruner, and for wilcoxon, which is not simulated")
