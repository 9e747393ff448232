"""One fine-tuning run, read from top to bottom.

Equal configs give equal results: the data's order and split follow from content and seed, the initial values from the seed, the
shuffle of an epoch from its order seed, every random number of an epoch from seed and epoch, an image's augmentation from its
content and the view. So a run that is resumed after a whole epoch goes on as if it had never stopped. This holds bit for bit on a
CPU with the same number of threads and versions, where both read the same stored outputs (`depths`); on a GPU cuDNN is held to its
deterministic algorithms, and what remains is a backward pass here and there that CUDA sums in any order.
"""

import math
import time
from collections.abc import Generator, Mapping
from pathlib import Path
from statistics import median
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from trainer import arithmetic, memory
from trainer.cache import Cache
from trainer.checkpoints import Checkpoints, State, digest
from trainer.contract import Advanced, Exported, Failed, Finished, Measured, Pace, Prepared, Progress, Saved, TrainConfig
from trainer.data import BadData
from trainer.export import export
from trainer.features import Direct, Inputs, inputs_for
from trainer.metrics import evaluate
from trainer.models.errors import UnfitModel
from trainer.models.staged import StagedModel
from trainer.optimization import lr_at, make_optimizer
from trainer.order import batches, seed_for, shuffled
from trainer.scoring import require_test_images, score
from trainer.stopwatch import Stopwatch
from trainer.task import Expected, Task, prepare, taken
from trainer.utilization import utilization_of

STEPS_PER_CHECK = 16  # of the loss; each check waits for the device


class Diverged(Exception):
    """The loss or the parameters are not finite any more."""


def train(  # noqa: PLR0913  (each is a thing of its own, and has a default)
    config: TrainConfig,
    *,
    device: torch.device,
    cache: Cache | None = None,
    demand: Mapping[int, float] | None = None,
    depths: tuple[int, int] | None = None,
    share: bool = True,
    checkpoints: Checkpoints | None = None,
    expected: Expected | None = None,
    model_file: Path | None = None,
    score_test: bool = False,
    stopwatch: Stopwatch | None = None,
) -> Generator[Progress | Exported, None, None]:
    """Train, and tell how it goes; who stops asking, stops it (`contextlib.closing`).

    `demand`, `depths` and `score_test` are those of `contract.Run`. With `share` False every epoch computes the whole network, and
    nothing is stored for others.
    Running out of memory, diverging, and unfit data or weights are told as Failed; whatever else goes wrong is raised.
    """
    checkpoints, stopwatch = checkpoints or Checkpoints(), stopwatch or Stopwatch.of(device)
    memory.start_peak(device)
    try:
        arithmetic.settle(device)
        with stopwatch("data"):
            task = prepare(config, device, expected or Expected(), cache or Cache.none())
        if score_test:
            require_test_images(task)
        inputs = inputs_for(task, cache or Cache.none(), demand or {}, stopwatch, depths) if share else Direct(task)
        yield from _train(task, inputs, checkpoints, stopwatch, model_file, score_test=score_test)
        return
    except (BadData, UnfitModel) as error:
        failure = Failed(reason="bad_data", detail=str(error), step=checkpoints.step)
    except Diverged as error:
        failure = Failed(reason="diverged", detail=str(error), step=checkpoints.step)
    except (MemoryError, RuntimeError) as error:
        if (lack := memory.lack(error)) is None:
            raise
        failure = Failed(reason="out_of_memory", detail=lack, step=checkpoints.step)
    task = inputs = None  # type: ignore[assignment]  # so that the device gets its memory back
    memory.release(device)  # here, where the error no longer keeps the run's tensors alive
    yield failure


