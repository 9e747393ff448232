"""Logs the events of runs: one line an epoch, for a single run as for many that are trained together."""

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
    """Logs every event of a single run; of runs trained together it logs a summary of each round."""

    def __init__(self, members: Sequence[Member]) -> None:
        self._members = members
        self._ends = Counter[str]()
        self._begun = False

    def on_event(self, fact: Progress | ModelExported) -> None:
        """Count the run's end, and log the event of a single run."""
        if isinstance(fact, Failed | Finished | Unavailable):
            self._ends[fact.reason if isinstance(fact, Failed) else fact.kind] += 1
        if len(self._members) == 1:
            self._log_event(fact)

    def on_round(self, facts: Collection[RunPrepared | EpochMetrics]) -> None:
        """Log the events of one round, one for each open run."""
        first = next(iter(facts))
        if isinstance(first, RunPrepared):
            log.info("prepared %s: %s", self._trained(first), _setting(first, self._noun))
            log_listing(first.facts)
        elif len(self._members) > 1:
            self._log_round([event for event in facts if isinstance(event, EpochMetrics)])

    def stopped(self, lane: int) -> None:
        """Count and log that the run was pruned or cancelled."""
        self._ends["stopped"] += 1
        if len(self._members) == 1:
            log.info("stopped by the worker after epoch %d", self._members[lane].checkpoints.step)

    def close(self) -> None:
        """Log how many runs ended in which way."""
        if len(self._members) > 1:
            ended = ", ".join(f"{count} {how}" for how, count in self._ends.items())
            log.info("the batched run has ended: %s", ended or "no run has ended")

    def _log_event(self, event: Progress | ModelExported) -> None:
        epochs = self._members[0].config.epochs
        match event:
            case BatchProgress():
                if not self._begun and (done := self._members[0].checkpoints.step):
                    log.info("resumed from the checkpoint after epoch %d of %d", done, epochs)
                self._begun = True
            case EpochMetrics():
                speed = f", {event.pace.samples_per_second:,.0f} {self._noun}/s" if event.pace else ""
                log.info("epoch %d of %d: %s%s", event.step, epochs, self._numbers(event.metrics), speed)
            case CheckpointSaved():
                log.info("checkpoint after epoch %d: %s", event.checkpoint.step, _megabytes(event.checkpoint.size))
            case Finished():
                memory = _megabytes(event.peak_memory)
                log.info("finished %d epochs in %.1f s, peak memory %s", event.step, event.train_seconds, memory)
            case Failed():
                log.error("failed after epoch %d: %s: %s", event.step, event.reason, event.detail)
            case Unavailable():
                log.error("ended after epoch %d: the %s cannot be read here: %s", event.step, event.what, event.detail)
            case RunPrepared() | ModelExported():
                pass

    def _log_round(self, events: Sequence[EpochMetrics]) -> None:
        epochs = max(member.config.epochs for member in self._members)
        best = ", ".join(self._best(events, name) for name in self._shown)
        speed = f", {pace.samples_per_second:,.0f} {self._noun}/s" if (pace := events[0].pace) else ""
        ended = "".join(f", {count} {how}" for how, count in self._ends.items())
        values = (events[0].step, epochs, len(events), len(self._members), best, speed, ended)
        log.info("epoch %d of %d: %d of %d runs under way, %s%s%s", *values)

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

    def _best(self, events: Sequence[EpochMetrics], name: str) -> str:
        falls = spec_of(self._members[0].config.task).metrics[name].direction == "minimize"
        value = (min if falls else max)(_finite(events, name), default=math.nan)
        return f"{'lowest' if falls else 'best'} {name} {value:.4g}"

    def _trained(self, event: RunPrepared) -> str:
        name, alone = self._members[0].config.model.name, len(self._members) == 1
        trained = f"{name}, {event.trainable:,} of {event.parameters:,} parameters to train"
        return trained if alone else f"{len(self._members)} runs trained together, each {trained}"


def log_listing(facts: DatasetInfo) -> None:
    """Log the assumptions about the data and the files left out of it, one sentence a line."""
    for sentence in facts.listing.sentences() if facts.listing is not None else ():
        log.info("data: %s", sentence)


def _setting(event: RunPrepared, noun: str) -> str:
    environment = event.environment
    device = ", ".join(
        f"{environment[name]}{unit}" for name, unit in (("device", ""), ("threads", " threads"), ("precision", "")) if name in environment
    )
    data = event.facts.in_words
    return "; ".join(filter(None, (device, data, _reused(event.reuse, noun) if event.reuse else "")))


def _reused(reuse: Reuse, noun: str) -> str:
    if not reuse.depth:
        return f"{noun} {reuse.pixels}"
    return f"{noun} {reuse.pixels}, the output of {reuse.depth} frozen stages read from {reuse.place}"


def _finite(events: Iterable[EpochMetrics], name: str) -> list[float]:
    return [value for event in events if math.isfinite(value := event.metrics.get(name, math.nan))]


def _megabytes(size: int) -> str:
    return f"{size / 10**6:,.1f} MB"
