"""The part of a Task that all text tasks have, with torch: data, model and input of the stages."""

import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

import torch

from trainer.adapters.config import EXTENDING, LOW_RANK
from trainer.adapters.texts import adapted, save_adapter
from trainer.backbones import hub
from trainer.backbones.description import digest, files_of
from trainer.backbones.export import Outputs, save
from trainer.backbones.factory import build, describe
from trainer.cache import JSON, Cache
from trainer.configuration import ALL_STAGES, DataConfig, DatasetInfo, ModelConfig, TrainConfig, narrowing
from trainer.data.dataset import Dataset, Listing
from trainer.data.examples import InputRow, Look
from trainer.data.text import dataset as texts
from trainer.data.text.examples import TextExamples, load
from trainer.data.text.listing import input_rows
from trainer.data.text.near_duplicates import Texts
from trainer.data.text.tokens import FastTokenizer, token_lengths
from trainer.models import StagedModel, UnfitModel
from trainer.targets.examples import excerpt
from trainer.tasks.base import Examples
from trainer.tasks.composition import ComposedTask
from trainer.tasks.text.config import FoundTextModel, TextDatasetInfo, TextModel, TextTrainConfig
from trainer.tasks.text.data import TokenCounts
from trainer.tasks.text.graph import TextGraph
from trainer.tasks.text.spec import LIBRARY_FOLDER, text_config, text_data, text_info

ADAPTER_FOLDER, BASE_FOLDER = "adapter", "base"


