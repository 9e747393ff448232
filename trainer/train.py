"""One fine-tuning run, read from top to bottom.

Equal configs give equal results: the data's order and split follow from content and seed, the initial values from the seed, the
shuffle and every random number of an epoch from seed and epoch, an image's augmentation from its content and the view. So a run
that is resumed after a whole epoch goes on as if it had never stopped. This holds bit for bit on a CPU with the same number of
threads and versions; on a GPU cuDNN is held to its deterministic algorithms, and what remains is a backward pass here and there
that CUDA sums in any order.
"""

import hashlib
import json
import math
import time
from collections.abc import Generator
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from trainer import memory
from trainer.checkpoints import Checkpoints, State
from trainer.contract import Advanced, Exported, Failed, Finished, Measured, Prepared, Progress, Saved, TrainConfig
from trainer.data import BadData
from trainer.data.augmentation import augment
from trainer.export import export
from trainer.metrics import evaluate
from trainer.models.errors import UnfitModel
from trainer.models.staged import StagedModel
from trainer.optimization import lr_at, make_optimizer
from trainer.task import Expected, Task, environment, prepare, taken

STEPS_PER_CHECK = 16  # of the loss; each check waits for the device


class Diverged(Exception):
    """The loss or the parameters are not finite any more."""


def train(
    config: TrainConfig,
    *,
    device: torch.device,
    checkpoints: Checkpoints | None = None,
    expected: Expected | None = None,
    model_file: Path | None = None,
) -> Generator[Progress | Exported, None, None]:
    """Train, and tell how it goes; who stops asking, stops it (`contextlib.closing`).

    Running out of memory, diverging, and unfit data or weights are told as Failed; whatever else goes wrong is raised.
    """
    checkpoints = checkpoints or Checkpoints()
    memory.start_peak(device)
    try:
        yield from _train(prepare(config, device, expected or Expected()), checkpoints, model_file)
        return
    except (BadData, UnfitModel) as error:
        failure = Failed(reason="bad_data", detail=str(error), step=checkpoints.step)
    except Diverged as error:
        failure = Failed(reason="diverged", detail=str(error), step=checkpoints.step)
    except (MemoryError, RuntimeError) as error:
        if (lack := memory.lack(error)) is None:
            raise
        failure = Failed(reason="out_of_memory", detail=lack, step=checkpoints.step)
    memory.release(device)  # here, where the error no longer keeps the run's tensors alive
    yield failure


def _train(task: Task, checkpoints: Checkpoints, model_file: Path | None) -> Generator[Progress | Exported, None, None]:
    torch.backends.cudnn.benchmark, torch.backends.cudnn.deterministic = False, True
    config, model, device = task.config, task.model, task.labels.device
    steps_per_epoch = len(_batches(task.training, config.batch_size))
    optimizer = make_optimizer(model.trainable_parameters(), config)
    yield Prepared(
        facts=task.facts,
        parameters=sum(parameter.numel() for parameter in model.parameters()),
        trainable=sum(parameter.numel() for parameter in model.trainable_parameters()),
        environment=environment(device),
    )

    run = _digest(task)
    train_loss, lr, seconds, measurement = math.nan, math.nan, 0.0, None
    if state := checkpoints.restore(run):
        _load(state, model, optimizer)
        train_loss, lr, seconds = state.train_loss, state.lr, state.seconds

    for epoch in range(checkpoints.step + 1, config.epochs + 1):
        started = time.perf_counter()
        view = (epoch - 1) % config.augmentation_views if config.augmentation_views else epoch - 1
        batches = _batches(_shuffled(task.training, config.seed, epoch), config.batch_size)
        losses, done = torch.zeros(len(batches), device=device), 0
        torch.manual_seed(_seed(config.seed, "numbers", epoch))  # dropout and stochastic depth, on every device
        model.train()
        for batch, rows in enumerate(batches):
            lr = lr_at((epoch - 1) * steps_per_epoch + batch, steps_per_epoch, config)
            for group in optimizer.param_groups:
                group["lr"] = lr
            pixels = augment(taken(task.pixels, rows), task.keys[rows], view, config.augmentation)  # uint8 [B, 3, S, S]
            with task.autocast:
                logits = model(task.normalise(pixels))  # [B, C]
            loss = F.cross_entropy(logits.float(), taken(task.labels, rows), label_smoothing=config.label_smoothing)
            optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            losses[batch] = loss.detach()
            done += len(rows)
            if batch % STEPS_PER_CHECK == STEPS_PER_CHECK - 1:
                _refuse_divergence(losses[: batch + 1], epoch, lr)
            speed = done / (time.perf_counter() - started)
            advanced = Advanced(epoch=epoch, batch=batch + 1, batches=len(batches), samples_per_second=speed)
            yield advanced
        _refuse_divergence(losses, epoch, lr)
        _refuse_broken_parameters(model, epoch, lr)

        measurement = yield from evaluate(task, task.validation, advanced)
        sizes = torch.tensor([len(rows) for rows in batches], dtype=torch.float64)
        train_loss = float((losses.double().cpu() * sizes).sum() / sizes.sum())
        seconds += time.perf_counter() - started
        tensors, moments = _changing(model), optimizer.state_dict()
        checkpoints.hold(State(step=epoch, run=run, model=tensors, optimizer=moments, train_loss=train_loss, lr=lr, seconds=seconds))
        yield Measured(step=epoch, metrics=dict(measurement.scalars, train_loss=train_loss, lr=lr))
        if checkpoints.due and epoch < config.epochs and (written := checkpoints.write()):
            yield Saved(checkpoint=written)

    if measurement is None:  # resumed after the last epoch
        advanced = Advanced(epoch=config.epochs, batch=steps_per_epoch, batches=steps_per_epoch, samples_per_second=0.0)
        measurement = yield from evaluate(task, task.validation, advanced)
    yield Finished(
        step=config.epochs,
        metrics=dict(measurement.scalars, train_loss=train_loss, lr=lr),
        per_class_recall=dict(zip(task.facts.classes, measurement.per_class_recall, strict=True)),
        confusion_matrix=measurement.confusion_matrix,
        train_seconds=seconds,
        peak_memory=memory.peak(device),
    )
    if model_file is not None:
        yield export(model.network, config, task.facts.classes, model_file)


