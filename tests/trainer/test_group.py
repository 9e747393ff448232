"""Runs that share a generator: each ends by itself, rounds are written at once, and what breaks ends all that are open."""

from collections.abc import Collection, Generator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from trainer.checkpoints import Checkpoints, TrainingState
from trainer.host import RunGroup
from trainer.learners import Member
from trainer.loop import Events
from trainer.pipes import HostMessage
from trainer.protocol import BatchProgress, Cancel, EpochMetrics, Failed, Finished, ModelExported, PruningDecision, RunPrepared, Stopped
from trainer.stopwatch import Stopwatch
from trainer.tasks.image_classification.config import ImageClassificationConfig, ImageClassificationInfo
from trainer.tasks.images.config import ImageData, ImageModel

FACTS = ImageClassificationInfo(classes=("a", "b"), images={}, fingerprint="f", split="s", weights_sha256=None)
CONFIG = ImageClassificationConfig(data=ImageData(path="images"), model=ImageModel(name="small_cnn"))


class Supervisor:
    """Hears lines by the write, and says what the script has for the moment."""

    def __init__(self, answers: dict[int, list[PruningDecision | Cancel]] | None = None, cancels: list[list[Cancel]] | None = None) -> None:
        self.writes = list[list[HostMessage]]()
        self.asked = list[set[int]]()
        self._held = list[HostMessage]()
        self._answers, self._cancels = answers or {}, cancels or []

    def hold(self, line: HostMessage) -> None:
        self._held.append(line)

    def send(self, *lines: HostMessage) -> None:
        if self._held or lines:
            self.writes.append([*self._held, *lines])
        self._held = []

    def decisions(self, due: Collection[int]) -> list[PruningDecision | Cancel]:
        self.asked.append(set(due))
        return self._answers.get(len(self.asked), [PruningDecision(lane=lane, go_on=True) for lane in due])

    def cancels(self) -> list[Cancel]:
        return self._cancels.pop(0) if self._cancels else []

    def of(self, lane: int) -> list[str]:
        """What was told of a lane, but for BatchProgress."""
        lines = [line for write in self.writes for line in write if not isinstance(line, BatchProgress)]
        return [f"{line.kind} {getattr(line, 'step', '')}".strip() for line in lines if getattr(line, "lane", None) == lane]


class Lanes:
    """A pass of lanes that measure nothing: epochs of one batch, each lane with its own number of epochs."""

    def __init__(self, *epochs: int, breaks_in: int | None = None, diverges: dict[int, int] | None = None) -> None:
        self.ended = set[int]()
        self.members = [Member(config=CONFIG, decision_steps=(1, 2)) for _ in epochs]
        self._epochs, self._breaks_in, self._diverges = epochs, breaks_in, diverges or {}

    def facts(self) -> Events:
        done = set[int]()
        for epoch in range(1, max(self._epochs) + 1):
            yield BatchProgress(epoch=epoch, batch=1, batches=1, samples_per_second=1.0)
            if epoch == self._breaks_in:
                raise RuntimeError("the pass broke")
            for lane in self._open(done):
                if self._diverges.get(lane) == epoch:
                    done.add(lane)
                    yield Failed(lane=lane, reason="diverged", detail="nan", step=epoch - 1)
            for lane in self._open(done):
                self.members[lane].checkpoints.step = epoch
                yield EpochMetrics(lane=lane, step=epoch, metrics={})
            for lane in self._open(done):
                if self._epochs[lane] == epoch:
                    done.add(lane)
                    yield Finished(
                        lane=lane,
                        step=epoch,
                        metrics={},
                        report={"per_class_recall": {}, "confusion_matrix": ()},
                        train_seconds=0,
                        peak_memory=0,
                    )

    def _open(self, done: set[int]) -> list[int]:
        return [lane for lane in reversed(range(len(self._epochs))) if lane not in done | self.ended]

    def follow(self, supervisor: Supervisor) -> None:
        RunGroup(self.members, self.ended.add, supervisor, supervisor, Stopwatch()).follow(self.facts())


def test_a_round_is_written_at_once_and_each_lane_hears_its_own_answer() -> None:
    answers = [PruningDecision(lane=2, go_on=True), PruningDecision(lane=0, go_on=False), PruningDecision(lane=1, go_on=True)]
    supervisor, lanes = Supervisor({1: list(answers)}), Lanes(3, 3, 1)
    lanes.follow(supervisor)
    assert supervisor.asked == [{0, 1, 2}, {1}], "lane 0 has stopped, lane 2 has finished"
    assert supervisor.of(0) == ["measured 1", "stopped 1"]
    assert supervisor.of(1) == ["measured 1", "measured 2", "measured 3", "finished 3"]
    assert supervisor.of(2) == ["measured 1", "finished 1"]
    (measured,) = [write for write in supervisor.writes if sum(isinstance(line, EpochMetrics) for line in write) == 3]
    assert {line.lane for line in measured if isinstance(line, EpochMetrics)} == {0, 1, 2}


