"""The one training loop, read from top to bottom: any number of members, one learner, events out.

Equal configs give equal results: the data's order and split follow from content and seed, the initial values from the seed, the
shuffle of an epoch from its order seed, every random number of a round from seed and round, an example's augmentation from
its content and the view. So a run that is resumed after a whole round goes on as if it had never stopped. This holds bit for bit on a
CPU with the same number of threads and versions, where both read the same stored outputs (`depths`); on a GPU cuDNN is held to its
deterministic algorithms, and what remains is a backward pass here and there that CUDA sums in any order.
"""

import time
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from statistics import median
from typing import Any

import torch
from torch import Tensor

from trainer import devices
from trainer.cache import Cache
from trainer.checkpoints import State, digest, export
from trainer.configuration import DatasetInfo, TrainConfig
from trainer.data.examples import BadData
from trainer.devices import utilization_of
from trainer.features import Inputs
from trainer.learners import Learner, Member, ModelLearner
from trainer.models import Infeasible, UnfitModel
from trainer.optimization import learning_rates
from trainer.order import batches
from trainer.preparation import PreparedRun, prepare, taken, unfit
from trainer.protocol import (
    BatchProgress,
    CheckpointSaved,
    EpochMetrics,
    Failed,
    Finished,
    ModelExported,
    Pace,
    Progress,
    RunPrepared,
    Scores,
    Unavailable,
)
from trainer.scoring import evaluate, require_test_examples, score
from trainer.stopwatch import Stopwatch
from trainer.tasks.base import Measurement
from trainer.tasks.capabilities import HeadsTogether
from trainer.tasks.registry import spec_of

SHARED = ("batch_size", "precision", "order_seed", "frozen_layers")  # on these the batches of all members depend
STEPS_PER_CHECK = 16  # of the losses; each check waits for the device

Event = Progress | ModelExported
Events = Generator[Event, None, None]
Build = Callable[[PreparedRun, Sequence[Member], Cache, Stopwatch], tuple[Learner, Inputs]]


@dataclass(frozen=True, slots=True)
class Round:
    """The training steps between two evaluations: an epoch. Metrics, pruning and checkpoints count in rounds."""

    number: int  # from 1
    epoch: int  # from 1
    batches: slice  # of the epoch
    first_step: int  # counted over all rounds, from 0


@dataclass(frozen=True, slots=True, eq=False)
class Result:
    """The outcome of a round, by member."""

    measurements: Mapping[int, Measurement]  # on the validation examples
    trained: Mapping[int, Mapping[str, float]]  # metrics of the training: train_loss and lr
    seconds: float  # of training, earlier attempts included


