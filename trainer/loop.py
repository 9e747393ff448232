"""The training loop: any number of members, one learner, a generator of events.

Equal configs give equal results, because every random number is a pure function of its inputs:

- split: content and seed
- initial values: seed
- order of an epoch: order seed and epoch
- dropout and stochastic depth of a round: seed and round
- augmentation of an example: content and view

A run that is resumed after a whole round therefore continues as if it had never stopped. On a CPU the result is equal bit for bit, given
the same number of threads, the same versions and the same stored outputs (`depths`). On a GPU cuDNN is restricted to its deterministic
algorithms; some backward kernels of CUDA still add in a varying order.
"""

import logging
import time
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from functools import partial
from statistics import median
from typing import Any

import torch
from torch import Tensor

from trainer import devices, memory
from trainer.cache import Cache
from trainer.checkpoints import TrainingState, digest, export
from trainer.configuration import DatasetInfo, TrainConfig
from trainer.data.examples import BadData
from trainer.devices import utilization_of
from trainer.features import Inputs
from trainer.graphs import GraphMode
from trainer.learners import Learner, Member, ModelLearner
from trainer.memory import Lack, readable
from trainer.models import Infeasible, UnfitModel
from trainer.optimization import learning_rates
from trainer.order import RowsAhead, batches
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
    Reuse,
    RunPrepared,
    Scores,
    Unavailable,
)
from trainer.scoring import evaluate, require_test_examples, score
from trainer.stopwatch import DeviceQueue, QueueEvent, Stopwatch, queue_of
from trainer.tasks.base import Measurement
from trainer.tasks.capabilities import HeadsTogether, NamesPackages
from trainer.tasks.registry import spec_of

SHARED = ("batch_size", "precision", "order_seed", "frozen_layers")  # the fields that determine the batches; equal for all members
STEPS_PER_CHECK = 16  # steps between two checks for divergence

log = logging.getLogger(__name__)

TrainingEvent = Progress | ModelExported
Events = Generator[TrainingEvent, None, None]
Build = Callable[[PreparedRun, Sequence[Member], Cache, Stopwatch], tuple[Learner, Inputs]]


@dataclass(frozen=True, slots=True)
class Round:
    """The training steps between two evaluations, which is an epoch. Metrics, pruning and checkpoints are counted in rounds."""

    number: int  # from 1
    epoch: int  # from 1
    batches: slice  # of the epoch
    first_step: int  # over all rounds, from 0


@dataclass(frozen=True, slots=True, eq=False)
class Result:
    """The outcome of a round, by member."""

    measurements: Mapping[int, Measurement]  # on the validation examples
    trained: Mapping[int, Mapping[str, float]]  # train_loss and lr
    seconds: float  # of training, including earlier attempts


class DivergenceCheck:
    """Whether every member has diverged, found out without waiting for the device.

    A GPU copies the answer to pinned memory behind the work that is queued; it is read in the first step in which it has arrived. Without
    a queue, as on a CPU, it is read at once.
    """

    def __init__(self, queue: DeviceQueue | None, *, pinned: bool = True) -> None:
        self._queue, self._pinned = queue, pinned
        self._answer = torch.empty(0, dtype=torch.bool)
        self._arrival: QueueEvent | None = None
        self._over = False

    def look(self, losses: Tensor) -> None:
        """Ask whether each member has a loss in [steps, M] that is not finite. While an answer is on its way, nothing more is asked."""
        if self._arrival is not None:
            return
        sound = losses.isfinite().all(0).any()
        if self._queue is None:
            self._over = not bool(sound)
            return
        self._answer = torch.empty((), dtype=torch.bool, pin_memory=self._pinned)
        self._answer.copy_(sound, non_blocking=True)
        self._arrival = self._queue.event()
        self._arrival.record()

    def found(self) -> bool:
        """Whether an answer that has arrived was yes. Does not wait."""
        if self._arrival is not None and self._arrival.query():
            self._over, self._arrival = not bool(self._answer), None
        return self._over


