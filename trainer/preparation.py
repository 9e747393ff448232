"""Prepares a TrainConfig for training: examples on the device, targets, split and model."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from trainer import devices, memory
from trainer.cache import Cache
from trainer.configuration import DatasetInfo, TrainConfig
from trainer.data.dataset import Dataset, Listing, differences, manifest_of, split_differs
from trainer.data.examples import BadData, ChangedData, MissingData, NoTestExamples, UnfitData
from trainer.models import Infeasible, MissingWeights, StagedModel, UnfitModel
from trainer.order import RowsAhead, batches, bucketed, shuffled
from trainer.protocol import Checked, Failed, Unavailable
from trainer.sequences import Sequences
from trainer.tasks.base import Examples, ModelInfo, Ragged, Task
from trainer.tasks.registry import task_of

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Expected:
    """The digests that data and weights must have; None accepts any."""

    info: DatasetInfo | None = None  # of an earlier run or check
    manifest: str | None = None  # Checked.manifest, which names the examples that changed

    def __hash__(self) -> int:
        return hash((self.info and self.info.fingerprint, self.manifest))


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class PreparedRun:
    """One run's data and model, ready on the device."""

    task: Task
    config: TrainConfig  # with its precision resolved for the device
    info: DatasetInfo
    examples: Examples
    dataset: Dataset
    targets: Tensor  # [N, ...], on the device
    training: Tensor  # int64, rows of the above, on the host
    validation: Tensor  # likewise
    test: Tensor  # likewise; never used to select or prune
    training_targets: Tensor  # of the training rows, on the device
    model: StagedModel
    autocast: torch.autocast
    shown: int = 0  # number of examples, the first ones of a report on validation examples, that have their text or picture

    @property
    def device(self) -> torch.device:
        """The device of the model and the targets."""
        return self.targets.device

    def view_of(self, epoch: int) -> int:
        """The view of the examples in that epoch; epochs count from 1, views from 0."""
        views = self.examples.views
        return (epoch - 1) % views if views else epoch - 1

    def batches_of(self, epoch: int) -> list[Tensor]:
        """The rows of each batch of the epoch in training order, int64 on the host; epochs count from 1."""
        rows = self.task.order(self.training, self.training_targets, self.config, epoch)
        if isinstance(self.examples, Ragged):
            own = self.training if rows is None else rows
            return bucketed(own, self.examples.lengths, self.config.batch_size, self.config.order_seed, epoch)
        if rows is None:
            rows = shuffled(self.training, self.config.order_seed, epoch)
        return batches(rows, self.config.batch_size)


def prepare(config: TrainConfig, device: torch.device, expected: Expected, cache: Cache) -> PreparedRun:
    """Read the config's data and weights. Raises BadData, UnfitModel (also Infeasible), MemoryError and torch's out-of-memory errors."""
    task = task_of(config.task)
    config = devices.resolved(config, device)
    listing, dataset = load_data(task, config, expected, cache)
    config, info = task.resolve(config, listing, dataset)
    wanted = expected.info.weights_sha256 if expected.info is not None else None
    if wanted not in (None, info.weights_sha256):
        raise ChangedData(_mismatch(f"the weights {config.model.weights}", info.weights_sha256, wanted))
    _refuse_large_batch(task, config, dataset)
    model = task.model(config, info)
    task.refuse_batch_size(config, model)
    targets, training = task.targets(dataset).to(device), torch.tensor(dataset.rows("train"))
    return PreparedRun(
        task=task,
        config=config,
        info=info,
        examples=task.examples(dataset, config, device, cache),
        dataset=dataset,
        targets=targets,
        training=training,
        training_targets=taken(targets, training),
        validation=torch.tensor(dataset.rows("validation")),
        test=torch.tensor(dataset.rows("test"), dtype=torch.int64),
        model=placed(model, device),
        autocast=devices.autocast(config, device),
    )


def placed(model: StagedModel, device: torch.device) -> StagedModel:
    """The model on the device. On an accelerator its 4-dimensional weights are channels last, as its inputs are.

    Otherwise cuDNN's convolutions copy them into that order in every step. On a CPU the order stays, since it changes how sums are rounded.
    """
    if device.type == "cpu" or any(tensor.ndim > 4 for tensor in (*model.parameters(), *model.buffers())):
        return model.to(device)
    return model.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload, no-any-return]


INFERENCE_BATCH, LEAST_INFERENCE_BATCH = 256, 32
INFERENCE_SHARE = 0.25  # of the device's free memory
ACTIVATIONS = 32  # bytes of activations that are in memory at a time, for each byte of the input; of wide early layers about 20


