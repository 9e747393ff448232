"""Models of the text modality besides its data: the model, hyperparameters, and facts. Imports no torch."""

from collections.abc import Collection, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import AfterValidator, Field

from trainer.adapters.config import AdapterHyperparameters
from trainer.backbones.description import TextHead
from trainer.backbones.families import FAMILIES, fault_of
from trainer.configuration import DatasetInfo, Frozen, ModelConfig, Resolve, TrainConfig, counted, resolve_fields
from trainer.tasks.text.data import DuplicateTexts, TextData, TokenCounts

if TYPE_CHECKING:
    from trainer.weight_files import Outline


class TextModel(ModelConfig):
    """A model in Hugging Face's format: a folder of this machine, or a model of the hub."""

    name: str = Field(
        min_length=1,
        max_length=4096,
        description="folder with config.json, tokenizer.json and model.safetensors, or the hub's name OWNER/NAME",
    )
    weights: Literal["DEFAULT", "random"] = Field(
        default="DEFAULT", description="DEFAULT: those of the model; random: random initial values"
    )
    revision: str | None = Field(
        default=None,
        min_length=1,
        max_length=200,
        pattern=r"^[\w./-]+$",
        description="branch, tag or commit of a hub's model; null: its main branch. Exported files have the commit",
    )

    @classmethod
    def resolved(cls, section: Mapping[str, Any], resolve: Resolve) -> dict[str, Any]:
        """The section as written, with a relative folder resolved. OWNER/NAME is a folder if there is one, else a name of the hub."""
        return resolve_fields(section, {"name": lambda name: name.startswith(PATH_PREFIXES) or is_folder(Path(resolve(name)))}, resolve)

    @property
    def is_published(self) -> bool:
        """Whether the name is one of the hub."""
        return not is_folder_name(self.name)


PATH_PREFIXES = ("/", "./", "../", "~", ".\\", "..\\")
"""Beginnings of paths of folders."""


def is_folder(path: Path) -> bool:
    """Whether the folder exists and can be seen here. False for a path that no system accepts, such as one that is too long."""
    try:
        return path.is_dir()
    except OSError:
        return False


def is_folder_name(name: str) -> bool:
    """Whether the name can only be that of a folder."""
    return name.startswith(PATH_PREFIXES) or name in (".", "..") or name.count("/") != 1 or "\\" in name


Pooling = Literal["auto", "cls", "mean", "last", "max"]


class TextHyperparameters(AdapterHyperparameters):
    """Hyperparameters of the text modality."""

    max_length: int = Field(default=128, ge=4, le=131_072, description="tokens; longer texts are cut")
    pooling: Pooling = Field(
        default="auto",
        description="how the tokens of a text become one vector: its first token, mean, last token or maximum; auto: the head of the "
        "library for sequence classification, with its pooling",
    )


class TextTrainConfig(TextHyperparameters, TrainConfig):
    """The configuration of a run on texts."""

    data: TextData
    model: TextModel


def _known(model_type: str) -> str:
    if model_type not in FAMILIES:
        raise ValueError(f"there is no such type of model; the types are {', '.join(FAMILIES)}")
    return model_type


class FoundTextModel(Frozen):
    """A text model as a worker found it; implements `trainer.tasks.base.ModelInfo`."""

    type: Annotated[str, AfterValidator(_known)] = Field(description="model_type of its config.json")
    stages: int = Field(ge=1, description="that can be frozen: the embeddings and each layer")
    positions: int | None = Field(default=None, ge=1, description="the longest text in tokens; None without a limit")
    hidden_size: int | None = Field(
        default=None, ge=1, exclude_if=lambda size: size is None, description="width of the stages; None in records of earlier versions"
    )
    activation: str = Field(
        default="gelu",
        max_length=64,
        exclude_if=lambda activation: activation == "gelu",
        description="in the library's own head of DeBERTa and ModernBERT",
    )

    @property
    def weights(self) -> Collection[str]:
        """DEFAULT, the weights of the model."""
        return ("DEFAULT",)

    @property
    def head(self) -> TextHead | None:
        """The properties of its head; None in records of earlier versions."""
        if self.hidden_size is None:
            return None
        return TextHead(model_type=self.type, hidden_size=self.hidden_size, activation=self.activation)

    def fault_of(self, name: str, value: object) -> tuple[str, str] | None:
        """See `trainer.backbones.families.fault_of`."""
        return fault_of(name, value, model_type=self.type, stages=self.stages, positions=self.positions)

    def refuse_weights(self, outline: "Outline", file_name: str) -> None:
        """Nothing: a file of weights is refused when the study is created."""


class TextDatasetInfo(DatasetInfo):
    """Facts about texts and weights."""

    rows: Mapping[str, int] = Field(description="number of rows in train, validation and test")
    duplicate_texts: DuplicateTexts | None = Field(default=None, description="None if not searched for")
    tokens: TokenCounts | None = Field(default=None, description="None before the texts were tokenized")
    model: FoundTextModel | None = Field(
        default=None, exclude_if=lambda model: model is None, description="None in records of earlier versions"
    )
    commit: str | None = Field(
        default=None, exclude_if=lambda commit: commit is None, description="commit of the hub's model; None for a folder"
    )

    @property
    def described_model(self) -> FoundTextModel | None:
        """The model."""
        return self.model

    @property
    def sizes(self) -> Mapping[str, int]:
        """The number of rows in train, validation and test."""
        return self.rows

    @property
    def notes(self) -> tuple[str, ...]:
        """Sentences also about cut texts, and about texts on both sides of a given split."""
        cut = None if self.tokens is None else self.tokens.note
        found = [*super().notes, *([] if cut is None else [cut])]
        if self.duplicate_texts is not None and (across := self.duplicate_texts.across):
            groups = counted(across, "group has", "groups have")
            found.append(f"{groups} rows of nearly equal texts in several parts of the data's own split, which measures too well.")
        return tuple(found)