class TrainingLoop:
    """Trains all members with the learner that `build` returns.

    `shown` as in PreparedRun. Raises ValueError when the members cannot share their batches. A single member may resume; several members
    start at round 1.
    """

    def __init__(
        self,
        members: Sequence[Member],
        build: Build,
        *,
        device: torch.device,
        cache: Cache | None = None,
        stopwatch: Stopwatch | None = None,
        shown: int = 0,
    ) -> None:
        if len({_shared(member) for member in members}) != 1:
            raise ValueError(f"runs that are trained together must agree in data, model, {', '.join(SHARED)}")
        self._members, self._build, self._device = list(members), build, device
        self._cache, self._stopwatch, self._shown = cache or Cache.none(), stopwatch or Stopwatch.of(device), shown
        self._ended = set[int]()
        self._reuse: Reuse | None = None  # as last reported
        self._state_of: Callable[[int], TrainingState] | None = None  # of the last round that was reported, by member
        self._last_states: Mapping[int, TrainingState] = {}  # the same on the host, once memory ran out

    def end(self, member: int) -> None:
        """Emit no more events of the member, and exclude it from the next round on. Its checkpoints can still be written."""
        self._ended.add(member)

    def events(self) -> Events:
        """Train. Closing the generator stops the training (`contextlib.closing`).

        RunPrepared and EpochMetrics are yielded in rounds, one for each open member in a row. Out of memory, hyperparameters that cannot be
        trained, and unfit data or weights end every member as Failed; unreadable data or weights end every member as Unavailable. A
        member that diverges ends alone. Any other error is raised.

        The first time that a device with memory of its own runs out of it, the cause may be what is kept there for later runs. It is
        dropped, and the members are trained once more from their last whole round, with nothing kept on the device.
        """
        own, dropped = memory.of(self._device), None
        failures: list[Failed | Unavailable]
        with ExitStack() as retried:
            while True:
                memory.start_run(self._device)
                lack: Lack | None = None
                try:
                    devices.settle(self._device, self._longest.config)
                    yield from self._train()
                    return
                except Infeasible as error:
                    failures = self._for_open(partial(Failed, reason="infeasible", detail=str(error)))
                except (BadData, UnfitModel) as error:
                    failures = self._for_open(partial(unfit, error, self._longest.config, self._longest.expected))
                except (MemoryError, RuntimeError) as error:
                    if (lack := memory.lack(error, own)) is None:
                        raise
                # Only here, behind the except blocks: until then the error's traceback keeps the tensors of its frames alive.
                if lack is not None:
                    failures = self._for_open(partial(_out_of_memory, lack, dropped))
                    if lack.usage is not None:
                        self._stopwatch.end_step()
                        self._detach()
                        if dropped is None:
                            dropped = memory.drop_caches(self._device)
                            memory.release(self._device)
                            retried.enter_context(memory.without_caches())
                            log.warning("%s; %s kept on the GPU are dropped, and the run is tried again", lack.detail, readable(dropped))
                            continue
                        yield from self._last_checkpoints()
                memory.release(self._device)
                yield from failures
                return

    def _train(self) -> Events:  # noqa: C901, PLR0915  (the loop reads from top to bottom)
        device, stopwatch, longest = self._device, self._stopwatch, self._longest
        with stopwatch("data"):
            run = replace(prepare(longest.config, device, longest.expected, self._cache), shown=self._shown)
        yield from self._refuse_unscorable(run)
        if self._is_over:
            return
        self._members = [replace(member, config=self._resolved(member.config, run)) for member in self._members]
        learner, inputs = self._build(run, self._members, self._cache, stopwatch)
        task = spec_of(run.config.task)
        packages = task.packages if isinstance(task, NamesPackages) else ()
        before, reuse = self._reuse, inputs.reuse
        if before is not None:
            reuse = reuse.model_copy(update={"pixels": before.pixels})
        self._reuse = reuse
        for number in self._open(range(len(self._members))) if reuse != before else ():
            yield RunPrepared(
                lane=number,
                facts=run.info,
                parameters=sum(parameter.numel() for parameter in run.model.parameters()),
                trainable=sum(parameter.numel() for parameter in run.model.trainable_parameters()),
                environment={**devices.environment(device, self._members[number].config, packages), **learner.facts},
                reuse=reuse,
            )
        if self._is_over:
            return

        ahead = RowsAhead(device)
        steps_per_epoch = len(batches(run.training, run.config.batch_size))
        done, seconds, use = 0, 0.0, utilization_of(device)  # whole rounds; seconds of training, including earlier attempts
        round_seconds = list[float]()  # of the rounds of this process
        trained = dict[int, Mapping[str, float]]()  # train_loss and lr, by member
        if states := self._last_states or self._restored(run.info):
            learner, state = learner.keep(list(states)), next(iter(states.values()))
            learner.restore(states, state.step * steps_per_epoch)
            done, seconds = state.step, state.seconds
            trained = {number: {"train_loss": one.train_loss, "lr": one.lr} for number, one in states.items()}
        # Resumed after a member's last round: the previous attempt ended between its last checkpoint and Finished. Only evaluate.
        if any(self._members[number].rounds == done for number in self._open(learner.members)):
            advanced = BatchProgress(epoch=done, batch=steps_per_epoch, batches=steps_per_epoch, samples_per_second=0.0)
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
            order = run.batches_of(round.epoch)[round.batches]  # rows of each batch
            inputs.expect(order, view)
            ahead.expect(order)
            configs = [self._members[number].config for number in learner.members]
            rates = learning_rates(configs, round.first_step, len(order), steps_per_epoch)  # [steps, M]
            # Losses stay on the device; reading one in every step would make the host wait for a GPU in every step.
            recorded = torch.zeros(
                (len(rates), len(learner.members) + 1), device=device
            )  # [steps, M + 1]; one copy brings both to the host
            losses, weights = recorded[:, :-1], recorded[:, -1]  # [steps, M], [steps]
            learner.begin(round.number, rates)
            divergence = DivergenceCheck(queue_of(device))
            steps_started, examples = time.perf_counter(), 0
            for batch, rows in enumerate(order):
                stopwatch.begin_step()
                with stopwatch("data"):
                    features, targets = inputs.batch(rows, view), taken(run.targets, rows, ahead)  # [B, ...], [B, ...]
                losses[batch], weights[batch] = learner.step(batch, features, targets)
                with stopwatch("backward"):
                    if batch % STEPS_PER_CHECK == STEPS_PER_CHECK - 1:
                        divergence.look(losses[: batch + 1])
                    have_diverged = divergence.found()
                stopwatch.end_step()
                examples += len(rows)
                if have_diverged:
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
                recorded = recorded.cpu()
                losses, weights = recorded[:, :-1], recorded[:, -1]
                diverged = _diverged(round, learner, losses, rates)
            speed = examples / (time.perf_counter() - steps_started)  # examples/s; `_diverged` has waited for the GPU
            for number in self._open(diverged):
                yield Failed(lane=number, reason="diverged", detail=diverged[number], step=round.number - 1)
                self.end(number)
            if self._is_over:
                return
            batch_weights = weights.double()  # [steps]
            means = ((losses.double() * batch_weights[:, None]).sum(0) / batch_weights.sum()).tolist()  # [M]
            each = zip(learner.members, means, rates[-1].tolist(), strict=True)
            trained = {number: {"train_loss": mean, "lr": lr} for number, mean, lr in each}
            learner = learner.keep(list(self._open(learner.members)))

            yield from inputs.ready(None, advanced)
            with stopwatch("measure"):
                measurements = yield from evaluate(run, learner, inputs, run.validation, advanced)
            round_seconds.append(time.perf_counter() - started)
            seconds += round_seconds[-1]
            state_of = self._keep_state(round.number, run.info, learner, trained, seconds)
            pace = Pace(
                samples_per_second=speed,
                seconds_left=0.0,
                memory=memory.present(device),
                utilization=use.share(),
                seconds=stopwatch.seconds,
                saved_seconds=inputs.saved_seconds,
            )
            usual = median(round_seconds[1:] or round_seconds)  # without the first, which warms up and may build stored outputs
            for number in self._open(learner.members):
                left = usual * (self._members[number].rounds - round.number)
                metrics = dict(measurements[number].metrics, **trained[number])
                yield EpochMetrics(lane=number, step=round.number, metrics=metrics, pace=pace.model_copy(update={"seconds_left": left}))
            self._state_of = state_of  # not before: a round whose metrics were not reported is trained again
            yield from self._finish_or_save(round.number, run, learner, inputs, Result(measurements, trained, seconds), advanced)

    def _finish_or_save(self, done: int, run: PreparedRun, learner: Learner, inputs: Inputs, result: Result, sign: BatchProgress) -> Events:
        """Score, export and end the members whose last round this is; write the due checkpoints of the others."""
        last = [number for number in self._open(learner.members) if self._members[number].rounds == done]
        # The peak is read before scoring, so that it is the peak of the training whether the run is scored or not.
        peak, needed = (memory.peak(self._device), memory.needed(self._device)) if last else (0, None)
        scores = dict[int, Scores]()
        if scored := [number for number in last if self._members[number].score_test]:
            with self._stopwatch("measure"):
                scores = yield from score(run, learner.keep(scored), inputs, result.measurements, sign)
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
                device_memory=needed,
                test=scores.get(number),
            )
            if member.model_file is not None:
                described, network = run.task.metadata(run.info, found.decision), learner.network_of(number)
                run.task.export(run.model, member.config, run.info, member.model_file.parent)  # the model has the member's head now
                yield export(network, member.config, described, member.model_file)
            self.end(number)

    def _keep_state(
        self, done: int, info: DatasetInfo, learner: Learner, trained: Mapping[int, Mapping[str, float]], seconds: float
    ) -> Callable[[int], TrainingState] | None:
        """Keep the state after the round, so that a member's checkpoint can be written during the next round.

        For a device with memory of its own, which may run out, returns the function from a member's number to its state.
        """
        retryable = memory.of(self._device) is not None
        keeps = any(self._members[number].checkpoints.keeps for number in learner.members)
        snapshot = learner.snapshot() if keeps or retryable else None

        def state(number: int) -> TrainingState:
            assert snapshot is not None  # noqa: S101  (only called where the state is kept)
            model, optimizer, scaler = snapshot(number)
            run = digest(self._members[number].config, info)
            return TrainingState(step=done, run=run, model=model, optimizer=optimizer, scaler=scaler, seconds=seconds, **trained[number])

        for number in learner.members:
            self._members[number].checkpoints.hold(done, partial(state, number))
        return state if retryable else None

    def _detach(self) -> None:
        """Copy the states of the last whole round to the host, so that nothing refers to the learner and its tensors any more."""
        if self._state_of is not None:
            self._last_states = {number: self._state_of(number) for number in self._open(range(len(self._members)))}
            self._state_of = None
        for number, member in enumerate(self._members):
            state = self._last_states.get(number)
            member.checkpoints.detach(state if state is not None and state.step == member.checkpoints.step else None)
        if self._reuse is not None and len(self._members) == 1:  # the rest of the run reads what its beginning has read
            self._members[0] = replace(self._members[0], depths=(self._reuse.depth, self._reuse.validation_depth))

    def _last_checkpoints(self) -> Iterator[CheckpointSaved]:
        """Write the states that are held, so that another worker can continue from them."""
        for number in self._open(range(len(self._members))):
            if written := self._members[number].checkpoints.write():
                yield CheckpointSaved(lane=number, checkpoint=written)

    def _restored(self, info: DatasetInfo) -> Mapping[int, TrainingState]:
        """The state to resume from, by member; empty to start at round 1."""
        if len(self._members) > 1:
            return {}
        state = self._members[0].checkpoints.restore(digest(self._members[0].config, info))
        return {} if state is None else {0: state}

    def _refuse_unscorable(self, run: PreparedRun) -> Iterator[Failed]:
        """End the members with `score_test` as Failed when the split has no test examples."""
        if not (scored := [number for number, member in enumerate(self._members) if member.score_test]):
            return
        try:
            require_test_examples(run)
        except BadData as error:
            self._ended.update(scored)
            yield from [Failed(lane=number, reason="bad_data", detail=str(error)) for number in scored]

    def _resolved(self, config: TrainConfig, run: PreparedRun) -> TrainConfig:
        """The config with the device's precision and the normalisation of the weights filled in."""
        return devices.resolved(config, self._device).model_copy(update={"model": run.config.model})

    def _for_open(self, failure: Callable[..., Any]) -> list[Any]:
        """One failure for each open member."""
        return [failure(lane=number, step=self._members[number].checkpoints.step) for number in self._open(range(len(self._members)))]

    def _open(self, members: Sequence[int] | Mapping[int, object]) -> Iterator[int]:
        """The members that have not ended, by number. Lazy: the caller may end a member while it iterates."""
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
    graphs: GraphMode = "off",
    stopwatch: Stopwatch | None = None,
    **options: Any,
) -> Events:
    """Train one run by autograd; `options` are fields of Member, `share` and `graphs` are passed to `ModelLearner.build`."""
    build = partial(ModelLearner.build, share=share, graphs=graphs)
    return TrainingLoop([Member(config=config, **options)], build, device=device, cache=cache, stopwatch=stopwatch).events()


