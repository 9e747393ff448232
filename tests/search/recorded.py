"""Studies played through in memory with their pruner asked at each decision step, and recorded as the store would have them."""

import random
from array import array
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from search_spaces import Params
from service.domain.records import RecordedReports, RecordedStudy, RecordedTrial
from service.domain.samplers import NoPruner, Pruner, Random
from service.domain.spec import StudySpec
from service.domain.states import TrialState
from service.search.study import Decision, decision_steps
from tests.search.simulation import Simulation, study_spec, trial_row

PARAMS: Params = {"lr": 0.01, "batch_size": 32, "optimizer": "adam", "frozen_layers": 3}
Curve = Mapping[int, float]


def spec_of(pruner: Pruner | None = None, metric: str = "accuracy", epochs: int = 27) -> StudySpec:
    return study_spec(pruner=pruner or NoPruner(), sampler=Random(seed=7), metric=metric, epochs=epochs)


def noisy_curves(count: int, epochs: int, seed: int = 0) -> list[Curve]:
    """Curves that rise to a level each of its own, and cross."""
    dice = random.Random(seed)  # noqa: S311
    shapes = [(dice.random(), dice.uniform(0.3, 2.0)) for _ in range(count)]
    return [{s: level * (s / epochs) ** bend + 0.1 * dice.random() for s in range(1, epochs + 1)} for level, bend in shapes]


@dataclass
class Played:
    """A study whose trials have these curves to their ends, unless its pruner ends them."""

    spec: StudySpec
    curves: Sequence[Curve]
    clock: int = 0
    ends: dict[int, int] = field(default_factory=dict)  # the step at which each was pruned
    last: dict[int, int] = field(default_factory=dict)  # the last step of each so far
    over: dict[int, int] = field(default_factory=dict)  # when each ended
    shared: dict[int, str] = field(default_factory=dict)
    reported: RecordedReports = field(default_factory=lambda: RecordedReports(array("q"), array("q"), array("d"), array("q")))

    def __post_init__(self) -> None:
        self._sim = Simulation(self.spec)
        self._memory: dict[int, dict[str, Any]] = {}

    def one_after_another(self) -> "Played":
        return self.at_one_time(1)

    def at_one_time(self, width: int, seed: int = 0) -> "Played":
        """So many run at a time, and report in any order; each decision knows all reports before it."""
        dice, waiting = random.Random(seed), list(range(len(self.curves)))  # noqa: S311
        running: dict[int, Iterator[int]] = {}
        while waiting or running:
            while waiting and len(running) < width:
                number = waiting.pop(0)
                self._start(number)
                running[number] = iter(self.curves[number])
            number = dice.choice(list(running))
            if not self._report([number], next(running[number])) or self.last[number] == len(self.curves[number]):
                del running[number]
                self._end([number])
        return self

    def in_passes(self, width: int) -> "Played":
        """So many share a pass; at each step all are measured before any is judged."""
        for first in range(0, len(self.curves), width):
            numbers = list(range(first, min(first + width, len(self.curves))))
            for number in numbers:
                self.shared[number] = f"pass {first}"
                self._start(number)
            step = 0
            while numbers:
                step += 1
                going = self._report(numbers, step)
                ended = [number for number in numbers if number not in going or step == len(self.curves[number])]
                self._end(ended)
                numbers = [number for number in numbers if number not in ended]
        return self

    def recording(self) -> RecordedStudy:
        return RecordedStudy(
            spec=self.spec, partial=False, trials=list(map(self._recorded, range(len(self.curves)))), reports=self.reported
        )

    def _recorded(self, number: int) -> RecordedTrial:
        curve, step = self.curves[number], self.last[number]
        pruned = number in self.ends
        return RecordedTrial(
            id=1000 + number, number=number, state=TrialState.PRUNED if pruned else TrialState.COMPLETE, value=curve[step], step=step,
            epochs=len(curve), ended=self.over[number], shared=self.shared.get(number),
        )  # fmt: skip

    def _start(self, number: int) -> None:
        self.clock += 1
        self._memory[number] = {}
        self._sim.put(trial_row(number, PARAMS))

    def _report(self, numbers: Sequence[int], step: int) -> list[int]:
        """Those that go on."""
        so_far = {number: {each: self.curves[number][each] for each in range(1, step + 1)} for number in numbers}
        asked = {number: curve for number, curve in so_far.items() if step in decision_steps(self.spec, len(self.curves[number]))}
        decisions: Mapping[int, Decision] = self._sim.grown.decide_all(asked) if asked else {}
        for number in numbers:
            self.clock += 1
            for column, new in zip(self.reported, (1000 + number, step, so_far[number][step], self.clock), strict=True):
                column.append(new)  # type: ignore[attr-defined]
            self.last[number] = step
            if number in decisions:
                self._memory[number] |= decisions[number].memory
                if not decisions[number].go_on:
                    self.ends[number] = step
            self._sim.put(trial_row(number, PARAMS, memory=self._memory[number], step=step), so_far[number])
        return [number for number in numbers if number not in self.ends]

    def _end(self, numbers: Sequence[int]) -> None:
        for number in numbers:
            self.clock += 1
            self.over[number] = self.clock
            curve = {step: value for step, value in self.curves[number].items() if step <= self.last[number]}
            state = TrialState.PRUNED if number in self.ends else TrialState.COMPLETE
            value = curve[self.last[number]]
            self._sim.put(trial_row(number, PARAMS, state, memory=self._memory[number], step=self.last[number], value=value), curve)
