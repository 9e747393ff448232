"""Describes a model folder in Hugging Face's format by its configuration, the headers of its weights and its tokenizer. Imports no torch.

Nothing in the folder is executed, and reading is bounded.
"""

import hashlib
import json
import os
import re
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from math import prod
from pathlib import Path
from typing import Any, Literal

from trainer.backbones.families import BUFFERS, FAMILIES, PoolingKind, TextFamily, fault_of
from trainer.files import UnfitFile, open_regular, read_regular
from trainer.weight_files import MOST_WEIGHTS_BYTES, Outline, read_outline
from trainer.weight_files.pickles import TensorOutline, UnreadableWeights

CONFIG, TOKENIZER, CARD = "config.json", "tokenizer.json", "README.md"
WEIGHTS, INDEX = "model.safetensors", "model.safetensors.index.json"
TOKENIZER_FILES = (TOKENIZER, "tokenizer_config.json", "special_tokens_map.json", "added_tokens.json")
COPY_TOKENIZER = f"copy the tokenizer's files ({TOKENIZER}, {TOKENIZER_FILES[1]}) from the place that the model came from"
VOCABULARIES = ("vocab.txt", "vocab.json", "spiece.model", "spm.model", "tokenizer.model", "sentencepiece.bpe.model")
"""Files from which the library makes a tokenizer.json. Without one of them it makes a tokenizer of special tokens alone."""
PICKLES = ("pytorch_model.bin", "pytorch_model.bin.index.json")
MOST_CONFIG_BYTES = 2**20
MOST_INDEX_BYTES = 8 * 2**20
MOST_TOKENIZER_BYTES = 64 * 2**20  # Gemma's has 33 MB
MOST_CARD_BYTES = 64 * 2**10  # of the README.md that is searched for the licence
MOST_SHARDS = 512
MOST_HIDDEN, MOST_LAYERS, MOST_VOCABULARY, MOST_POSITIONS = 2**16, 1024, 2**23, 2**24
MOST_NUMBER = 2**31  # of any whole number in config.json
NAMED = 5

ACTIVATIONS = ("gelu", "relu", "tanh")  # of heads that `trainer.heads` supports

AutoPooling = PoolingKind | Literal["auto"]


class UnfitFolder(Exception):
    """The folder contains no model that can be trained. The text is a clause about the folder that begins with "it" or "its".

    `code` is for programs.
    """

    def __init__(self, code: str, text: str) -> None:
        super().__init__(text)
        self.code = code

    @property
    def is_missing(self) -> bool:
        """Whether another machine may have what is missing here."""
        return self.code in ("missing_model", "unreadable_model")


@dataclass(frozen=True, slots=True, kw_only=True)
class TextHead:
    """The properties of a text model that determine its head."""

    model_type: str
    hidden_size: int
    activation: str = "gelu"  # in the library's own head of DeBERTa and ModernBERT

    @property
    def family(self) -> TextFamily:
        """The type of the model."""
        return FAMILIES[self.model_type]

    def pooling_of(self, pooling: AutoPooling) -> PoolingKind:
        """The pooling of the head; auto is the one of the library's own head."""
        return self.family.pooling if pooling == "auto" else pooling

    def has_own_head(self, pooling: AutoPooling) -> bool:
        """Whether the head is the library's own, so that the library loads the exported model without further code."""
        return pooling == "auto" and self.model_type != "t5"

    def trains_together(self, pooling: AutoPooling) -> bool:
        """Whether `trainer.heads` supports all layers of the head."""
        return not self.has_own_head(pooling) or self.activation in ACTIVATIONS

    def head_parameters(self, pooling: AutoPooling, outputs: int) -> int:
        """The number of parameters of the head. Counts no bias of normalisations except GPT-2's."""
        hidden, own = self.hidden_size, self.has_own_head(pooling)
        norm = 0 if self.family.norm is None else hidden * (2 if self.model_type == "gpt2" else 1)
        if own and self.family.head == "linear":
            return norm + hidden * outputs
        dense = {"pooler": hidden * (hidden + 1), "dense": hidden * (hidden + 1), "prediction": hidden * (hidden + 1)}
        return norm + (dense[self.family.head] if own else 0) + (hidden + 1) * outputs


