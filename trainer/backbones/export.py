"""Saves a trained text model so that Hugging Face's library loads it without this project."""

import copy
import json
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import safetensors.torch

from trainer import files
from trainer.backbones.description import CONFIG, MOST_INDEX_BYTES, MOST_TOKENIZER_BYTES, TOKENIZER, TOKENIZER_FILES, AutoPooling
from trainer.backbones.factory import PooledText, describe, quiet
from trainer.backbones.usage import HEAD
from trainer.files import read_regular
from trainer.models import StagedModel
from trainer.tasks.composition import Problem

TOKENIZER_CONFIG = "tokenizer_config.json"


@dataclass(frozen=True, slots=True, kw_only=True)
class Outputs:
    """The names and the kind of a model's outputs, and how they are computed from a text."""

    names: Sequence[str]
    problem: Problem
    pooling: AutoPooling = "auto"
    max_length: int | None = None  # tokens of a text in training; longer ones are cut


def save(model: StagedModel, folder: Path, source: Path, outputs: Outputs) -> None:
    """Write the model into the folder, with the tokenizer of `source`, the folder it was built from.

    With the library's own head the result is a folder for `AutoModelForSequenceClassification`; with another pooling it is one for
    `AutoModel`, and the last layer is in head.safetensors. `trainer.backbones.usage` has the code for both. Low-rank updates are added
    to the weights.
    Raises ValueError for a model with layers that the library's network does not have.
    """
    if model.extended:
        raise ValueError("the model has bottleneck adapters or a prompt, which the library's network does not have")
    info = describe(source)
    folder.mkdir(parents=True, exist_ok=True)
    network: Any = model.plain_network()
    whole = network.whole if isinstance(network, PooledText) else network
    tokenizer, pad_id = _tokenizer(source, whole.config, outputs.max_length)
    before, whole.config = whole.config, _config(whole.config, outputs, pad_id)
    try:
        with quiet():
            whole.save_pretrained(folder)
        mode = (folder / CONFIG).stat().st_mode
        for weights in folder.glob("*.safetensors"):  # the library writes them readable for their owner alone
            weights.chmod(mode)
    finally:
        whole.config = before
    if isinstance(network, PooledText):
        head = {name: tensor.detach().cpu().contiguous() for name, tensor in network.classifier.state_dict().items()}
        metadata = {
            "pooling": info.pooling_of(outputs.pooling), "names": json.dumps([*outputs.names]), "problem_type": outputs.problem,
        }  # fmt: skip
        content = safetensors.torch.save(head, metadata)
        files.write(folder / HEAD, lambda file: file.write(content))
    for name in TOKENIZER_FILES:
        if name != TOKENIZER_CONFIG and (source / name).is_file():
            shutil.copyfile(source / name, folder / name)
    document = json.dumps(tokenizer, indent=2, ensure_ascii=False).encode()
    files.write(folder / TOKENIZER_CONFIG, lambda file: file.write(document))


def _config(config: Any, outputs: Outputs, pad_id: int | None) -> Any:
    found = copy.deepcopy(config)
    found.id2label = dict(enumerate(outputs.names))
    found.label2id = {name: place for place, name in enumerate(outputs.names)}
    found.problem_type = outputs.problem
    if found.pad_token_id is None:
        found.pad_token_id = pad_id  # by which the library finds the last token of a text
    return found


def _tokenizer(source: Path, config: Any, max_length: int | None) -> tuple[dict[str, Any], int | None]:
    """The tokenizer's settings for padding at the end and texts cut at the length of the training, and the id of the padding."""
    path = source / TOKENIZER_CONFIG
    settings: dict[str, Any] = json.loads(read_regular(path, MOST_INDEX_BYTES)) if path.is_file() else {}
    tokens = _tokens(json.loads(read_regular(source / TOKENIZER, MOST_TOKENIZER_BYTES)))
    settings["padding_side"] = "right"
    if max_length is not None:
        settings["model_max_length"] = max_length
    stated = settings.get("pad_token")
    stated = stated.get("content") if isinstance(stated, dict) else stated
    ids = {token: number for number, token in tokens.items()}
    end = config.eos_token_id[0] if isinstance(config.eos_token_id, list) else config.eos_token_id
    pad_id = config.pad_token_id if config.pad_token_id is not None else end if stated is None else ids.get(stated, end)
    if stated is None and pad_id in tokens:
        settings["pad_token"] = tokens[pad_id]
    return settings, pad_id


def _tokens(document: Mapping[str, Any]) -> dict[int, str]:
    """The tokens by id."""
    vocabulary = document["model"]["vocab"]
    pairs = {number: token for token, number in vocabulary.items()} if isinstance(vocabulary, dict) else None
    tokens = pairs if pairs is not None else {place: str(one[0]) for place, one in enumerate(vocabulary)}
    return tokens | {one["id"]: one["content"] for one in document.get("added_tokens", [])}
