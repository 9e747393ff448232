"""Scripts as trials of a real runner process, which a worker's end of the pipes drives."""

import os
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from service.worker.process import TrainerMessage, TrainerProcess
from trainer.protocol import Cancel, Check, EpochMetrics, Finished, PruningDecision, Run, TrainerReady
from trainer.tasks.script.config import ScriptConfig, ScriptInfo

GOOD = "print('epoch=1 score=0.5')\nprint('epoch=2 score=0.75')\n"


@dataclass(slots=True)
class Answered:
    """What the runner sent for one order, and the log."""

    lines: list[TrainerMessage]
    log: str
    reports: dict[int, dict[str, float]] = field(default_factory=dict)

    @property
    def end(self) -> Any:
        return self.lines[-1]


class Runner:
    """The process that runs scripts, and the folder from which it may run them."""

    def __init__(self, root: Path, *options: str) -> None:
        self.root, self.workdir, self.trials = root, root / "work", root / "trials" / "7"
        self.workdir.mkdir(parents=True)
        self.attempt = 0
        self._command = (sys.executable, "-P", "-m", "trainer.scripts", "--allow", str(self.workdir), "--grace-seconds", "1", *options)
        self.start()
        self.decision_steps: tuple[int, ...] = ()  # of the last attempt

    def start(self) -> None:
        """Start the process; again after it was killed."""
        self.process = TrainerProcess(self._command, {**os.environ, "OMP_NUM_THREADS": "1"})
        self.until(TrainerReady)

    def config(self, source: str | None = None, **fields: Any) -> ScriptConfig:
        if source is not None:
            (self.workdir / "train.py").write_text(source)
        values: dict[str, Any] = {
            "command": [sys.executable, "train.py", "${args}"], "workdir": str(self.workdir), "metric": "score", "params": {"lr": 0.1},
        }  # fmt: skip
        return ScriptConfig(**values | fields)

    @property
    def out(self) -> Path:
        """THAW_OUT of the last attempt."""
        return self.trials / f"e{self.attempt}"

    def begin(self, config: ScriptConfig, decision_steps: Sequence[int] = (), expected: ScriptInfo | None = None, **fields: Any) -> None:
        self.attempt += 1
        self.decision_steps = tuple(decision_steps)
        self.process.send(
            Run(config=config, checkpoint_folder=str(self.out), decision_steps=self.decision_steps, expected=expected, **fields)
        )

    def run(self, source: str | None = None, *, decide: Callable[[int], bool] | None = None, **fields: Any) -> Answered:
        """Run a script to its end, and answer decisions."""
        order = {name: fields.pop(name) for name in ("decision_steps", "expected", "score_test", "reported") if name in fields}
        self.begin(self.config(source, **fields), **order)
        return self.rest(decide)

    def rest(self, decide: Callable[[int], bool] | None = None) -> Answered:
        """The messages up to TrainerReady, which is left out."""
        answered = Answered([], "")
        while not isinstance(line := self.until(), TrainerReady):
            answered.lines.append(line)
            if isinstance(line, EpochMetrics):
                assert line.step not in answered.reports
                answered.reports[line.step] = dict(line.metrics)
                # As a worker does: a decision for another step would be taken for that of the next decision step.
                if decide is not None and line.step in self.decision_steps:
                    self.process.send(PruningDecision(go_on=decide(line.step)))
        answered.log = self.process.printed(all_of_it=True)
        return answered

    def check(self, config: ScriptConfig) -> Any:
        self.process.send(Check(config=config))
        line = self.until()
        self.until(TrainerReady)
        return line

    def cancel(self) -> None:
        self.process.send(Cancel(save=True))

    def until(self, kind: type[TrainerMessage] | None = None) -> TrainerMessage:
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline:
            line = self.process.read(0.5)
            if line is not None and (kind is None or isinstance(line, kind)) and line.kind != "advanced":
                return line
        raise AssertionError("nothing came")

    def runs_on(self) -> bool:
        """Whether the next trial runs."""
        return isinstance(self.run(GOOD).end, Finished)


@pytest.fixture
def runner(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Runner]:
    """A runner; its parameter is further options."""
    started = Runner(tmp_path, *getattr(request, "param", ()))
    yield started
    started.process.close(0)