class TrainingLoop:
    """Trains all members with the learner that `build` makes of them.

    Raises ValueError when the members cannot share their batches. Several members begin at their first round, a single one may resume.
    """

    def __init__(
        self,
        members: Sequence[Member],
        build: Build,
        *,
        device: torch.device,
        cache: Cache | None = None,
        stopwatch: Stopwatch | None = None,
    ) -> None:
        if len({_shared(member) for member in members}) != 1:
            raise ValueError("these runs cannot share a pass")
        self._members, self._build, self._device = list(members), build, device
        self._cache, self._stopwatch = cache or Cache.none(), stopwatch or Stopwatch.of(device)
        self._ended = set[int]()

    def end(self, member: int) -> None:
        """Emit no more events of the member, and leave it out from the next round on. Its checkpoints can still be written."""
        self._ended.add(member)

    def events(self) -> Events:
        """Train. Closing the generator stops it (`contextlib.closing`).

        RunPrepared and EpochMetrics come in rounds, all members' one after the other. Running out of memory, hyperparameters that cannot be
        trained, and unfit data or weights end every member as Failed, data or weights that cannot be read as Unavailable; a member that
        diverges ends alone. Any other error is raised.
        """
        devices.start_peak(self._device)
        failures: list[Failed | Unavailable]
        try:
            devices.settle(self._device)
            yield from self._train()
            return
        except Infeasible as error:
            failures = self._all(partial(Failed, reason="infeasible", detail=str(error)))
        except (BadData, UnfitModel) as error:
            failures = self._all(partial(unfit, error, self._longest.config, self._longest.expected))
        except (MemoryError, RuntimeError) as error:
            if (lack := devices.lack(error)) is None:
                raise
            failures = self._all(partial(Failed, reason="out_of_memory", detail=lack))
        devices.release(self._device)  # here, where the error no longer keeps the tensors of its frames alive
        yield from failures

    def _train(self) -> Events:  # noqa: C901, PLR0915  (the loop reads from top to bottom)
        device, stopwatch, longest = self._device, self._stopwatch, self._longest
        with stopwatch("data"):
            run = prepare(longest.config, device, longest.expected, self._cache)
        yield from self._refuse_unscorable(run)
        if self._is_over:
            return
        self._members = [replace(member, config=self._resolved(member.config, run)) for member in self._members]
        learner, inputs = self._build(run, self._members, self._cache, stopwatch)
        for number in self._open(range(len(self._members))):
            yield RunPrepared(
                lane=number,
                facts=run.info,
                parameters=sum(parameter.numel() for parameter in run.model.parameters()),
                trainable=sum(parameter.numel() for parameter in run.model.trainable_parameters()),
                environment=devices.environment(device, self._members[number].config),
                reuse=inputs.reuse,
            )

        steps_per_epoch = len(batches(run.training, run.config.batch_size))
        done, seconds, lasted, use = 0, 0.0, list[float](), utilization_of(device)  # `lasted`: seconds of this process's rounds
        trained = dict[int, Mapping[str, float]]()  # metrics of the training itself
        if state := self._restored(run.info):
            learner.restore(state, state.step * steps_per_epoch)
            done, seconds, trained = state.step, state.seconds, {0: {"train_loss": state.train_loss, "lr": state.lr}}
        if done == longest.rounds:  # resumed after the last round
            advanced = BatchProgress(epoch=run.config.epochs, batch=steps_per_epoch, batches=steps_per_epoch, samples_per_second=0.0)
            yield from inputs.ready(None, advanced)
            measurements = yield from evaluate(run, learner, inputs, run.validation, advanced)
            yield from self._finish_or_save(done, run, learner, inputs, Result(measurements, trained, seconds), advanced)

        for round in _rounds(done + 1, longest.rounds, steps_per_epoch):
            if self._is_over:
                return
            learner = learner.keep(list(self._open(learner.members)))
            started, view = time.perf_counter(), run.view_of(round.epoch)
            advanced = BatchProgress(epoch=round.epoch, batch=0, batches=steps_per_epoch, samples_per_second=0.0)
            yield from inputs.ready(view, advanced)
            order = run.batches_of(round.epoch)[round.batches]
            inputs.expect(order, view)
            configs = [self._members[number].config for number in learner.members]
            rates = learning_rates(configs, round.first_step, len(order), steps_per_epoch)  # [steps, M]
            losses, weights = torch.zeros(rates.shape, device=device), torch.zeros(len(rates), device=device)
            learner.begin(round.number, rates)
            steps_started, examples = time.perf_counter(), 0
            for batch, rows in enumerate(order):
                stopwatch.begin_step()
                with stopwatch("data"):
                    features, targets = inputs.batch(rows, view), taken(run.targets, rows)  # [B, ...], [B, ...]
                losses[batch], weights[batch] = learner.step(batch, features, targets)
                stopwatch.end_step()
                examples += len(rows)
                if batch % STEPS_PER_CHECK == STEPS_PER_CHECK - 1:
                    with stopwatch("backward"):
                        if not bool(losses[: batch + 1].isfinite().all(0).any()):  # no member is left
                            break
                speed = examples / (time.perf_counter() - steps_started)
                advanced = BatchProgress(
                    epoch=round.epoch, batch=round.batches.start + batch + 1, batches=steps_per_epoch, samples_per_second=speed
                )
                use.look()
                yield advanced
                if self._is_over:
                    return
            with stopwatch("backward"):
                diverged = _diverged(round, learner, losses, rates)
            speed = examples / (time.perf_counter() - steps_started)  # now that a GPU has caught up
            for number in self._open(diverged):
                yield Failed(lane=number, reason="diverged", detail=diverged[number], step=round.number - 1)
                self.end(number)
            if self._is_over:
                return
            weighed = weights.double().cpu()
            means = ((losses.double().cpu() * weighed[:, None]).sum(0) / weighed.sum()).tolist()
            each = zip(learner.members, means, rates[-1].tolist(), strict=True)
            trained = {number: {"train_loss": mean, "lr": lr} for number, mean, lr in each}
            learner = learner.keep(list(self._open(learner.members)))

            yield from inputs.ready(None, advanced)
            with stopwatch("measure"):
                measurements = yield from evaluate(run, learner, inputs, run.validation, advanced)
            lasted.append(time.perf_counter() - started)
            seconds += lasted[-1]
            self._hold(round.number, run.info, learner, trained, seconds)
            pace = Pace(
                samples_per_second=speed,
                seconds_left=0.0,
                memory=devices.present(device),
                utilization=use.share(),
                seconds=stopwatch.seconds,
                saved_seconds=inputs.saved_seconds,
            )
            usual = median(lasted[1:] or lasted)  # the first one warms up, and may store outputs
            for number in self._open(learner.members):
                left = usual * (self._members[number].rounds - round.number)
                metrics = dict(measurements[number].metrics, **trained[number])
                yield EpochMetrics(lane=number, step=round.number, metrics=metrics, pace=pace.model_copy(update={"seconds_left": left}))
            yield from self._finish_or_save(round.number, run, learner, inputs, Result(measurements, trained, seconds), advanced)

    def _finish_or_save(self, done: int, run: PreparedRun, learner: Learner, inputs: Inputs, result: Result, sign: BatchProgress) -> Events:
        """End the members whose last round this is, scored and exported; write the checkpoints of the others that are due."""
        last = [number for number in self._open(learner.members) if self._members[number].rounds == done]
        peak, scores = devices.peak(self._device) if last else 0, dict[int, Scores]()  # the peak of training, whether scored or not
        if scored := [number for number in last if self._members[number].score_test]:
            with self._stopwatch("measure"):
                scores = yield from score(run, learner.keep(scored), inputs, sign)
        for number in self._open(learner.members):
            member, found = self._members[number], result.measurements[number]
            if number not in last:
                if member.checkpoints.due and (written := member.checkpoints.write()):
                    yield CheckpointSaved(lane=number, checkpoint=written)
                continue
            yield Finished(
                lane=number,
                step=done,
                metrics=dict(found.metrics, **result.trained[number]),
                report=found.report().model_dump(mode="json"),
                train_seconds=result.seconds,
                peak_memory=peak,
                test=scores.get(number),
            )
            if member.model_file is not None:
                yield export(learner.network_of(number), member.config, run.task.metadata(run.info), member.model_file)
            self.end(number)

    def _hold(self, done: int, facts: DatasetInfo, learner: Learner, trained: Mapping[int, Mapping[str, float]], seconds: float) -> None:
        """Keep the state after the round, so that any member's can be written while the next round is under way."""
        kept = any(self._members[number].checkpoints.keeps for number in learner.members)
        snapshot = learner.snapshot() if kept else None
        for number in learner.members:
            member = self._members[number]

            def state(number: int = number, config: TrainConfig = member.config) -> State:
                assert snapshot is not None  # noqa: S101  (it is only asked for where checkpoints are kept)
                model, optimizer = snapshot(number)
                run = digest(config, facts)
                return State(step=done, run=run, model=model, optimizer=optimizer, seconds=seconds, **trained[number])

            member.checkpoints.hold(done, state)

    def _restored(self, facts: DatasetInfo) -> State | None:
        if len(self._members) > 1:
            return None
        return self._members[0].checkpoints.restore(digest(self._members[0].config, facts))

    def _refuse_unscorable(self, run: PreparedRun) -> Iterator[Failed]:
        """End the members that are to be scored on test examples that do not exist."""
        if not (scored := [number for number, member in enumerate(self._members) if member.score_test]):
            return
        try:
            require_test_examples(run)
        except BadData as error:
            self._ended.update(scored)
            yield from [Failed(lane=number, reason="bad_data", detail=str(error)) for number in scored]

    def _resolved(self, config: TrainConfig, run: PreparedRun) -> TrainConfig:
        """With the device's precision, and what belongs to the weights, written out."""
        return devices.resolved(config, self._device).model_copy(update={"model": run.config.model})

    def _all(self, failure: Callable[..., Any]) -> list[Any]:
        """The failure of every open member."""
        return [failure(lane=number, step=self._members[number].checkpoints.step) for number in self._open(range(len(self._members)))]

    def _open(self, members: Sequence[int] | Mapping[int, object]) -> Iterator[int]:
        """Those that have not ended, in the order of their numbers; some may end while the caller iterates."""
        return (number for number in sorted(members) if number not in self._ended)

    @property
    def _is_over(self) -> bool:
        return len(self._ended) == len(self._members)

    @property
    def _longest(self) -> Member:
        return max(self._members, key=lambda member: member.config.epochs)