def _train(  # noqa: PLR0915  (the loop reads from top to bottom)
    task: Task, inputs: Inputs, checkpoints: Checkpoints, stopwatch: Stopwatch, model_file: Path | None, *, score_test: bool
) -> Generator[Progress | Exported, None, None]:
    config, model, device = task.config, task.model, task.device
    steps_per_epoch = len(batches(task.training, config.batch_size))
    optimizer = make_optimizer(model.trainable_parameters(), config)
    yield Prepared(
        facts=task.facts,
        parameters=sum(parameter.numel() for parameter in model.parameters()),
        trainable=sum(parameter.numel() for parameter in model.trainable_parameters()),
        environment=arithmetic.environment(device, config),
        reuse=inputs.reuse,
    )

    run = digest(config, task.facts)
    train_loss, lr, seconds, measurement = math.nan, math.nan, 0.0, None
    if state := checkpoints.restore(run):
        _load(state, model, optimizer)
        train_loss, lr, seconds = state.train_loss, state.lr, state.seconds
    lasted, use = list[float](), utilization_of(device)  # seconds of this process's epochs

    for epoch in range(checkpoints.step + 1, config.epochs + 1):
        started = time.perf_counter()
        view = task.view_of(epoch)
        advanced = Advanced(epoch=epoch, batch=0, batches=steps_per_epoch, samples_per_second=0.0)
        yield from inputs.ready(view, advanced)
        order = batches(shuffled(task.training, config.order_seed, epoch), config.batch_size)
        inputs.expect(order, view)
        losses, done = torch.zeros(len(order), device=device), 0
        torch.manual_seed(seed_for(config.seed, "numbers", epoch))  # dropout and stochastic depth, on every device
        model.train()
        steps_started = time.perf_counter()
        for batch, rows in enumerate(order):
            lr = lr_at((epoch - 1) * steps_per_epoch + batch, steps_per_epoch, config)
            for group in optimizer.param_groups:
                group["lr"] = lr
            stopwatch.begin_step()
            with stopwatch("data"):
                features = inputs.batch(rows, view)  # what goes into stage number `depth`: [B, ...]
                labels = taken(task.labels, rows)
            with stopwatch("forward"):
                with task.autocast:
                    logits = model.forward_from(features, inputs.depth)  # [B, C]
                loss = F.cross_entropy(logits.float(), labels, label_smoothing=config.label_smoothing)
            with stopwatch("backward"):
                optimizer.zero_grad()
                loss.backward()  # type: ignore[no-untyped-call]
                optimizer.step()
            stopwatch.end_step()
            losses[batch] = loss.detach()
            done += len(rows)
            if batch % STEPS_PER_CHECK == STEPS_PER_CHECK - 1:
                with stopwatch("backward"):
                    _refuse_divergence(losses[: batch + 1], epoch, lr)
            speed = done / (time.perf_counter() - steps_started)
            advanced = Advanced(epoch=epoch, batch=batch + 1, batches=steps_per_epoch, samples_per_second=speed)
            use.look()
            yield advanced
        with stopwatch("backward"):
            _refuse_divergence(losses, epoch, lr)
            _refuse_broken_parameters(model, epoch, lr)
        speed = done / (time.perf_counter() - steps_started)  # now that a GPU has caught up

        yield from inputs.ready(None, advanced)
        with stopwatch("measure"):
            measurement = yield from evaluate(task, inputs, task.validation, advanced)
        sizes = torch.tensor([len(rows) for rows in order], dtype=torch.float64)
        train_loss = float((losses.double().cpu() * sizes).sum() / sizes.sum())
        lasted.append(time.perf_counter() - started)
        seconds += lasted[-1]
        tensors, moments = _changing(model), optimizer.state_dict()
        checkpoints.hold(State(step=epoch, run=run, model=tensors, optimizer=moments, train_loss=train_loss, lr=lr, seconds=seconds))
        pace = Pace(
            samples_per_second=speed,
            seconds_left=median(lasted[1:] or lasted) * (config.epochs - epoch),  # the first one warms up, and may store outputs
            memory=memory.present(device),
            utilization=use.share(),
            seconds=stopwatch.seconds,
            saved_seconds=inputs.saved_seconds,
        )
        yield Measured(step=epoch, metrics=dict(measurement.scalars, train_loss=train_loss, lr=lr), pace=pace)
        if checkpoints.due and epoch < config.epochs and (written := checkpoints.write()):
            yield Saved(checkpoint=written)

    if measurement is None:  # resumed after the last epoch
        advanced = Advanced(epoch=config.epochs, batch=steps_per_epoch, batches=steps_per_epoch, samples_per_second=0.0)
        yield from inputs.ready(None, advanced)
        measurement = yield from evaluate(task, inputs, task.validation, advanced)
    peak, test = memory.peak(device), None  # the peak of training, whether scored or not
    if score_test:
        with stopwatch("measure"):
            test = yield from score(task, inputs, advanced)
    yield Finished(
        step=config.epochs,
        metrics=dict(measurement.scalars, train_loss=train_loss, lr=lr),
        per_class_recall=dict(zip(task.facts.classes, measurement.per_class_recall, strict=True)),
        confusion_matrix=measurement.confusion_matrix,
        train_seconds=seconds,
        peak_memory=peak,
        test=test,
    )
    if model_file is not None:
        yield export(model.network, config, task.facts.classes, model_file)


def _refuse_divergence(losses: Tensor, epoch: int, lr: float) -> None:
    if not bool(losses.isfinite().all()):
        batch = int(losses.isfinite().logical_not().nonzero()[0, 0])
        found = float(losses[batch])
        raise Diverged(f"the training loss was {found} in batch {batch + 1} of epoch {epoch}, at a learning rate of {lr:.3g}")


def _refuse_broken_parameters(model: StagedModel, epoch: int, lr: float) -> None:
    """The last step of an epoch can break what no loss has shown yet."""
    if not bool(torch.stack([parameter.isfinite().all() for parameter in model.trainable_parameters()]).all()):
        raise Diverged(f"parameters were not finite after epoch {epoch}, at a learning rate of {lr:.3g}")


def _changing(model: StagedModel) -> dict[str, Tensor]:
    """What training may change; frozen parameters follow from weights and seed."""
    tensors = model.network.state_dict(keep_vars=True)
    return {name: tensor.detach() for name, tensor in tensors.items() if not isinstance(tensor, nn.Parameter) or tensor.requires_grad}


def _load(state: State, model: StagedModel, optimizer: torch.optim.Optimizer) -> None:
    rest = {name: tensor for name, tensor in model.network.state_dict().items() if name not in _changing(model)}
    model.network.load_state_dict({**rest, **state.model})
    optimizer.load_state_dict(dict[str, Any](state.optimizer))