def _shuffled(rows: Tensor, seed: int, epoch: int) -> Tensor:
    generator = torch.Generator().manual_seed(_seed(seed, "order", epoch))
    return rows[torch.randperm(len(rows), generator=generator)]


def _batches(rows: Tensor, size: int) -> list[Tensor]:
    """The rows in batches. A last one of a single image is left out, because BatchNorm needs two."""
    batches = list(torch.split(rows, size))
    return batches[:-1] if size > 1 and len(batches[-1]) == 1 else batches


def _seed(seed: int, purpose: str, epoch: int) -> int:
    digest = hashlib.sha256(f"{seed}/{purpose}/{epoch}".encode()).digest()
    return int.from_bytes(digest[:8], "big") >> 1


def _refuse_divergence(losses: Tensor, epoch: int, lr: float) -> None:
    if not bool(losses.isfinite().all()):
        batch = int(losses.isfinite().logical_not().nonzero()[0, 0])
        found = float(losses[batch])
        raise Diverged(f"the training loss was {found} in batch {batch + 1} of epoch {epoch}, at a learning rate of {lr:.3g}")


def _refuse_broken_parameters(model: StagedModel, epoch: int, lr: float) -> None:
    """The last step of an epoch can break what no loss has shown yet."""
    if not bool(torch.stack([parameter.isfinite().all() for parameter in model.trainable_parameters()]).all()):
        raise Diverged(f"parameters were not finite after epoch {epoch}, at a learning rate of {lr:.3g}")


def _digest(task: Task) -> str:
    """What a state can be continued by: the same config on the same data, split and weights."""
    named = [task.config.model_dump(mode="json"), task.facts.model_dump(mode="json")]
    return hashlib.sha256(json.dumps(named, sort_keys=True).encode()).hexdigest()


def _changing(model: StagedModel) -> dict[str, Tensor]:
    """What training may change; frozen parameters follow from weights and seed."""
    tensors = model.network.state_dict(keep_vars=True)
    return {name: tensor.detach() for name, tensor in tensors.items() if not isinstance(tensor, nn.Parameter) or tensor.requires_grad}


def _load(state: State, model: StagedModel, optimizer: torch.optim.Optimizer) -> None:
    rest = {name: tensor for name, tensor in model.network.state_dict().items() if name not in _changing(model)}
    model.network.load_state_dict({**rest, **state.model})
    optimizer.load_state_dict(dict[str, Any](state.optimizer))
