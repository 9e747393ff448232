"""Small model folders: of one type by hand, and of every type by the library, with random weights."""

import json
import os
from collections.abc import Callable, Mapping
from importlib.util import find_spec
from math import prod
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import SKIP_NOTHING
from trainer.backbones.families import FAMILIES

VOCABULARY, HIDDEN, LAYERS = 60, 32, 2
Shapes = Mapping[str, tuple[int, ...]]


def write_weights(path: Path, shapes: Shapes) -> None:
    """A safetensors file of zeros."""
    header, end = dict[str, Any](), 0
    for name, shape in shapes.items():
        begin, end = end, end + 4 * prod(shape)
        header[name] = {"dtype": "F32", "shape": [*shape], "data_offsets": [begin, end]}
    text = json.dumps(header).encode()
    path.write_bytes(len(text).to_bytes(8, "little") + text + bytes(end))


def write_tokenizer(folder: Path, tokens: int = VOCABULARY, *, pad: int = 0) -> None:
    start = 1 - pad
    vocabulary = {"[PAD]": pad, "[CLS]": start, "[SEP]": 2, "[UNK]": 3} | {f"w{number}": number for number in range(4, tokens)}
    document: dict[str, Any] = {
        "version": "1.0", "truncation": None, "padding": None, "normalizer": None, "decoder": None, "added_tokens": [],
        "pre_tokenizer": {"type": "Whitespace"},
        "post_processor": {
            "type": "BertProcessing", "sep": ["[SEP]", 2], "cls": ["[CLS]", start],
        },
        "model": {"type": "WordLevel", "vocab": vocabulary, "unk_token": "[UNK]"},
    }  # fmt: skip
    (folder / "tokenizer.json").write_text(json.dumps(document))
    settings = {"tokenizer_class": "PreTrainedTokenizerFast", "pad_token": "[PAD]", "cls_token": "[CLS]", "sep_token": "[SEP]"}
    (folder / "tokenizer_config.json").write_text(json.dumps(settings))


def bert_shapes(layers: int = LAYERS) -> dict[str, tuple[int, ...]]:
    """A few tensors of a BERT."""
    shapes: dict[str, tuple[int, ...]] = {
        "bert.embeddings.word_embeddings.weight": (VOCABULARY, HIDDEN),
        "bert.embeddings.LayerNorm.weight": (HIDDEN,),
        "bert.pooler.dense.weight": (HIDDEN, HIDDEN),
        "cls.predictions.bias": (VOCABULARY,),
        "bert.embeddings.position_ids": (1, 40),
    }
    for place in range(layers):
        shapes[f"bert.encoder.layer.{place}.output.dense.weight"] = (HIDDEN, 3)
        shapes[f"bert.encoder.layer.{place}.output.dense.bias"] = (HIDDEN,)
    return shapes


BERT_CONFIG = {
    "model_type": "bert", "vocab_size": VOCABULARY, "hidden_size": HIDDEN, "num_hidden_layers": LAYERS, "max_position_embeddings": 40,
}  # fmt: skip


@pytest.fixture
def bert_folder(tmp_path: Path) -> Callable[..., Path]:
    """Writes a folder without the library. Named values change config.json; None leaves a value out."""

    def make(*, shapes: Shapes | None = None, tokens: int = VOCABULARY, **changes: object) -> Path:
        folder = tmp_path / "model"
        folder.mkdir(exist_ok=True)
        config = {name: value for name, value in {**BERT_CONFIG, **changes}.items() if value is not None}
        (folder / "config.json").write_text(json.dumps(config))
        write_weights(folder / "model.safetensors", bert_shapes() if shapes is None else shapes)
        write_tokenizer(folder, tokens)
        return folder

    return make


