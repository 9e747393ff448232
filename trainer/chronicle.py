"""What happens to runs, in words, for whoever reads their log: an epoch a line, however many runs share a pass."""

import logging
import math
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence

from trainer.checkpoints import Checkpoints
from trainer.contract import Advanced, Exported, Failed, Finished, Measured, Prepared, Progress, Reuse, Run, Saved

log = logging.getLogger(__name__)

TOLD = ("loss", "accuracy", "train_loss", "lr")


class Chronicle:
    """Of a run alone each thing is told, of runs that share a pass what they have in common."""

    def __init__(self, runs: Sequence[Run], checkpoints: Sequence[Checkpoints]) -> None:
        self._runs, self._checkpoints = runs, checkpoints
        self._ends = Counter[str]()
        self._begun = False

    def hear(self, fact: Progress | Exported) -> None:
        """A fact that was told."""
        if isinstance(fact, Failed | Finished):
            self._ends[fact.reason if isinstance(fact, Failed) else "finished"] += 1
        if len(self._runs) == 1:
            self._tell(fact)

    def hear_round(self, facts: Collection[Prepared | Measured]) -> None:
        """What all runs that are under way have told of the same moment."""
        first = next(iter(facts))
        if isinstance(first, Prepared):
            log.info("prepared %s: %s", self._what(first), _setting(first))
        elif len(self._runs) > 1:
            self._tell_together([fact for fact in facts if isinstance(fact, Measured)])

    def stopped(self, lane: int) -> None:
        """The run was told to end."""
        self._ends["stopped"] += 1
        if len(self._runs) == 1:
            log.info("stopped as told, after epoch %d", self._checkpoints[lane].step)

    def close(self) -> None:
        """Nothing more will come."""
        if len(self._runs) > 1:
            log.info("the pass is over: %s", ", ".join(f"{count} {how}" for how, count in self._ends.items()) or "no run has ended")

    def _tell(self, fact: Progress | Exported) -> None:
        epochs = self._runs[0].config.epochs
        match fact:
            case Advanced():
                if not self._begun and (done := self._checkpoints[0].step):
                    log.info("goes on from the checkpoint after epoch %d of %d", done, epochs)
                self._begun = True
            case Measured():
                speed = f", {fact.pace.samples_per_second:,.0f} images/s" if fact.pace else ""
                log.info("epoch %d of %d: %s%s", fact.step, epochs, _numbers(fact.metrics), speed)
            case Saved():
                log.info("checkpoint after epoch %d: %s", fact.checkpoint.step, _megabytes(fact.checkpoint.size))
            case Finished():
                memory = _megabytes(fact.peak_memory)
                log.info("finished %d epochs in %.1f s, %s of memory at most", fact.step, fact.train_seconds, memory)
            case Failed():
                log.error("failed after epoch %d: %s: %s", fact.step, fact.reason, fact.detail)
            case Prepared() | Exported():
                pass

    def _tell_together(self, facts: Sequence[Measured]) -> None:
        epochs = max(run.config.epochs for run in self._runs)
        accuracy = max(_finite(facts, "accuracy"), default=math.nan)
        loss = min(_finite(facts, "loss"), default=math.nan)
        speed = f", {pace.samples_per_second:,.0f} images/s" if (pace := facts[0].pace) else ""
        ended = "".join(f", {count} {how}" for how, count in self._ends.items())
        told = (facts[0].step, epochs, len(facts), len(self._runs), accuracy, loss, speed, ended)
        log.info("epoch %d of %d: %d of %d runs under way, best accuracy %.4f, lowest loss %.4g%s%s", *told)

    def _what(self, fact: Prepared) -> str:
        name, alone = self._runs[0].config.model.name, len(self._runs) == 1
        trained = f"{name}, {fact.trainable:,} of {fact.parameters:,} parameters to train"
        return trained if alone else f"{len(self._runs)} runs in one pass, each {trained}"


def _setting(fact: Prepared) -> str:
    images, where = fact.facts.images, fact.environment
    device = ", ".join(
        f"{where[name]}{unit}" for name, unit in (("device", ""), ("threads", " threads"), ("precision", "")) if name in where
    )
    data = f"{images.get('train', 0):,} images to train on, {images.get('validation', 0):,} to validate, {len(fact.facts.classes)} classes"
    return "; ".join(filter(None, (device, data, _reused(fact.reuse) if fact.reuse else "")))


def _reused(reuse: Reuse) -> str:
    if not reuse.depth:
        return f"images {reuse.pixels}"
    return f"images {reuse.pixels}, the output of {reuse.depth} frozen stages read from {reuse.place}"


def _numbers(metrics: Mapping[str, float]) -> str:
    return ", ".join(f"{name} {metrics[name]:.4g}" for name in TOLD if name in metrics)


def _finite(facts: Iterable[Measured], name: str) -> list[float]:
    return [value for fact in facts if math.isfinite(value := fact.metrics.get(name, math.nan))]


def _megabytes(size: int) -> str:
    return f"{size / 10**6:,.1f} MB"
