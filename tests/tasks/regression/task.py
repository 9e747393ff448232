"""The half of the task that needs torch."""

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn

from tests.tasks.regression.spec import SPEC, NumberInfo, NumberTrainConfig, Report, TestReport, read
from trainer.cache import Cache
from trainer.configuration import DataConfig, DatasetInfo, ListingFacts, TrainConfig
from trainer.data.contents import distinct
from trainer.data.dataset import PARTS, Dataset, Listing, split_contents, split_digest
from trainer.data.examples import Example
from trainer.data.split import split
from trainer.models import StagedModel
from trainer.sequences import Features
from trainer.tasks.base import Decision, Measurement, Names, Task


@dataclass(frozen=True, slots=True, eq=False)
class Table(Dataset):
    """The rows' values [N, D] and targets [N] in the order of the contents."""

    values: Tensor
    numbers: Tensor


class Inputs:
    origin: Literal["decoded", "cached", "streamed"] = "decoded"
    stored_bytes, augmented, views = 0, False, 0

    def __init__(self, table: Table, device: torch.device) -> None:
        self._values = table.values.to(device)
        self.keys = torch.tensor([int(content.sha256[:15], 16) for content in table.contents])

    def take(self, rows: Tensor, view: int | None) -> Tensor:
        return self._values[rows.to(self._values.device)]

    def expect(self, batches: Iterable[Tensor]) -> None: ...


class SquaredErrors:
    def __init__(self, penalties: Tensor) -> None:
        self._penalties = penalties

    def of(self, first: int, last: int) -> "SquaredErrors":
        return SquaredErrors(self._penalties[first:last])

    def __call__(self, outputs: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
        errors = outputs - targets
        losses = errors**2 + self._penalties * outputs**2
        return losses.mean((1, 2)), 2 * (errors + self._penalties * outputs) / len(targets)


class RegressionTask(Task):
    spec = SPEC

    def list_examples(self, data: DataConfig, cache: Cache, *, accepted: bool) -> Listing:
        digests = [digest for digest, *_ in read(data)]
        examples = [Example(Path(data.path), f"line {number}", "rows") for number, _ in enumerate(digests, start=2)]
        return Listing.of(["rows"], distinct(["rows"], examples, digests), ListingFacts())

    def split(self, data: DataConfig, listing: Listing, cache: Cache, expected: DatasetInfo | None) -> Table:
        contents = split_contents(listing.contents, split(data, listing.labels, listing.contents).parts)
        rows = {digest: row for digest, *row in read(data)}
        values, targets = zip(*(rows[content.sha256] for content in contents), strict=True)
        found = listing.labels, contents, listing.fingerprint, split_digest(contents), listing.facts
        return Table(*found, torch.tensor(values), torch.tensor(targets))

    def resolve(self, config: TrainConfig, listing: Listing, dataset: Dataset) -> tuple[TrainConfig, NumberInfo]:
        table = _table(dataset)
        parts = {part: table.numbers[rows].double() for part in PARTS if (rows := table.rows(part))}
        means = {part: float(numbers.mean()) for part, numbers in parts.items()}
        variances = {part: float(numbers.var(correction=0)) for part, numbers in parts.items()}
        weights = hashlib.sha256(Path(file).read_bytes()).hexdigest() if (file := config.model.weights_file) else None
        found = {"fingerprint": table.fingerprint, "split": table.split, "weights_sha256": weights, "columns": table.values.shape[1]}
        return config, NumberInfo(rows=table.counts, means=means, variances=variances, **found)

    def model(self, config: TrainConfig, info: DatasetInfo) -> StagedModel:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(config.seed)
            first, second = (nn.Sequential(nn.Linear(width, 8), nn.Tanh()) for width in (_info(info).columns, 8))
            network = nn.Sequential(first, second, nn.Linear(8, 1))
        if config.model.weights_file is not None:
            weights = torch.load(config.model.weights_file, weights_only=True)
            network.load_state_dict({name: tensor for name, tensor in weights.items() if not name.startswith("2.")}, strict=False)
        model = StagedModel(network, {"first": first, "second": second}, network[2])
        network.load_state_dict(model.fresh_head(config.seed), strict=False)
        return model.freeze(config.frozen_layers)

    def examples(self, dataset: Dataset, config: TrainConfig, device: torch.device, cache: Cache) -> Inputs:
        return Inputs(_table(dataset), device)

    def cache_key(self, config: TrainConfig, info: DatasetInfo, contents: str, *, augmented: bool) -> Mapping[str, Any]:
        return {"weights": info.weights_sha256 or config.seed, "rows": contents}

    def targets(self, dataset: Dataset) -> Tensor:
        return _table(dataset).numbers

    def loss_settings(self, config: TrainConfig, targets: Tensor, info: DatasetInfo) -> float:
        return _config(config).l2

    def loss(self, model: StagedModel, features: Features, depth: int, targets: Tensor, settings: float) -> tuple[Tensor, Tensor]:
        predicted = self.predict(model, features, depth)
        losses = (predicted - targets) ** 2 + settings * predicted**2
        return losses, torch.ones_like(losses)

    def predict(self, model: StagedModel, features: Features, depth: int) -> Tensor:
        return model.forward_from(features, depth).float().squeeze(1)

    def tally(self, predictions: Tensor, targets: Tensor) -> Tensor:
        return (predictions - targets)[:, None]

    def measure(
        self,
        tallies: Tensor,
        targets: Tensor,
        info: DatasetInfo,
        *,
        examples: bool = False,
        names: Names | None = None,
        decisions: Sequence[Decision] | None = None,
    ) -> Sequence[Measurement]:
        return [_measured(errors, targets.double(), examples=examples) for errors in tallies[..., 0].double()]

    def heads_loss(self, configs: Sequence[TrainConfig], targets: Tensor, info: DatasetInfo) -> SquaredErrors:
        return SquaredErrors(torch.tensor([_config(config).l2 for config in configs], device=targets.device)[:, None, None])

    def heads_tally(self, outputs: Tensor, targets: Tensor) -> Tensor:
        return (outputs.squeeze(1) - targets)[..., None]


def _config(config: TrainConfig) -> NumberTrainConfig:
    assert isinstance(config, NumberTrainConfig)
    return config


def _info(info: DatasetInfo) -> NumberInfo:
    assert isinstance(info, NumberInfo)
    return info


def _table(dataset: Dataset) -> Table:
    assert isinstance(dataset, Table)
    return dataset


def _measured(errors: Tensor, targets: Tensor, *, examples: bool) -> Measurement:
    square = float((errors**2).mean())
    metrics = {"r2": 1 - square / float(targets.var(correction=0)), "rmse": square**0.5}
    residuals = errors.quantile(torch.tensor([0.05, 0.5, 0.95], dtype=errors.dtype, device=errors.device)).tolist()
    if examples:
        return Measurement(metrics, partial(TestReport, residuals=residuals, targets=targets.tolist(), each=errors.tolist()))
    return Measurement(metrics, partial(Report, residuals=residuals))


TASK = RegressionTask()