@dataclass(frozen=True, slots=True, kw_only=True)
class TextModelInfo(TextHead):
    """A text model; implements `trainer.tasks.base.ModelInfo`."""

    stage_names: tuple[str, ...]  # the embeddings and each layer; layers that share their weights are one stage
    stage_parameters: tuple[int, ...]
    positions: int | None  # the longest text in tokens; None without a limit
    vocabulary: int  # rows of the token embedding
    tokens: int  # of the tokenizer: its largest id, plus 1
    tokenizer: str  # its algorithm, such as WordPiece
    dtypes: tuple[str, ...]  # of the weights
    weight_files: tuple[str, ...]
    license: str | None

    @property
    def stages(self) -> int:
        """The number of stages that can be frozen."""
        return len(self.stage_names)

    @property
    def weights(self) -> Collection[str]:
        """DEFAULT, the weights in the folder."""
        return ("DEFAULT",)

    def fault_of(self, name: str, value: object) -> tuple[str, str] | None:
        """A fault if the model has no positions for texts of that length, or cannot be fine-tuned by that method."""
        return fault_of(name, value, model_type=self.model_type, stages=self.stages, positions=self.positions)

    def refuse_weights(self, outline: Outline, file_name: str) -> None:
        """Raises UnreadableWeights: the weights of a text model are those of its folder."""
        raise UnreadableWeights("it would replace the weights in the folder that model.name names; leave model.weights out")


Permit = Callable[[Path], None]


def _any(_: Path) -> None:
    return None


def describe_folder(folder: Path, permit: Permit = _any) -> TextModelInfo:
    """The model in the folder. `permit` is called with each path before it is read, and may raise. Raises UnfitFolder.

    The last folders are kept in memory; they are read again when a size or a modification time has changed.
    """
    files = files_of(folder, permit)
    try:
        has_card = (folder / CARD).is_file()
    except OSError as error:
        raise _unreadable(folder / CARD, error) from None
    if has_card:
        permit(folder / CARD)
        files = (*files, folder / CARD)
    return _described(folder, _signature(folder, files))


def files_of(folder: Path, permit: Permit = _any) -> tuple[Path, ...]:
    """The files of the folder that a run reads: configuration, tokenizer and weights. Raises UnfitFolder."""
    try:  # paths that are too long, and folders without permission
        _refuse_other(folder, permit)
        names = [CONFIG, *TOKENIZER_FILES, *([INDEX] if (folder / INDEX).is_file() else [])]
        found = [folder / name for name in names if (folder / name).exists()]
        found += [folder / name for name in _weight_files(folder, permit)]
    except OSError as error:
        raise UnfitFolder("unreadable_model", f"it cannot be read ({error.strerror}); correct the path or the permissions") from None
    for path in found:
        permit(path)
    return tuple(found)


def digest(folder: Path) -> str:
    """SHA-256 over names and contents of the files that a run reads. Raises UnfitFolder.

    The digest is kept in memory until a size or a modification time changes.
    """
    return _digest(folder, _signature(folder, files_of(folder)))


Signature = tuple[tuple[str, int, int], ...]


def _signature(folder: Path, files: Iterable[Path]) -> Signature:
    found = list[tuple[str, int, int]]()
    for path in files:
        try:
            status = path.stat()
        except OSError as error:
            raise _unreadable(path, error) from None
        found.append((path.name, status.st_size, status.st_mtime_ns))
    return tuple(found)


@lru_cache(maxsize=64)
def _digest(folder: Path, signature: Signature) -> str:
    found = hashlib.sha256()
    for name, _, _ in signature:
        try:
            with open_regular(folder / name, MOST_WEIGHTS_BYTES) as file:
                found.update(f"{name}\0{hashlib.file_digest(file, 'sha256').hexdigest()}\n".encode())
        except OSError as error:
            raise _unreadable(folder / name, error) from None
    return found.hexdigest()