def inference_batch(run: PreparedRun) -> int | None:
    """Examples that a device with memory of its own computes at a time where no gradients are needed; None for other devices."""
    if (own := memory.of(run.device)) is None:
        return None
    inputs = run.examples.take(run.validation[:1], None)
    if isinstance(inputs, Sequences):  # token numbers take less memory than every stage's output
        with torch.no_grad():
            inputs = run.model.stages[0](inputs)
    size = ACTIVATIONS * inputs.nbytes
    fitting = max(1, int(INFERENCE_SHARE * own.usage().left) // size)
    return max(LEAST_INFERENCE_BATCH, min(INFERENCE_BATCH, 1 << (fitting.bit_length() - 1)))


def inspect(config: TrainConfig, device: torch.device, cache: Cache, batch_sizes: Sequence[int] = ()) -> Checked:
    """Read the config's weights and every example of its data. Raises the errors of `prepare`.

    `batch_sizes` are the sizes that a study may try. Raises Infeasible only if none of them can be trained.
    """
    task, config = task_of(config.task), devices.resolved(config, device)
    listing, dataset = load_data(task, config, Expected(), cache)
    examples = task.examples(dataset, config, device, cache)
    resolved, info = task.resolve(config, listing, dataset)
    info = task.inspect(examples, dataset, info)
    if (model := info.described_model) is None or _fits(resolved, model):  # else `operations.pass_check` names the place in the document
        _refuse_if_none_trains(task, resolved, batch_sizes or (config.batch_size,), dataset, info)
    for note in info.notes:
        log.warning("%s", note)
    return Checked(facts=info, manifest=manifest_of(listing, dataset))


def unfit(error: BadData | UnfitModel, config: TrainConfig, expected: Expected, *, lane: int = 0, step: int = 0) -> Failed | Unavailable:
    """The message that ends a run or a check after the error.

    Data that passed an earlier check and cannot be read now is a fault of this machine (Unavailable). Only a different digest proves that
    the data changed (Failed).
    """
    if isinstance(error, MissingWeights):
        file = config.model.weights_file
        return Unavailable(lane=lane, what="weights", detail=str(error), paths=() if file is None else (file,), step=step)
    proven = isinstance(error, UnfitModel | ChangedData | NoTestExamples)
    if not proven and (expected.info is not None or isinstance(error, MissingData)):
        return Unavailable(lane=lane, what="data", detail=str(error), paths=config.data.paths, step=step)
    return Failed(lane=lane, reason="bad_data", detail=str(error), step=step)


def taken(tensor: Tensor, rows: Tensor, ahead: RowsAhead | None = None) -> Tensor:
    """The rows of the tensor, indexed on the tensor's own device; `ahead` has the rows there already if they were announced."""
    moved = None if ahead is None else ahead.of(rows)
    return tensor[rows.to(tensor.device, non_blocking=True) if moved is None else moved]


def load_data(task: Task, config: TrainConfig, expected: Expected, cache: Cache) -> tuple[Listing, Dataset]:
    """List and split the config's data. Raises BadData with the names of changed examples when it is not the expected data."""
    wanted = expected.info
    try:
        listing = task.list_examples(config.data, cache, accepted=wanted is not None)
    except UnfitData as error:
        raise (MissingData if error.code == "missing_data" else BadData)(str(error)) from error
    where = f"the data at {config.data.path}"
    if wanted is not None and wanted.fingerprint != listing.fingerprint:
        found, before = sum(file.part == one.given for one in listing.contents for file in one.files), sum(wanted.sizes.values())
        if found < before and expected.manifest is None:  # with a manifest, missing examples count as a change
            noun = f"{task.spec.example}s"
            raise MissingData(f"{where} has {found} {noun}, {before - found} fewer than when it was checked")
        changed = f"{differences(expected.manifest, listing)}; " if expected.manifest is not None else ""
        changed += f"left out as unreadable: {len(listing.unreadable)}; " if listing.unreadable else ""
        raise ChangedData(_mismatch(where, listing.fingerprint, wanted.fingerprint, changed))
    dataset = task.split(config.data, listing, cache, wanted)
    if wanted is not None and (
        wanted.split != dataset.split or (expected.manifest is not None and split_differs(expected.manifest, dataset))
    ):
        raise ChangedData(
            f"{where} is split differently than expected: its declared groups have changed, or this machine decodes examples differently "
            "and finds other near-duplicates; restore the groups, or install the versions that the result was computed with"
        )
    return listing, dataset


def _mismatch(subject: str, found: str | None, wanted: str | None, changed: str = "") -> str:
    return f"{subject} differ from the expected ones: {changed}SHA-256 {found}, not {wanted}"


def _refuse_if_none_trains(task: Task, config: TrainConfig, batch_sizes: Sequence[int], dataset: Dataset, info: DatasetInfo) -> None:
    """Raises the last size's Infeasible if no size can be trained. One is enough: trials with another size end as infeasible."""
    model = task.model(config, info)
    for place, size in enumerate(batch_sizes, start=1):
        tried = config.model_copy(update={"batch_size": size})
        try:
            _refuse_large_batch(task, tried, dataset)
            task.refuse_batch_size(tried, model)
            return
        except Infeasible:
            if place == len(batch_sizes):
                raise


def _fits(config: TrainConfig, model: ModelInfo) -> bool:
    """Whether the model has the stages and methods that the config asks for."""
    return config.frozen_layers <= model.stages and not any(model.fault_of(name, value) for name, value in config)


def _refuse_large_batch(task: Task, config: TrainConfig, dataset: Dataset) -> None:
    if config.batch_size > (training := dataset.counts["train"]):
        noun = f"{task.spec.example}s"
        raise Infeasible(f"a batch of {config.batch_size} is larger than the {training} training {noun}; lower batch_size")
