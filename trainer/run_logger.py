"""What happens to runs, in words, for whoever reads their log: an epoch a line, however many runs share a pass."""

import logging
import math
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence

from trainer.configuration import DatasetInfo
from trainer.learners import Member
from trainer.protocol import (
    BatchProgress,
    CheckpointSaved,
    EpochMetrics,
    Failed,
    Finished,
    ModelExported,
    Progress,
    Reuse,
    RunPrepared,
    Unavailable,
)
from trainer.tasks.registry import spec_of

log = logging.getLogger(__name__)


class RunLogger:
    """Of a run alone each thing is told, of runs that share a pass what they have in common."""

    def __init__(self, members: Sequence[Member]) -> None:
        self._members = members
        self._ends = Counter[str]()
        self._begun = False

    def on_event(self, fact: Progress | ModelExported) -> None:
        """A fact that was told."""
        if isinstance(fact, Failed | Finished | Unavailable):
            self._ends[fact.reason if isinstance(fact, Failed) else fact.kind] += 1
        if len(self._members) == 1:
            self._log_event(fact)

    def on_round(self, facts: Collection[RunPrepared | EpochMetrics]) -> None:
        """What all runs that are under way have told of the same moment."""
        first = next(iter(facts))
        if isinstance(first, RunPrepared):
            log.info("prepared %s: %s", self._what(first), _setting(first, self._noun))
            log_listing(first.facts)
        elif len(self._members) > 1:
            self._log_round([fact for fact in facts if isinstance(fact, EpochMetrics)])

    def stopped(self, lane: int) -> None:
        """The run was told to end."""
        self._ends["stopped"] += 1
        if len(self._members) == 1:
            log.info("stopped as told, after epoch %d", self._members[lane].checkpoints.step)

    def close(self) -> None:
        """Nothing more will come."""
        if len(self._members) > 1:
            log.info("the pass is over: %s", ", ".join(f"{count} {how}" for how, count in self._ends.items()) or "no run has ended")

    def _log_event(self, fact: Progress | ModelExported) -> None:
        epochs = self._members[0].config.epochs
        match fact:
            case BatchProgress():
                if not self._begun and (done := self._members[0].checkpoints.step):
                    log.info("goes on from the checkpoint after epoch %d of %d", done, epochs)
                self._begun = True
            case EpochMetrics():
                speed = f", {fact.pace.samples_per_second:,.0f} {self._noun}/s" if fact.pace else ""
                log.info("epoch %d of %d: %s%s", fact.step, epochs, self._numbers(fact.metrics), speed)
            case CheckpointSaved():
                log.info("checkpoint after epoch %d: %s", fact.checkpoint.step, _megabytes(fact.checkpoint.size))
            case Finished():
                memory = _megabytes(fact.peak_memory)
                log.info("finished %d epochs in %.1f s, %s of memory at most", fact.step, fact.train_seconds, memory)
            case Failed():
                log.error("failed after epoch %d: %s: %s", fact.step, fact.reason, fact.detail)
            case Unavailable():
                log.error("ended after epoch %d: the %s cannot be read here: %s", fact.step, fact.what, fact.detail)
            case RunPrepared() | ModelExported():
                pass

    def _log_round(self, facts: Sequence[EpochMetrics]) -> None:
        epochs = max(member.config.epochs for member in self._members)
        best = ", ".join(self._best(facts, name) for name in self._shown)
        speed = f", {pace.samples_per_second:,.0f} {self._noun}/s" if (pace := facts[0].pace) else ""
        ended = "".join(f", {count} {how}" for how, count in self._ends.items())
        told = (facts[0].step, epochs, len(facts), len(self._members), best, speed, ended)
        log.info("epoch %d of %d: %d of %d runs under way, %s%s%s", *told)

    @property
    def _noun(self) -> str:
        return f"{spec_of(self._members[0].config.task).example}s"

    @property
    def _shown(self) -> list[str]:
        """The task's first metric and its loss."""
        metrics = spec_of(self._members[0].config.task).metrics
        return list(dict.fromkeys((next(iter(metrics)), *(name for name in metrics if name == "loss"))))

    def _numbers(self, metrics: Mapping[str, float]) -> str:
        return ", ".join(f"{name} {metrics[name]:.4g}" for name in (*reversed(self._shown), "train_loss", "lr") if name in metrics)

    def _best(self, facts: Sequence[EpochMetrics], name: str) -> str:
        """Of all runs under way."""
        falls = spec_of(self._members[0].config.task).metrics[name].direction == "minimize"
        value = (min if falls else max)(_finite(facts, name), default=math.nan)
        return f"{'lowest' if falls else 'best'} {name} {value:.4g}"

    def _what(self, fact: RunPrepared) -> str:
        name, alone = self._members[0].config.model.name, len(self._members) == 1
        trained = f"{name}, {fact.trainable:,} of {fact.parameters:,} parameters to train"
        return trained if alone else f"{len(self._members)} runs in one pass, each {trained}"


def log_listing(facts: DatasetInfo) -> None:
    """What was assumed about the data and what was left out of it, a sentence a line."""
    for sentence in facts.listing.sentences() if facts.listing is not None else ():
        log.info("data: %s", sentence)


def _setting(fact: RunPrepared, noun: str) -> str:
    where = fact.environment
    device = ", ".join(
        f"{where[name]}{unit}" for name, unit in (("device", ""), ("threads", " threads"), ("precision", "")) if name in where
    )
    data = fact.facts.in_words
    return "; ".join(filter(None, (device, data, _reused(fact.reuse, noun) if fact.reuse else "")))


def _reused(reuse: Reuse, noun: str) -> str:
    if not reuse.depth:
        return f"{noun} {reuse.pixels}"
    return f"{noun} {reuse.pixels}, the output of {reuse.depth} frozen stages read from {reuse.place}"


def _finite(facts: Iterable[EpochMetrics], name: str) -> list[float]:
    return [value for fact in facts if math.isfinite(value := fact.metrics.get(name, math.nan))]


def _megabytes(size: int) -> str:
    return f"{size / 10**6:,.1f} MB"
