"""The part of a TaskSpec that all text tasks have. Imports no torch."""

from collections.abc import Callable, Collection, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, get_args

from trainer.adapters.config import EXTENDING
from trainer.backbones.description import TextHead, TextModelInfo, UnfitFolder, describe_folder
from trainer.backbones.usage import PAIRS, TEXTS, usage
from trainer.configuration import DataConfig, DatasetInfo, TrainConfig, narrowing
from trainer.data.examples import Look
from trainer.data.targets import described
from trainer.data.text.listing import scan
from trainer.tasks.base import Counted, ModelInfo, UndescribedModel, described_model
from trainer.tasks.capabilities import CardData, InspectedData, Spellings
from trainer.tasks.composition import ComposedSpec
from trainer.tasks.text.config import FoundTextModel, Pooling, TextDatasetInfo, TextTrainConfig, is_folder, is_folder_name
from trainer.tasks.text.data import DuplicateTexts, TextData

SPELLINGS = Spellings(
    hyperparameters={
        "lr": "learning_rate lr learning-rate",
        "batch_size": "per_device_train_batch_size train_batch_size per_gpu_train_batch_size",
        "epochs": "num_train_epochs num_epochs",
        "max_length": "max_seq_length max_seq_len max_len model_max_length sequence_length",
        "pooling": "pooling_mode pooler",
    },
    data={"path": "train_file dataset csv", "text": "text_column sentence sentence1 sentence_column", "text_b": "sentence2 text_pair"},
    dropped="num_labels per_device_eval_batch_size eval_batch_size tokenizer tokenizer_name",
)


LIBRARY_FOLDER = "huggingface"
"""In the folder of an exported model: the model as the library Transformers saves it."""


class TextSpec(ComposedSpec):
    """The members of a TaskSpec that texts define; the task adds its name, its target and its documents."""

    example = "text"
    size = "max_length"
    page_of_input = "texts"
    packages = ("transformers", "tokenizers", "peft")
    shared_of_input = ("batch_size", "max_length", "pooling", "precision", "order_seed", "frozen_layers")
    spellings_of_input = SPELLINGS

    @property
    def stand_ins(self) -> Mapping[str, Any]:
        """Data that is not looked at, and a name of a model that only the hub could describe."""
        return {"data": {"path": "train.csv"}, "model": {"name": "owner/model"}, "objective": self.objective}

    @property
    def lines(self) -> Mapping[str, str]:
        """A table, and the folder of a model."""
        return self.lines_with(
            data="data: {path: /path/to/train.csv, text: text, target: label}", model="model: {name: /path/to/model-folder}"
        )

    def models(self) -> Collection[str]:
        """None: the name of a model is that of its folder, or of the hub."""
        return ()

    def describe(self, model: str) -> TextModelInfo:
        """The model in that folder. Raises UndescribedModel; workers may have a folder that is missing here, and can ask the hub."""
        folder = Path(model)
        if not is_folder_name(model) and not is_folder(folder):
            text = "the model is one of the hub, which only workers ask, so its stages are not known here"
            raise UndescribedModel("model_of_hub", text, elsewhere=True)
        try:
            return describe_folder(folder)
        except UnfitFolder as error:
            hint = "" if "/" in model else "; models of the hub are named OWNER/NAME, such as google-bert/bert-base-uncased"
            text = f"this is no model folder that can be used: {error}{hint}"
            raise UndescribedModel(error.code, text, elsewhere=error.is_missing) from None

    def count(self, data: DataConfig, look: Look) -> Counted:
        """Rows by stratum and part. Raises UnfitData."""
        found = scan(text_data(data), self.reader, look, texts=False)
        return self.counted([(row.target, row.part) for row in found.rows], data, found.facts.given)

    def inspect_data(self, data: DataConfig, look: Look) -> InspectedData:
        """Rows by label and part, and their lengths. Raises UnfitData."""
        found = scan(text_data(data), self.reader, look)
        labels, measures = described(self.reader, [(row.target, row.part) for row in found.rows])
        texts = [row.text if row.text_b is None else f"{row.text} {row.text_b}" for row in found.rows]
        lengths = {"words": [len(text.split()) for text in texts], "characters": [len(text) for text in texts]}
        return InspectedData(listing=found.facts, labels=labels, measures={**lengths, **measures})

    def trains_together(self, model: ModelInfo, values: Mapping[str, Any]) -> bool:
        """Whether `trainer.heads` supports the layers of the head with this pooling; with some pooling if the values have none."""
        poolings = (values["pooling"],) if "pooling" in values else get_args(Pooling)
        head = _head_of(model)
        return head is not None and any(head.trains_together(pooling) for pooling in poolings)

    def head_parameters(self, model: ModelInfo, info: DatasetInfo) -> int:
        """The number of parameters of the library's head, which is the largest. Raises ValueError if its width is not known."""
        if (head := _head_of(model)) is None:
            raise ValueError("the width of the model is not known")
        return head.head_parameters("auto", self.outputs(info))

    def resolved(self, config: TrainConfig, info: DatasetInfo) -> TrainConfig:
        """The config with the commit of a hub's model."""
        asked, found = text_config(config), text_info(info)
        if found.commit is None:
            return config
        return asked.model_copy(update={"model": asked.model.model_copy(update={"revision": found.commit})})

    def card_data(self, config: TrainConfig, info: DatasetInfo) -> CardData:
        """The target's contents, near-duplicates and lengths."""
        card, found = self._card(info), text_info(info)
        model = () if found.commit is None else (("commit", found.commit),)
        notes = (*card.notes, _duplicates(found.duplicate_texts))
        return replace(card, notes=notes, model=model, loading=self._loading(text_config(config), info))

    def _loading(self, config: TextTrainConfig, info: DatasetInfo) -> str:
        if config.method in EXTENDING or (model := described_model(self, config.model.name, info)) is None:
            return ""
        head = _head_of(model)
        if head is None:
            return ""
        pairs = config.data.text_b is not None
        lines = usage(head, config.pooling, f"model/{LIBRARY_FOLDER}", pairs=pairs)
        return lines.replace("\n\n", f"\n\n{PAIRS if pairs else TEXTS}", 1) + self.reading(info)


def _head_of(model: ModelInfo) -> TextHead | None:
    return model.head if isinstance(model, FoundTextModel) else text_head(model)


def _duplicates(found: DuplicateTexts | None) -> str:
    if found is None:
        return "Near-duplicates were not looked for."
    if found.groups == 0:
        return "No near-duplicates were found."
    torn = f"a split by content alone would have torn {found.crossing} of them apart"
    mixed = f" {found.mixed} of them have more than one target." if found.mixed else ""
    return f"Near-duplicates: {found.rows} rows in {found.groups} groups kept on one side of the split; {torn}.{mixed}"


text_head: Callable[[object], TextHead] = narrowing(TextHead, "is no text model")
text_config: Callable[[TrainConfig], TextTrainConfig] = narrowing(TextTrainConfig, "is not the config of a text task")
text_data: Callable[[DataConfig], TextData] = narrowing(TextData, "is not the data of a text task")
text_info: Callable[[DatasetInfo], TextDatasetInfo] = narrowing(TextDatasetInfo, "is not about texts")
