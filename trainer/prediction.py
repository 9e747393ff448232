"""Exported models and their predictions. `python -m trainer.prediction` predicts a file or folder, for `thaw predict`.

Reads one JSON object from standard input: `folder` (of the model), `facts` (of its config.yaml) and `data` (a section whose path is the
input). Writes JSON lines to standard output: `names` of the probabilities, none for numbers; an answer for each row of the input in order,
with `place`, `prediction`, `probabilities` and `error`; and `left_out`, sentences. If the input cannot be used, the last line has `fault`
and the `field` of the data.
"""

import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import islice
from pathlib import Path
from typing import Any, Protocol, Self

import torch
from pydantic import ValidationError
from safetensors import SafetensorError, safe_open
from torch import Tensor

from trainer import devices
from trainer.checkpoints import FORMAT
from trainer.configuration import DataConfig, DatasetInfo, TrainConfig
from trainer.data.examples import BadData, InputRow, Look, UnfitData
from trainer.data.targets import TargetValue
from trainer.files import open_regular
from trainer.learners import ModelLearner
from trainer.models import Infeasible, StagedModel, UnfitModel
from trainer.pipes import read_request
from trainer.preparation import placed
from trainer.scoring import places_of
from trainer.tasks.base import Decision, Examples, Task
from trainer.tasks.capabilities import Predicts
from trainer.tasks.registry import task_of
from trainer.weight_files import MOST_WEIGHTS_BYTES

MODEL = "model.safetensors"
ROWS = 1_024  # of the input that are in memory at a time
NOT_FINITE = "the output of the model is not a finite number"