def test_a_cancel_ends_its_lane_alone_and_without_a_number_ends_all() -> None:
    supervisor, lanes = Supervisor(cancels=[[], [Cancel(lane=1)], [Cancel()]]), Lanes(9, 9, 9)
    lanes.follow(supervisor)
    assert supervisor.of(1) == ["measured 1", "stopped 1"]
    assert supervisor.of(0) == supervisor.of(2) == ["measured 1", "measured 2", "stopped 2"]
    assert lanes.ended == {0, 1, 2}


def test_a_cancel_that_comes_while_a_round_is_told_waits_for_its_end() -> None:
    """No lane tells RunPrepared after it has told Stopped."""

    def facts() -> Events:
        for lane in range(3):
            yield RunPrepared(lane=lane, facts=FACTS, parameters=1, trainable=1, environment={})
        yield from lanes.facts()

    supervisor, lanes = Supervisor(cancels=[[Cancel(lane=2)]]), Lanes(1, 1, 1)
    RunGroup(lanes.members, lanes.ended.add, supervisor, supervisor, Stopwatch()).follow(facts())
    assert supervisor.of(2) == ["prepared", "stopped 0"]
    assert supervisor.of(0) == supervisor.of(1) == ["prepared", "measured 1", "finished 1"]


def test_a_cancel_in_place_of_an_answer_counts() -> None:
    supervisor, lanes = Supervisor({1: [PruningDecision(lane=1, go_on=True), Cancel()]}), Lanes(9, 9)
    lanes.follow(supervisor)
    assert supervisor.of(0) == supervisor.of(1) == ["measured 1", "stopped 1"]


def test_a_lane_that_diverges_is_not_waited_for() -> None:
    supervisor, lanes = Supervisor(), Lanes(2, 2, diverges={1: 2})
    lanes.follow(supervisor)
    assert supervisor.asked == [{0, 1}, {0}]
    assert supervisor.of(1) == ["measured 1", "failed 1"] and supervisor.of(0)[-1] == "finished 2"


def test_what_breaks_the_pass_fails_every_open_lane_and_no_other() -> None:
    supervisor, lanes = Supervisor(), Lanes(9, 1, 9, breaks_in=2)
    lanes.follow(supervisor)
    assert supervisor.of(1) == ["measured 1", "finished 1"]
    assert supervisor.of(0) == supervisor.of(2) == ["measured 1", "failed 1"]
    (failed,) = [line for write in supervisor.writes for line in write if isinstance(line, Failed) and line.lane == 0]
    assert (failed.reason, failed.detail) == ("crashed", "RuntimeError: the pass broke")


def test_memory_that_runs_out_in_the_pass_is_told_as_such() -> None:
    def facts() -> Events:
        yield BatchProgress(epoch=1, batch=1, batches=1, samples_per_second=1.0)
        raise torch.OutOfMemoryError("Tried to allocate 20.00 GiB")

    supervisor, lanes = Supervisor(), Lanes(1, 1)
    RunGroup(lanes.members, lanes.ended.add, supervisor, supervisor, Stopwatch()).follow(facts())
    (last,) = supervisor.writes[-1:]
    assert [(line.lane, line.reason) for line in last if isinstance(line, Failed)] == [(0, "out_of_memory"), (1, "out_of_memory")]


def test_a_lane_that_is_cancelled_with_save_leaves_its_state(tmp_path: Path) -> None:
    supervisor, lanes = Supervisor(cancels=[[], [Cancel(lane=0, save=True)]]), Lanes(2, 2)
    checkpoints = Checkpoints(tmp_path)
    state = TrainingState(step=1, run="r", model={}, optimizer={}, train_loss=0.0, lr=0.1, seconds=0.0)
    checkpoints.hold(1, lambda: state)
    lanes.members[0] = replace(lanes.members[0], checkpoints=checkpoints)
    lanes.follow(supervisor)
    assert supervisor.of(0) == ["measured 1", "saved", "stopped 1"] and len(list(tmp_path.iterdir())) == 1
    assert supervisor.of(1)[-1] == "finished 2"


def test_a_model_that_is_still_to_be_written_keeps_its_run_open() -> None:
    def facts(error: OSError | None) -> Generator[Any, None, None]:
        yield Finished(step=1, metrics={}, report={"per_class_recall": {}, "confusion_matrix": ()}, train_seconds=0, peak_memory=0)
        if error is not None:
            raise error
        yield ModelExported(path="model", sha256="0" * 64)

    member = Member(config=CONFIG, model_file=Path("model"))
    for error, last in ((None, "exported"), (OSError("the disk is full"), "failed 0")):
        supervisor = Supervisor()
        RunGroup([member], lambda lane: None, supervisor, supervisor, Stopwatch()).follow(facts(error))
        assert supervisor.of(0) == ["finished 1", last]


def test_the_generator_is_closed_when_the_last_run_is_stopped() -> None:
    closed = list[bool]()

    def facts() -> Events:
        try:
            yield EpochMetrics(step=1, metrics={})
            pytest.fail("nobody asks for more")
        finally:
            closed.append(True)

    supervisor = Supervisor({1: [PruningDecision(go_on=False)]})
    RunGroup([Member(config=CONFIG, decision_steps=(1,))], lambda lane: None, supervisor, supervisor, Stopwatch()).follow(facts())
    assert closed == [True] and isinstance(supervisor.writes[-1][-1], Stopped)