@lru_cache(maxsize=64)
def _described(folder: Path, signature: Signature) -> TextModelInfo:
    config = _config(folder)
    model_type, family = config["model_type"], FAMILIES[config["model_type"]]
    hidden = _size(config, family, family.hidden, MOST_HIDDEN)
    layers = _size(config, family, family.layers, MOST_LAYERS)
    vocabulary = _size(config, family, "vocab_size", MOST_VOCABULARY)
    positions = None
    if family.positions is not None:
        positions = _size(config, family, family.positions, MOST_POSITIONS) - _reserved(config, family)
    names = _stage_names(config, family, layers)
    files = _weight_files(folder, _any)
    tensors = _tensors(folder, files)
    tokenizer, tokens = _tokenizer(folder)
    rows = _embedding_rows(tensors, family)
    if rows != vocabulary:
        raise UnfitFolder(
            "unfit_weights", f"its weights have embeddings of {rows:,} tokens, its config.json {vocabulary:,}; download both again"
        )
    if 2 * tokens < rows:
        raise UnfitFolder(
            "unfit_tokenizer",
            f"its tokenizer has {tokens:,} tokens, but the model has embeddings of {rows:,} tokens, so most of every text would be "
            f"unknown; {COPY_TOKENIZER}",
        )
    if tokens > rows:
        raise UnfitFolder(
            "unfit_tokenizer",
            f"its tokenizer has ids up to {tokens - 1:,}, but the model has embeddings of {rows:,} tokens; use the tokenizer of this model",
        )
    return TextModelInfo(
        model_type=model_type,
        stage_names=names,
        stage_parameters=_parameters(tensors, family, names),
        hidden_size=hidden,
        positions=positions,
        vocabulary=rows,
        tokens=tokens,
        tokenizer=tokenizer,
        dtypes=tuple(sorted({tensor.dtype for tensor in tensors.values() if tensor.is_floating_point})),
        weight_files=tuple(files),
        license=_license(folder),
        activation=str(config.get("pooler_hidden_act", config.get("classifier_activation", "gelu")))[:80],
    )


def _refuse_other(folder: Path, permit: Permit) -> None:
    permit(folder)
    if folder.is_dir():
        return
    if folder.exists():
        raise UnfitFolder("not_a_folder", f"it is a file, not a folder; name the folder with {CONFIG}, {TOKENIZER} and {WEIGHTS}")
    raise UnfitFolder("missing_model", "it does not exist; correct the path")


def _config(folder: Path) -> Mapping[str, Any]:
    config = _document(folder, CONFIG, MOST_CONFIG_BYTES, f"it has no {CONFIG}, so it is no model folder; correct the path")
    tokenizer = _document(folder, "tokenizer_config.json", MOST_INDEX_BYTES, None)
    for name, document in ((CONFIG, config), ("tokenizer_config.json", tokenizer)):
        if "auto_map" in document:
            raise UnfitFolder(
                "remote_code", f"its {name} names code to be executed (auto_map), which is never done; use a model of a type that is listed"
            )
    model_type = config.get("model_type")
    if not isinstance(model_type, str) or model_type not in FAMILIES:
        stated = f"is of type {model_type[:80]!r}" if isinstance(model_type, str) else "has no model_type"
        raise UnfitFolder("unknown_model_type", f"its model {stated}, which cannot be trained; the types are {', '.join(FAMILIES)}")
    if config.get("quantization_config") is not None:
        raise UnfitFolder("quantized_weights", "its weights are quantized, which cannot be trained; use the model it was made of")
    for name, value in _numbers(config):
        if abs(value) > MOST_NUMBER:
            raise UnfitFolder("absurd_size", f"its {CONFIG} has {name} {str(value)[:40]}; at most {MOST_NUMBER:,} is accepted")
    _refuse_unlike(config, FAMILIES[model_type])
    return config


def _refuse_unlike(config: Mapping[str, Any], family: TextFamily) -> None:
    """Raises UnfitFolder for settings with which the model would compute something else than its family's stages."""
    unlike = {
        "is_decoder": bool(config.get("is_decoder")) and not family.causal,
        "add_cross_attention": bool(config.get("add_cross_attention")),
        "is_causal": family.causal and config.get("is_causal") is False,
        "use_bidirectional_attention": bool(config.get("use_bidirectional_attention")) and config["model_type"] != "gemma3_text",
        "position_embedding_type": config.get("position_embedding_type", "absolute") != "absolute",
    }
    if found := [name for name, is_set in unlike.items() if is_set]:
        raise UnfitFolder("unfit_config", f"its {CONFIG} sets {found[0]} to {config[found[0]]!r}, which is not supported for this type")
    for name, parameters in _rotations(config):
        kind = parameters.get("rope_type", parameters.get("type", "default"))
        if kind not in ("default", "linear", "llama3", "yarn"):
            raise UnfitFolder(
                "unfit_config",
                f"its {CONFIG} has {name} of type {str(kind)[:80]!r}, with which results depend on the other texts of a batch; "
                "use default, linear, llama3 or yarn",
            )