class PredictingTask(Predicts, Task, Protocol):
    """A task with the capability Predicts."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """The prediction for a row of the input, or the reason why there is none."""

    place: Mapping[str, str | int]  # as InputRow.place
    prediction: TargetValue | None = None
    probabilities: Sequence[float] | None = None  # None for numbers
    error: str | None = None


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class ExportedModel:
    """A model that `thaw train` wrote, on a device, in evaluation mode."""

    task: PredictingTask
    trained: TrainConfig  # the configuration of its run
    config: TrainConfig  # the same for the files in the folder
    info: DatasetInfo
    model: StagedModel
    decision: Decision
    device: torch.device

    @classmethod
    def read(cls, folder: Path, info: DatasetInfo, device: torch.device) -> Self:
        """The model in the folder; `info` has the facts of its config.yaml. Opens no file outside of the folder. Raises UnfitModel."""
        metadata, tensors = _read(folder / MODEL)
        try:
            trained = TrainConfig.model_validate_json(metadata["config"])
        except (KeyError, ValidationError):
            raise UnfitModel(
                f"the metadata of {folder / MODEL} has no configuration that this version reads; train the model again"
            ) from None
        task: Any = task_of(trained.task)
        _require_predictions(task)
        if info.task != trained.task or any(metadata.get(name) != value for name, value in task.metadata(info).items()):
            raise UnfitModel(f"config.yaml and {MODEL} in {folder} belong to different models; copy both from one folder of `thaw train`")
        try:
            decision = task.decision(metadata)
        except ValueError as error:
            raise UnfitModel(f"{folder / MODEL} cannot be used: {error}; train the model again") from None
        config = task.exported_config(_on(device, trained), folder)
        devices.settle(device, config)
        model = task.model(config, info)
        try:
            model.network.load_state_dict(tensors)
        except RuntimeError:
            raise UnfitModel(f"the tensors in {folder / MODEL} do not fit its configuration; copy the folder again") from None
        model = placed(model, device).eval()
        return cls(task=task, trained=trained, config=config, info=info, model=model, decision=decision, device=device)

    def of_data(self, data: DataConfig) -> Self:
        """The model with another section `data`, which determines how examples are read."""
        return replace(self, config=self.config.model_copy(update={"data": data}))

    def batches(self, examples: Examples, rows: Tensor | None = None) -> Iterator[tuple[slice | Tensor, Tensor]]:
        """Batches of rows of the examples, by default of all, as in validation: their places among the rows, and the rows."""
        rows = torch.arange(len(examples.keys)) if rows is None else rows
        for places in places_of(examples, rows, max(self.config.batch_size, ModelLearner.smallest_batch)):
            yield places, rows[places]

    def outputs(self, examples: Examples, rows: Tensor | None = None) -> Tensor:
        """The outputs of those rows, by default of all examples: [N, ...] on the host."""
        found = list[tuple[slice | Tensor, Tensor]]()
        for places, some in self.batches(examples, rows):
            with torch.no_grad(), devices.autocast(self.config, self.device):
                found.append((places, self.task.predict(self.model, examples.take(some, None), 0).cpu()))
        return gathered(found)

    def answers(self, rows: Sequence[InputRow]) -> Iterator[Answer]:
        """The answers to the rows in their order. Raises BadData, UnfitModel."""
        sound = [row for row in rows if row.fault is None]
        contents = [row.content for row in sound]
        examples, reasons = self.task.inputs(contents, self.config, self.info, self.device) if sound else (None, ())
        fault_of = {id(row): reason for row, reason in zip(sound, reasons, strict=True)}
        predicted = iter(()) if examples is None else self._predicted(examples)
        for row in rows:
            fault = row.fault or fault_of[id(row)]
            yield Answer(place=row.place, error=fault) if fault else replace(next(predicted), place=row.place)

    def _predicted(self, examples: Examples) -> Iterator[Answer]:
        outputs = self.outputs(examples)
        final, named = self.task.final(outputs, self.info), bool(self.task.probability_names(self.info))
        finite = (outputs.isfinite().flatten(1).all(1) & final.isfinite().view(len(final), -1).all(1)).tolist()
        for prediction, values, is_finite in zip(self.task.answers(outputs, self.info, self.decision), final.tolist(), finite, strict=True):
            found = Answer(place={}, prediction=prediction, probabilities=values if named else None)
            yield found if is_finite else Answer(place={}, error=NOT_FINITE)


def gathered(batches: Sequence[tuple[slice | Tensor, Tensor]]) -> Tensor:
    """The values of batches at their places."""
    found = batches[0][1].new_empty((sum(len(values) for _, values in batches), *batches[0][1].shape[1:]))
    for places, values in batches:
        found[places] = values
    return found


def _require_predictions(task: Task) -> None:
    if not isinstance(task, Predicts):
        raise UnfitModel(f"the task {task.spec.name} has no predictions")


def _on(device: torch.device, config: TrainConfig) -> TrainConfig:
    """The config with its precision for the device; float32 if the device lacks that of the training."""
    try:
        return devices.resolved(config, device)
    except Infeasible:
        return config.model_copy(update={"precision": "float32"})


def _read(file: Path) -> tuple[Mapping[str, str], dict[str, Tensor]]:
    try:
        open_regular(file, MOST_WEIGHTS_BYTES).close()
        with safe_open(file, "pt") as opened:
            metadata: Mapping[str, str] = opened.metadata() or {}
            tensors = {name: opened.get_tensor(name) for name in opened.keys()}  # noqa: SIM118  (not a mapping)
    except OSError as error:
        raise UnfitModel(f"{file} cannot be read: {error.strerror or error}; name a folder that `thaw train` wrote") from None
    except SafetensorError as error:
        raise UnfitModel(f"{file} is not a sound safetensors file ({error}); copy it again") from None
    if metadata.get("format") != FORMAT:
        raise UnfitModel(f"{file} was not written by `thaw train`")
    return metadata, tensors


def usual_device() -> torch.device:
    """The first GPU, else the CPU."""
    return torch.device("cuda:0" if torch.cuda.is_available() else "cpu")


def predict(model: ExportedModel, data: DataConfig) -> Iterator[Mapping[str, Any]]:
    """The JSON lines of the answers to the input at `data.path`. Raises UnfitData, BadData, UnfitModel."""
    look, asked = Look(), model.of_data(data)
    yield {"names": model.task.probability_names(model.info)}
    rows = model.task.input_rows(data, look, targets=False)
    while some := list(islice(rows, ROWS)):
        yield from map(asdict, asked.answers(some))
    yield {"left_out": [f"{one.count} left out: {one.reason} ({'; '.join(one.examples)})" for one in look.left_out]}


def main() -> None:
    """Answer the request on standard input."""
    asked = read_request()
    try:
        info = DatasetInfo.model_validate(asked["facts"])
        model = ExportedModel.read(Path(asked["folder"]), info, usual_device())
        for line in predict(model, type(model.config.data).model_validate(asked["data"])):
            sys.stdout.write(f"{json.dumps(line)}\n")
    except (UnfitData, BadData, UnfitModel) as error:
        field = error.place if isinstance(error, UnfitData) else ()
        sys.stdout.write(f"{json.dumps({'fault': str(error), 'field': field})}\n")


if __name__ == "__main__":
    main()