def _out_of_memory(lack: Lack, dropped: int | None, *, lane: int, step: int) -> Failed:
    """The failure of a member. `dropped` are the bytes that were dropped before the last try; None if there was only one."""
    again = "" if dropped is None else f" (at the second try, after {readable(dropped)} kept on the GPU had been dropped)"
    usage = lack.usage
    return Failed(
        lane=lane,
        reason="out_of_memory",
        detail=lack.detail + again,
        step=step,
        device_bytes=None if usage is None else usage.total,
        crowded=usage is not None and usage.is_crowded,
    )


def _rounds(first: int, last: int, steps_per_epoch: int) -> Iterator[Round]:
    """Rounds `first` to `last`, both included."""
    for number in range(first, last + 1):
        yield Round(number, number, slice(0, steps_per_epoch), (number - 1) * steps_per_epoch)


def _diverged(round: Round, learner: Learner, losses: Tensor, rates: Tensor) -> dict[int, str]:
    """The members that diverged, with the reason: a loss is not finite, or a parameter is not finite after the last step.

    `losses` is [steps, M] on the host.
    """
    sound, found = losses.isfinite(), dict[int, str]()
    for place, (number, finite) in enumerate(zip(learner.members, learner.finite(), strict=True)):
        if not bool(sound[:, place].all()):
            batch = int(sound[:, place].logical_not().nonzero()[0, 0])
            loss, lr = float(losses[batch, place]), float(rates[batch, place])
            found[number] = f"the training loss was {loss} in batch {batch + 1} of epoch {round.epoch}, at a learning rate of {lr:.3g}"
        elif not finite:
            found[number] = f"parameters were not finite after epoch {round.epoch}, at a learning rate of {float(rates[-1, place]):.3g}"
    return found


def _shared(member: Member) -> tuple[object, ...]:
    """The values that must be equal for all members."""
    config, spec = member.config, spec_of(member.config.task)
    of_task = spec.shared if isinstance(spec, HeadsTogether) else ()
    shared = (getattr(config, name) for name in (*SHARED, *of_task))
    return (config.task, config.data.model_dump_json(), config.model.model_dump_json(), member.expected, *shared)