def _rotations(config: Mapping[str, Any]) -> Iterator[tuple[str, Mapping[str, Any]]]:
    for name in ("rope_scaling", "rope_parameters"):
        if isinstance(found := config.get(name), Mapping):
            yield name, found
            yield from ((name, inner) for inner in found.values() if isinstance(inner, Mapping))


def _numbers(config: Mapping[str, Any]) -> Iterator[tuple[str, float]]:
    return ((str(name)[:80], value) for name, value in config.items() if isinstance(value, int | float))


def _size(config: Mapping[str, Any], family: TextFamily, name: str, most: int) -> int:
    value = family.size(config, name)
    if type(value) is not int or not 1 <= value <= most:
        raise UnfitFolder("absurd_size", f"its {CONFIG} has {name} {str(value)[:80]}; a whole number from 1 to {most:,} is accepted")
    return value


def _reserved(config: Mapping[str, Any], family: TextFamily) -> int:
    """Positions that no token has: those up to the id of the padding, which RoBERTa's configuration states."""
    pad = config.get("pad_token_id", 1)
    return pad + 1 if family.reserved and config["model_type"] != "mpnet" and type(pad) is int and pad >= 0 else family.reserved


def _stage_names(config: Mapping[str, Any], family: TextFamily, layers: int) -> tuple[str, ...]:
    if not family.stacked:
        return ("embeddings", *(f"layer {place}" for place in range(layers)))
    groups = _size(config, family, "num_hidden_groups", layers)
    shared = [[place for place in range(layers) if int(place / (layers / groups)) == group] for group in range(groups)]
    return ("embeddings", *(f"layers {own[0]}-{own[-1]}" if len(own) > 1 else f"layer {own[0]}" for own in shared))


def _weight_files(folder: Path, permit: Permit) -> list[str]:
    """Names of the safetensors files: the only one, or the shards of the index. Raises UnfitFolder."""
    if (folder / WEIGHTS).exists():
        return [WEIGHTS]
    permit(folder / INDEX)
    index = _document(folder, INDEX, MOST_INDEX_BYTES, None)
    if (shards := index.get("weight_map")) is not None:
        if not isinstance(shards, dict) or not all(isinstance(name, str) for name in shards.values()) or not shards:
            raise UnfitFolder("unfit_weights", f"its {INDEX} has no usable weight_map; download it again")
        names = sorted(set(shards.values()))
        if len(names) > MOST_SHARDS or any("/" in name or "\\" in name or name in ("", ".", "..") for name in names):
            raise UnfitFolder("unfit_weights", f"its {INDEX} names files that are not in the folder; download it again")
        return names
    for name in PICKLES:
        if (folder / name).exists():
            raise UnfitFolder(
                "pickled_weights",
                f"its weights are pickled ({name}), and loading a pickle can run code; if you trust their source, convert them with "
                f'`from transformers import AutoModel; AutoModel.from_pretrained("{folder}", use_safetensors=False)'
                f'.save_pretrained("{folder}")`',
            )
    raise UnfitFolder("missing_weights", f"it has no {WEIGHTS}; download it, or correct the path")


def _tensors(folder: Path, names: list[str]) -> dict[str, TensorOutline]:
    """The parameters in the files, by name. Raises UnfitFolder."""
    tensors = dict[str, TensorOutline]()
    for name in names:
        try:
            with open_regular(folder / name, MOST_WEIGHTS_BYTES) as file:
                outline = read_outline(file, name)
        except UnreadableWeights as error:
            raise UnfitFolder("unfit_weights", f"its weights file {name} cannot be used: {error}") from None
        except OSError as error:
            raise _unreadable(folder / name, error) from None
        if outline.format != "safetensors":
            raise UnfitFolder("unfit_weights", f"its {name} is no safetensors file, although its name says so; download it again")
        tensors |= {title: tensor for title, tensor in outline.root.items() if not BUFFERS.search(title)}
    return tensors


def _embedding_rows(tensors: Mapping[str, TensorOutline], family: TextFamily) -> int:
    found = [tensor.shape for name, tensor in tensors.items() if re.search(family.word, name)]
    if not found or len(found[0]) != 2:
        raise UnfitFolder("unfit_weights", "its weights have no embeddings of tokens, so they are not those of this type of models")
    return found[0][0]