class TextTask(ComposedTask):
    """Texts with a target."""

    def list_examples(self, data: DataConfig, cache: Cache, *, accepted: bool) -> Listing:
        """The rows of the files. Raises BadData."""
        return texts.listed(text_data(data), self.spec.reader)

    def split(self, data: DataConfig, listing: Listing, cache: Cache, expected: DatasetInfo | None) -> texts.TextDataset:
        """Split the rows, near-duplicates in one part. Raises BadData."""
        return texts.arrange(text_data(data), listing, cache)

    def resolve(self, config: TrainConfig, listing: Listing, dataset: Dataset) -> tuple[TextTrainConfig, DatasetInfo]:
        """The config with the commit and the number of stages of a hub's model, and the facts. Raises UnfitModel."""
        asked, found = text_config(config), _texts(dataset)
        model = hub.find(asked.model.name, asked.model.revision)
        described = describe(model.folder)
        info = TextDatasetInfo.of_task(asked.task)(
            rows=found.counts,
            duplicate_texts=found.duplicates,
            fingerprint=found.fingerprint,
            split=found.split,
            listing=found.listing,
            weights_sha256=digest(model.folder),
            commit=model.commit,
            model=FoundTextModel(
                type=described.model_type,
                stages=described.stages,
                positions=described.positions,
                hidden_size=described.hidden_size,
                activation=described.activation,
            ),
            **self.facts(dataset),
        )
        stages = described.stages if asked.frozen_layers == ALL_STAGES else asked.frozen_layers
        return text_config(self.spec.resolved(asked.model_copy(update={"frozen_layers": stages}), info)), info

    def model(self, config: TrainConfig, info: DatasetInfo) -> StagedModel:
        """The network with the target's outputs, adapted and frozen as the config's method asks. Raises UnfitModel."""
        asked, folder = text_config(config), folder_of(config.model)
        model = build(
            folder,
            self.spec.outputs(info),
            pooling=asked.pooling,
            dropout=asked.dropout,
            seed=asked.seed,
            weights=asked.model.weights,
        )
        positions = describe(folder).positions
        return adapted(model, asked, None if positions is None else positions - asked.max_length)

    def inspect(self, examples: Examples, dataset: Dataset, info: DatasetInfo) -> TextDatasetInfo:
        """The facts with the lengths of the texts."""
        if not isinstance(examples, TextExamples):
            raise TypeError(f"{type(examples).__name__} contains no texts")
        return text_info(info).model_copy(update={"tokens": examples.tokens.counts})

    def measure_input(self, model: ModelConfig, dataset: Dataset) -> Mapping[str, Sequence[float]]:
        """The lengths of the texts in tokens. Raises UnfitModel."""
        folder = folder_of(model)
        describe(folder)  # refuses a folder without a tokenizer of its own, for which the library would make an empty one
        return {"tokens": token_lengths(_texts(dataset).texts, FastTokenizer.of(folder))}

    def note_of_input(self, measured: Mapping[str, Sequence[float]], size: int) -> str | None:
        """The number of texts that are longer than max_length."""
        lengths = [int(length) for length in measured["tokens"]]
        cut = [min(length, size) for length in lengths]
        truncated = sum(length > size for length in lengths)
        longest = max(cut, default=0)
        return TokenCounts(max_length=size, texts=len(cut), truncated=truncated, tokens=sum(cut), longest=longest).note

    def examples(self, dataset: Dataset, config: TrainConfig, device: torch.device, cache: Cache) -> TextExamples:
        """The texts as tokens. Raises UnfitModel."""
        asked = text_config(config)
        return load(_texts(dataset), FastTokenizer.of(folder_of(asked.model)), asked.max_length, device, cache)

    def shown(self, dataset: Dataset, examples: Examples, rows: Sequence[int]) -> Sequence[Mapping[str, str]]:
        """The beginnings of the texts."""
        found = [zip(("text", "text_b"), _texts(dataset).texts[row], strict=True) for row in rows]
        return [{field: excerpt(text) for field, text in texts if text is not None} for texts in found]

    def export(self, model: StagedModel, config: TrainConfig, info: DatasetInfo, folder: Path) -> None:
        """Write the model as the library saves it, and what LoRA or a prompt trained in PEFT's format.

        A regression model's output is in standard deviations from the mean of the training targets. Layers of `method: adapter` fit neither
        format, so such a model is only in the file of all tasks; `base` is a copy of the model that it extends.
        """
        asked, source = text_config(config), folder_of(config.model)
        if not model.extended:
            names = self.spec.output_names(info)
            outputs = Outputs(names=names, problem=self.spec.problem, pooling=asked.pooling, max_length=asked.max_length)
            save(model, folder / LIBRARY_FOLDER, source, outputs)
        else:
            (folder / BASE_FOLDER).mkdir(exist_ok=True)
            for file in files_of(source):
                shutil.copyfile(file, folder / BASE_FOLDER / file.name)
        if asked.method in (*LOW_RANK, "prompt") and describe(source).has_own_head(asked.pooling):
            save_adapter(model, asked, folder / ADAPTER_FOLDER, asked.model.name)

    def exported_config(self, config: TrainConfig, folder: Path) -> TextTrainConfig:
        """The config of the network in the folder, with merged updates, built from the files that `export` wrote. Raises UnfitModel."""
        asked = text_config(config)
        own = folder / (BASE_FOLDER if asked.method in EXTENDING else LIBRARY_FOLDER)
        if not own.is_dir():
            raise UnfitModel(f"there is no folder {own}, which `thaw train` writes; copy it with the other files, or train the model again")
        model = TextModel(name=str(own.absolute()), weights="random")
        return asked.model_copy(update={"model": model, **({"method": "full"} if asked.method in LOW_RANK else {})})

    def input_rows(self, data: DataConfig, look: Look, *, targets: bool) -> Iterator[InputRow]:
        """The texts of the rows. Raises UnfitData."""
        return input_rows(text_data(data), self.spec.reader, look, targets=targets)

    def inputs(
        self, contents: Sequence[Texts], config: TrainConfig, info: DatasetInfo, device: torch.device
    ) -> tuple[TextExamples | None, Sequence[str | None]]:
        """The texts as tokens, which each text has."""
        return self.examples(texts.without_targets(contents), config, device, Cache.none()), [None] * len(contents)

    def graph(self, model: StagedModel, config: TrainConfig) -> TextGraph:
        """The model as a function of padded tokens; `config` is that of `exported_config`."""
        asked = text_config(config)
        return TextGraph(model, asked, describe(folder_of(asked.model)))

    def cache_key(self, config: TrainConfig, info: DatasetInfo, contents: str, *, augmented: bool) -> Mapping[str, JSON]:
        """The facts that determine the output of frozen stages: weights, tokenizer, contents and length."""
        import transformers

        asked, found = text_config(config), text_info(info)
        drawn = {"seed": asked.seed, "outputs": self.spec.outputs(info)}
        return {
            "weights": found.weights_sha256 if asked.model.pretrained else [found.weights_sha256, drawn],
            "texts": contents,
            "max_length": asked.max_length,
            "transformers": transformers.__version__,
        }


def folder_of(model: ModelConfig) -> Path:
    """The folder of the model, downloaded if it is one of the hub. Raises UnfitModel."""
    if not isinstance(model, TextModel):
        raise TypeError(f"{type(model).__name__} is not the model of a text task")
    return hub.find(model.name, model.revision).folder


_texts: Callable[[Dataset], texts.TextDataset] = narrowing(texts.TextDataset, "contains no texts")
