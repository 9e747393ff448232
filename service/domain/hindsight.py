"""What a study's pruning saved, and what another pruner would have done with the curves that were recorded."""

from typing import Self

from pydantic import Field, FiniteFloat, model_validator

from search_spaces.parameters import Frozen


class Spared(Frozen):
    """Training that did not happen because trials were pruned."""

    epochs: int = Field(description="that the pruned trials had still before them")
    of: int = Field(description="epochs that all trials would have trained without pruning")
    seconds: FiniteFloat | None = Field(
        description="the same, at each trial's own pace; where that is not known, at what an epoch took the others; null when none is known"
    )


class Replayed(Frozen):
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


class Overtaker(Frozen):
    """A pruned trial that might have become the best."""

    trial: int
    chance: FiniteFloat = Field(
        ge=0, le=1, description="share of complete trials whose gain from that epoch on would have lifted it so far"
    )
    n: int = Field(description="complete trials that have a value at that epoch")


class Agreement(Frozen):
    """How well the replay of the study's own pruner repeats what happened: where trials ran at one time, order is not all."""

    same: int = Field(description="trials that end at the same epoch")
    of: int


class Hindsight(Frozen):
    """The pruning of a study, looked back on."""

    partial: bool = Field(description="the search goes on: all of it up to now")
    saved: Spared
    winner: int | None = Field(description="the best complete trial; null before there is one")
    words: tuple[str, ...] = Field(description="all of it in plain sentences, the most important first")
    pruners: tuple[Replayed, ...] = Field(description="the study's own first; empty where there are too many reports")
    overtaking: tuple[Overtaker, ...] = Field(description="the most likely ones first; only those with any chance")
    chance: FiniteFloat | None = Field(
        description="that at least one pruned trial would have overtaken the winner, were they independent; null when none was pruned, "
        "or no complete trial tells"
    )
    agreement: Agreement | None = Field(default=None, description="null without a pruner, and for wilcoxon, which is not replayed")