def _parameters(tensors: Mapping[str, TensorOutline], family: TextFamily, names: tuple[str, ...]) -> tuple[int, ...]:
    """The number of parameters of each stage. Raises UnfitFolder if a layer is missing or differs from the others."""
    counts, ends = [0] * len(names), [Counter[str]() for _ in names]
    words = dict[tuple[int, ...], int]()
    for name, tensor in tensors.items():
        if (found := re.search(family.layer, name)) and found.group(1):
            place = int(found.group(1)) + 1
            if place >= len(names):
                raise UnfitFolder("unfit_weights", f"its weights have more layers than its {CONFIG} ({name[:80]}); download both again")
            counts[place] += prod(tensor.shape)
            ends[place][name[found.end() :]] += 1
        elif re.search(family.word, name):
            words[tensor.shape] = prod(tensor.shape)  # T5's files may contain the same embedding under two names
        elif re.search(family.embeddings, name):
            counts[0] += prod(tensor.shape)
        elif family.shared and re.search(family.shared, name):
            counts[1] += prod(tensor.shape)
    counts[0] += sum(words.values())
    usual = ends[-1].keys()
    missing = [name for name, own in zip(names[1:], ends[1:], strict=True) if not own or (name != names[1] and own.keys() != usual)]
    if missing:
        shown = ", ".join(missing[:NAMED]) + (", …" if len(missing) > NAMED else "")
        raise UnfitFolder("unfit_weights", f"its weights lack tensors of {shown}; download them again")
    return tuple(counts)


def _tokenizer(folder: Path) -> tuple[str, int]:
    """The tokenizer's algorithm, and its largest id plus 1. Raises UnfitFolder."""
    remedy = (
        f"it has no {TOKENIZER}; write it with `from transformers import AutoTokenizer; "
        f'AutoTokenizer.from_pretrained("{folder}").save_pretrained("{folder}")`'
    )
    if not any(os.path.lexists(folder / name) for name in VOCABULARIES):
        remedy = f"it has no {TOKENIZER} and no vocabulary such as {VOCABULARIES[0]}; {COPY_TOKENIZER}"
    document = _document(folder, TOKENIZER, MOST_TOKENIZER_BYTES, remedy, code="missing_tokenizer")
    damaged = UnfitFolder("unfit_tokenizer", f"its {TOKENIZER} is damaged; download it again")
    model, added = document.get("model"), document.get("added_tokens", [])
    if not isinstance(model, dict) or not isinstance(added, list):
        raise damaged
    vocabulary = model.get("vocab")
    if isinstance(vocabulary, dict):
        ids = list(vocabulary.values())
    elif isinstance(vocabulary, list):  # pairs of token and score; the place is the id
        ids = list(range(len(vocabulary)))
    else:
        raise damaged
    ids += [one.get("id") if isinstance(one, dict) else None for one in added]
    if not ids or any(type(number) is not int for number in ids):
        raise damaged
    kind = model.get("type")
    return kind[:80] if isinstance(kind, str) else "tokenizer", max(ids) + 1


def _license(folder: Path) -> str | None:
    """The licence that the model card states, or the name of a licence file."""
    try:
        with open_regular(folder / CARD, MOST_WEIGHTS_BYTES) as file:
            text = file.read(MOST_CARD_BYTES).decode("utf-8", "replace")
        if text.startswith("---") and (found := re.search(r"^license:[ \t]*(\S.{0,60})$", text.partition("\n---")[0], re.MULTILINE)):
            return found.group(1).strip()
    except OSError:
        pass
    return next((name for name in ("LICENSE", "LICENSE.txt", "LICENSE.md") if (folder / name).is_file()), None)


def _document(folder: Path, name: str, most_bytes: int, missing: str | None, *, code: str = "missing_config") -> Mapping[str, Any]:
    """A JSON object in the folder. With `missing` None an absent file is an empty object, else `missing` is the text of the fault."""
    try:
        document = json.loads(read_regular(folder / name, most_bytes))
    except FileNotFoundError:
        if missing is None:
            return {}
        raise UnfitFolder(code, missing) from None
    except OSError as error:
        raise _unreadable(folder / name, error) from None
    except (ValueError, RecursionError):
        raise UnfitFolder("unfit_config", f"its {name} is not valid JSON; download it again") from None
    if not isinstance(document, dict):
        raise UnfitFolder("unfit_config", f"its {name} is not a JSON object; download it again")
    return document


def _unreadable(path: Path, error: OSError) -> UnfitFolder:
    if isinstance(error, UnfitFile):
        return UnfitFolder("unfit_file", f"its {path.name} cannot be used: {error.strerror}")
    return UnfitFolder("unreadable_model", f"its {path.name} cannot be read ({error.strerror}); correct the path or the permissions")
