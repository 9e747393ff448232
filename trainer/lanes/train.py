"""Runs of the head alone in one pass over the data, read from top to bottom.

What belongs to a run is what it would be if the run were alone, but for rounding: a matrix product of another shape adds up in
another order. The images' order and what dropout draws follow from the order seed, so lanes may have them in common.
"""

import time
from collections.abc import Generator, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median

import torch
from torch import Tensor

import trainer.catalogue as catalogue
from trainer import arithmetic, memory
from trainer.cache import Cache
from trainer.checkpoints import Checkpoints, State, digest
from trainer.contract import (
    SHARED_BY_LANES,
    Advanced,
    Exported,
    Failed,
    Finished,
    Measured,
    Pace,
    Prepared,
    Progress,
    Saved,
    Scores,
    TrainConfig,
)
from trainer.data import BadData
from trainer.export import export
from trainer.features import Inputs, stored_outputs
from trainer.lanes.losses import diverged, other_metrics
from trainer.lanes.measuring import measure_heads, score_heads
from trainer.lanes.noise import Noise
from trainer.lanes.split import split_head
from trainer.lanes.team import Snapshot, Team
from trainer.metrics import Measurement
from trainer.models.errors import UnfitModel
from trainer.optimization import lr_at
from trainer.order import batches, seed_for, shuffled
from trainer.scoring import require_test_images
from trainer.stopwatch import Stopwatch
from trainer.task import Expected, Task, prepare, taken
from trainer.utilization import utilization_of