def train(
    config: TrainConfig,
    *,
    device: torch.device,
    cache: Cache | None = None,
    share: bool = True,
    stopwatch: Stopwatch | None = None,
    **options: Any,
) -> Events:
    """Train one run by autograd; `options` are fields of Member, and `share` is that of `ModelLearner.build`."""
    build = partial(ModelLearner.build, share=share)
    return TrainingLoop([Member(config=config, **options)], build, device=device, cache=cache, stopwatch=stopwatch).events()


def _rounds(first: int, last: int, steps_per_epoch: int) -> Iterator[Round]:
    """Rounds `first` to `last`, both included."""
    for number in range(first, last + 1):
        yield Round(number, number, slice(0, steps_per_epoch), (number - 1) * steps_per_epoch)


def _diverged(round: Round, learner: Learner, losses: Tensor, rates: Tensor) -> dict[int, str]:
    """By member, what is not finite: a loss [steps, M], or a parameter that the last step broke before any loss showed it."""
    sound, found = losses.isfinite().cpu(), dict[int, str]()
    for place, (number, finite) in enumerate(zip(learner.members, learner.finite(), strict=True)):
        if not bool(sound[:, place].all()):
            batch = int(sound[:, place].logical_not().nonzero()[0, 0])
            loss, lr = float(losses[batch, place]), float(rates[batch, place])
            found[number] = f"the training loss was {loss} in batch {batch + 1} of epoch {round.epoch}, at a learning rate of {lr:.3g}"
        elif not finite:
            found[number] = f"parameters were not finite after epoch {round.epoch}, at a learning rate of {float(rates[-1, place]):.3g}"
    return found


def _shared(member: Member) -> tuple[object, ...]:
    """In what all members agree."""
    config, spec = member.config, spec_of(member.config.task)
    of_task = spec.shared if isinstance(spec, HeadsTogether) else ()
    shared = (getattr(config, name) for name in (*SHARED, *of_task))
    return (config.task, config.data.model_dump_json(), config.model.model_dump_json(), member.expected, *shared)