def config_of(kind: str, **changes: Any) -> Any:
    """A configuration of two layers of that type. Windows are shorter than the texts of the tests."""
    from transformers import AutoConfig

    own = dict[str, Any](vocab_size=VOCABULARY, pad_token_id=1 if FAMILIES[kind].reserved else 0, bos_token_id=None, eos_token_id=2)
    match kind:
        case "distilbert":
            own |= {"dim": HIDDEN, "n_layers": LAYERS, "n_heads": 4, "hidden_dim": 48, "max_position_embeddings": 40}
        case "gpt2":
            own |= {"n_embd": HIDDEN, "n_layer": LAYERS, "n_head": 4, "n_positions": 40}
        case "t5":
            own |= {"d_model": HIDDEN, "d_kv": 8, "d_ff": 48, "num_layers": LAYERS, "num_heads": 4}
        case _:
            own |= {"hidden_size": HIDDEN, "num_hidden_layers": LAYERS, "num_attention_heads": 4, "intermediate_size": 48}
            own |= {"max_position_embeddings": 40}
            own |= {"num_key_value_heads": 2, "head_dim": 8} if FAMILIES[kind].causal else {}
    more: dict[str, dict[str, Any]] = {
        "albert": {"embedding_size": 16, "num_hidden_layers": 4, "num_hidden_groups": 2},
        "electra": {"embedding_size": 16},
        "deberta-v2": {
            "relative_attention": True, "position_buckets": 8, "pos_att_type": ["c2p", "p2c"], "norm_rel_ebd": "layer_norm",
            "share_att_key": True, "conv_kernel_size": 3, "type_vocab_size": 0, "position_biased_input": False,
        },
        "modernbert": {"local_attention": 8, "global_attn_every_n_layers": 2, "cls_token_id": 1, "sep_token_id": 2},
        "gemma2": {"sliding_window": 4, "query_pre_attn_scalar": 8},
        "gemma3_text": {"sliding_window": 4, "query_pre_attn_scalar": 8, "layer_types": ["sliding_attention", "full_attention"]},
        "mistral": {"sliding_window": 4},
        "qwen2": {"use_sliding_window": True, "sliding_window": 4, "layer_types": ["full_attention", "sliding_attention"]},
        "qwen3": {"use_sliding_window": True, "sliding_window": 4, "layer_types": ["full_attention", "sliding_attention"]},
        "smollm3": {"use_sliding_window": True, "sliding_window": 4, "layer_types": ["full_attention", "sliding_attention"]},
    }  # fmt: skip
    return AutoConfig.for_model(kind, **own | more.get(kind, {}) | changes)


@pytest.fixture(scope="session")
def text_extra() -> None:
    """Skips without the packages of thawline[text]; fails where nothing may be skipped."""
    if find_spec("transformers") is None and not os.environ.get(SKIP_NOTHING):
        pytest.skip("needs thawline[text]")
    assert find_spec("transformers") is not None, "transformers is missing"


@pytest.fixture(scope="session")
def model_folder(text_extra: None, tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """Writes a model of that type by the library, with random weights; each folder once."""
    import torch
    from transformers import AutoModelForSequenceClassification, T5EncoderModel

    from trainer.backbones.factory import quiet

    made = dict[str, Path]()

    def make(kind: str, **changes: Any) -> Path:
        key = f"{kind} {changes}"
        if key not in made:
            folder = made[key] = tmp_path_factory.mktemp(kind)
            with torch.random.fork_rng(devices=[]), quiet():
                torch.manual_seed(0)
                auto: Any = AutoModelForSequenceClassification
                config = config_of(kind, **changes)
                whole: Any = T5EncoderModel(config) if kind == "t5" else auto.from_config(config)
                for name, parameter in whole.named_parameters():
                    is_scale = parameter.ndim == 1 and name.endswith("weight")  # some are negative; Gemma's are one and the weight
                    torch.nn.init.normal_(parameter, float(is_scale and not kind.startswith("gemma")), 0.8 if is_scale else 0.2)
                whole.save_pretrained(folder)
            write_tokenizer(folder, pad=1 if FAMILIES[kind].reserved else 0)
        return made[key]

    return make