Told = Progress | Exported


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class LaneRun:
    """A run that shares a pass."""

    config: TrainConfig
    checkpoints: Checkpoints = field(default_factory=Checkpoints)
    expected: Expected = field(default_factory=Expected)
    model_file: Path | None = None
    score_test: bool = False
    demand: Mapping[int, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class Outcome:
    """What a lane has come to after its last epoch."""

    measurement: Measurement
    others: Mapping[str, float]  # metrics that are not measured on validation images
    peak_memory: int  # bytes, before the test images are looked at
    test: Scores | None


def fits(config: TrainConfig) -> bool:
    """Whether the run trains nothing but a head that is written for lanes, on pretrained weights."""
    if config.model.weights is None or config.model.name not in catalogue.names():
        return False
    model = catalogue.load(config.model.name)
    return model.lanes and config.frozen_layers == len(model.stages)


class Pass:
    """One pass over the data for all runs; run `i` is lane `i`.

    Raises ValueError when the runs do not fit together; several of them begin at their first epoch, one may go on from a checkpoint.
    """

    def __init__(self, runs: Sequence[LaneRun], *, device: torch.device, cache: Cache | None = None, stopwatch: Stopwatch | None = None):
        if len({_common(run) for run in runs}) != 1 or not all(fits(run.config) for run in runs):
            raise ValueError("these runs cannot share a pass")
        self._runs, self._device = tuple(runs), device
        self._cache, self._stopwatch = cache or Cache.none(), stopwatch or Stopwatch.of(device)
        self._ended = set[int]()
        self._began, self._lasted = 0.0, list[float]()  # seconds: of earlier attempts, and of each epoch of this one

    def end(self, lane: int) -> None:
        """Tell nothing more of the lane, and leave it out from the next epoch on. Its checkpoints can still be written."""
        self._ended.add(lane)

    def facts(self) -> Generator[Told, None, None]:
        """Train, and tell how it goes; who stops asking, stops it (`contextlib.closing`).

        Prepared and Measured come in rounds, all lanes' one after the other. A lane that diverges is told as Failed, and so are all
        when data or weights are unfit; whatever else goes wrong, running out of memory too, is raised.
        """
        memory.start_peak(self._device)
        arithmetic.settle(self._device)
        longest = max(self._runs, key=lambda run: run.config.epochs)
        try:
            with self._stopwatch("data"):
                task = prepare(longest.config, self._device, longest.expected, self._cache)
        except (BadData, UnfitModel) as error:
            yield from [Failed(lane=lane, reason="bad_data", detail=str(error)) for lane in range(len(self._runs))]
            return
        yield from self._refuse_unscorable(task)
        if len(self._ended) == len(self._runs):
            return
        prefix, stack = split_head(task.model)
        inputs = stored_outputs(task, self._cache, longest.demand, self._stopwatch, prefix, len(self._runs))
        team = Team.of(task.model, stack, [arithmetic.resolved(run.config, self._device) for run in self._runs])
        with torch.no_grad():
            yield from self._train(task, inputs, team)

    def _train(self, task: Task, inputs: Inputs, team: Team) -> Generator[Told, None, None]:  # noqa: C901, PLR0915  (reads from top to bottom)
        config, device, stopwatch = task.config, self._device, self._stopwatch
        steps_per_epoch = len(batches(task.training, config.batch_size))
        for lane, run in enumerate(self._runs):
            if lane in self._ended:
                continue
            yield Prepared(
                lane=lane,
                facts=task.facts,
                parameters=sum(parameter.numel() for parameter in task.model.parameters()),
                trainable=sum(parameter.numel() for parameter in task.model.trainable_parameters()),
                environment=arithmetic.environment(device, run.config),
                reuse=inputs.reuse,
            )
        first, use = 1, utilization_of(device)
        if state := self._restored(task, team):
            team.load(state, _trained(task), state.step * steps_per_epoch)
            first, self._began = state.step + 1, state.seconds
        if state and first > config.epochs:  # resumed after the last epoch
            sign = Advanced(epoch=config.epochs, batch=steps_per_epoch, batches=steps_per_epoch, samples_per_second=0.0)
            yield from inputs.ready(None, sign)
            found, peak = (yield from measure_heads(task, inputs, team.heads, sign)), memory.peak(device)
            test = yield from self._scored(task, inputs, team, sign)
            trained = {"train_loss": state.train_loss, "lr": state.lr}
            outcome = Outcome(measurement=found[0], others=trained, peak_memory=peak, test=test.get(0))
            yield from self._finish(0, task, team.snapshot(), outcome)

        for epoch in range(first, config.epochs + 1):
            team = team.without(self._ended)
            if not team.numbers:
                return
            started, view = time.perf_counter(), task.view_of(epoch)
            advanced = Advanced(epoch=epoch, batch=0, batches=steps_per_epoch, samples_per_second=0.0)
            yield from inputs.ready(view, advanced)
            order = batches(shuffled(task.training, config.order_seed, epoch), config.batch_size)
            inputs.expect(order, view)
            rates = _rates(team.configs, epoch, len(order))  # [steps, L]
            on_device, losses = rates.to(device, torch.float32), torch.zeros(rates.shape, device=device)
            noise, done = Noise(seed_for(config.order_seed, "numbers", epoch), device), 0
            steps_started = time.perf_counter()
            for batch, rows in enumerate(order):
                stopwatch.begin_step()
                with stopwatch("data"):
                    features, labels = inputs.batch(rows, view).float(), taken(task.labels, rows)  # [B, D] or [B, D, H, W]; [B]
                losses[batch] = team.heads.learn(features, labels, noise, stopwatch)
                with stopwatch("backward"):
                    team.optimizers.step(on_device[batch])
                stopwatch.end_step()
                done += len(rows)
                speed = done / (time.perf_counter() - steps_started)
                advanced = Advanced(epoch=epoch, batch=batch + 1, batches=len(order), samples_per_second=speed)
                use.look()
                yield advanced
                if self._ended.issuperset(team.numbers):
                    return

            others = other_metrics(team, [len(rows) for rows in order], losses, rates)
            failed = dict(diverged(team, epoch, losses, rates))
            yield from [fact for lane, fact in failed.items() if lane not in self._ended]
            team = team.without(failed.keys() | self._ended)
            if not team.numbers:
                return
            yield from inputs.ready(None, advanced)
            with stopwatch("measure"):
                found = yield from measure_heads(task, inputs, team.heads, advanced)
            self._lasted.append(time.perf_counter() - started)
            measurements = dict(zip(team.numbers, found, strict=True))
            snapshot = self._hold(epoch, task, team, others)
            pace = Pace(
                samples_per_second=speed,
                seconds_left=0.0,
                memory=memory.present(device),
                utilization=use.share(),
                seconds=stopwatch.seconds,
                saved_seconds=inputs.saved_seconds,
            )
            lasts = median(self._lasted[1:] or self._lasted)  # the first one warms up, and may store outputs
            for lane in self._open(team):
                left = lasts * (self._runs[lane].config.epochs - epoch)
                metrics = dict(measurements[lane].scalars, **others[lane])
                yield Measured(lane=lane, step=epoch, metrics=metrics, pace=pace.model_copy(update={"seconds_left": left}))
            peak = memory.peak(device)
            test = yield from self._scored(task, inputs, team, advanced)
            for lane in self._open(team):
                if epoch == self._runs[lane].config.epochs:
                    outcome = Outcome(measurement=measurements[lane], others=others[lane], peak_memory=peak, test=test.get(lane))
                    yield from self._finish(lane, task, snapshot, outcome)
                    self.end(lane)
                elif (kept := self._runs[lane].checkpoints).due and (written := kept.write()):
                    yield Saved(lane=lane, checkpoint=written)

    def _open(self, team: Team) -> Iterator[int]:
        """The team's lanes in order, without those that are ended meanwhile."""
        return (lane for lane in sorted(team.numbers) if lane not in self._ended)

    def _restored(self, task: Task, team: Team) -> State | None:
        if len(self._runs) > 1:
            return None
        return self._runs[0].checkpoints.restore(digest(team.configs[0], task.facts))

    def _hold(self, epoch: int, task: Task, team: Team, others: Mapping[int, Mapping[str, float]]) -> Snapshot:
        """Keep the state after the epoch, so that any lane's can be written or exported while the next one is under way."""
        snapshot, order, seconds = team.snapshot(), _trained(task), self._began + sum(self._lasted)
        buffers = {name: tensor.cpu() for name, tensor in task.model.network.named_buffers()}  # as every state has them
        for lane, config in zip(team.numbers, team.configs, strict=True):

            def state(lane: int = lane, config: TrainConfig = config) -> State:
                return State(
                    step=epoch,
                    run=digest(config, task.facts),
                    model=buffers | snapshot.head(lane),
                    optimizer=snapshot.optimizer(lane, order),
                    train_loss=others[lane]["train_loss"],
                    lr=others[lane]["lr"],
                    seconds=seconds,
                )

            self._runs[lane].checkpoints.promise(epoch, state)
        return snapshot

    def _refuse_unscorable(self, task: Task) -> Iterator[Failed]:
        """End the lanes that shall be scored on test images that there are none of."""
        if not (lanes := [lane for lane, run in enumerate(self._runs) if run.score_test]):
            return
        try:
            require_test_images(task)
        except BadData as error:
            self._ended.update(lanes)
            yield from [Failed(lane=lane, reason="bad_data", detail=str(error)) for lane in lanes]

    def _scored(self, task: Task, inputs: Inputs, team: Team, sign: Advanced) -> Generator[Advanced, None, dict[int, Scores]]:
        """By lane, what those that have their last epoch behind them reach on the test images, all in one go."""
        last = [lane for lane in team.numbers if lane not in self._ended and self._runs[lane].config.epochs == sign.epoch]
        if not (chosen := [lane for lane in last if self._runs[lane].score_test]):
            return {}
        with self._stopwatch("measure"):
            found = yield from score_heads(task, inputs, team.heads_of(chosen), sign)
        return dict(zip(chosen, found, strict=True))

    def _finish(self, lane: int, task: Task, snapshot: Snapshot, outcome: Outcome) -> Iterator[Finished | Exported]:
        run, classes = self._runs[lane], task.facts.classes
        yield Finished(
            lane=lane,
            step=run.config.epochs,
            metrics=dict(outcome.measurement.scalars, **outcome.others),
            per_class_recall=dict(zip(classes, outcome.measurement.per_class_recall, strict=True)),
            confusion_matrix=outcome.measurement.confusion_matrix,
            train_seconds=self._began + sum(self._lasted),
            peak_memory=outcome.peak_memory,
            test=outcome.test,
        )
        if run.model_file is not None:
            task.model.network.load_state_dict(snapshot.head(lane), strict=False)
            yield export(task.model.network, arithmetic.resolved(run.config, self._device), classes, run.model_file)


def _common(run: LaneRun) -> tuple[object, ...]:
    """In what all runs of a pass agree."""
    config = run.config
    shared = (getattr(config, name) for name in SHARED_BY_LANES)
    return (config.task, config.data.model_dump_json(), config.model.model_dump_json(), run.expected, *shared)


def _trained(task: Task) -> list[str]:
    """The names of the head's parameters in the order in which an optimizer is given them."""
    return [name for name, parameter in task.model.network.named_parameters() if parameter.requires_grad]


def _rates(configs: Sequence[TrainConfig], epoch: int, steps: int) -> Tensor:
    """The learning rates of an epoch, float64 [steps, L]."""
    begun = (epoch - 1) * steps
    return torch.tensor([[lr_at(begun + step, steps, config) for config in configs] for step in range(steps)], dtype=torch.float64)
