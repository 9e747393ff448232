"""The types of text models that can be trained: names in their configuration and in their weights. Imports no torch."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Literal

import trainer.adapters.config as adapters

PoolingKind = Literal["cls", "mean", "last", "max"]
HeadForm = Literal["pooler", "dense", "linear", "prediction"]
"""Layers of the library's own head behind the pooling.

pooler and dense: a linear layer and an activation before the last layer; prediction: also a normalisation; linear: the last layer alone,
without bias.
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class TextFamily:
    """A type of models. Patterns are searched in the names of tensors."""

    defaults: Mapping[str, int]  # the library's values of the sizes below, which a config.json may leave out
    hidden: str = "hidden_size"  # names in config.json
    layers: str = "num_hidden_layers"
    positions: str | None = "max_position_embeddings"  # None: any length
    reserved: int = 0  # positions that no token has
    word: str  # the embedding of tokens
    embeddings: str  # all tensors of the first stage
    layer: str  # tensors of the layer whose number is the group
    shared: str | None = None  # tensors that all layers read, which belong to the first layer
    norm: str | None = None  # the normalisation behind the last layer, which belongs to the head
    causal: bool = False
    pooling: PoolingKind = "cls"  # of the library's own head
    head: HeadForm = "linear"
    biases: bool = True  # whether the layers of published models have biases

    @property
    def methods(self) -> tuple[str, ...]:
        """Methods of fine-tuning besides full."""
        return ("lora", "dora", "adapter", "prompt", *(("bitfit",) if self.biases else ()))

    def size(self, config: Mapping[str, object], name: str) -> object:
        """The value of a size in config.json, or the library's default."""
        return config.get(name, self.defaults.get(name))

    @property
    def stacked(self) -> bool:
        """Whether the layers of the configuration share weights in groups; each group is one stage."""
        return "num_hidden_groups" in self.defaults


def _sizes(vocabulary: int, hidden: int, layers: int, positions: int, **more: int) -> Mapping[str, int]:
    return MappingProxyType(
        {"vocab_size": vocabulary, "hidden_size": hidden, "num_hidden_layers": layers, "max_position_embeddings": positions, **more}
    )


_EMBEDDINGS, _WORD = r"(?:^|\.)embeddings\.", r"(?:^|\.)embeddings\.word_embeddings\.weight$"
_ENCODER_LAYER, _DECODER_LAYER = r"(?:^|\.)encoder\.layer\.(\d+)\.", r"(?:^|\.)layers\.(\d+)\."


def _encoder(
    defaults: Mapping[str, int],
    head: HeadForm,
    *,
    reserved: int = 0,
    layer: str = _ENCODER_LAYER,
    embeddings: str = _EMBEDDINGS,
    shared: str | None = None,
) -> TextFamily:
    return TextFamily(defaults=defaults, word=_WORD, embeddings=embeddings, layer=layer, shared=shared, head=head, reserved=reserved)


def _decoder(defaults: Mapping[str, int], *, biases: bool = False) -> TextFamily:
    embedding = r"(?:^|\.)embed_tokens\.weight$"
    return TextFamily(
        defaults=defaults,
        word=embedding,
        embeddings=embedding,
        layer=_DECODER_LAYER,
        norm=r"(?:^|\.)norm\.weight$",
        causal=True,
        biases=biases,
        pooling="last",
    )


FAMILIES: Mapping[str, TextFamily] = MappingProxyType(
    {
        "bert": _encoder(_sizes(30522, 768, 12, 512), "pooler"),
        "roberta": _encoder(_sizes(50265, 768, 12, 512), "dense", reserved=2),
        "xlm-roberta": _encoder(_sizes(30522, 768, 12, 512), "dense", reserved=2),
        "distilbert": TextFamily(
            defaults=MappingProxyType({"vocab_size": 30522, "dim": 768, "n_layers": 6, "max_position_embeddings": 512}),
            hidden="dim",
            layers="n_layers",
            word=_WORD,
            embeddings=_EMBEDDINGS,
            layer=r"(?:^|\.)transformer\.layer\.(\d+)\.",
            head="dense",
        ),
        "albert": _encoder(
            _sizes(30000, 4096, 12, 512, num_hidden_groups=1),
            "pooler",
            embeddings=rf"{_EMBEDDINGS}|(?:^|\.)encoder\.embedding_hidden_mapping_in\.",
            layer=r"(?:^|\.)encoder\.albert_layer_groups\.(\d+)\.",
        ),
        "electra": _encoder(_sizes(30522, 256, 12, 512), "dense", embeddings=rf"{_EMBEDDINGS}|(?:^|\.)embeddings_project\."),
        "deberta-v2": _encoder(_sizes(128100, 1536, 24, 512), "pooler", shared=r"(?:^|\.)encoder\.(?:rel_embeddings|LayerNorm|conv)\."),
        "mpnet": _encoder(_sizes(30527, 768, 12, 512), "dense", reserved=2, shared=r"(?:^|\.)encoder\.relative_attention_bias\."),
        "modernbert": TextFamily(
            biases=False,
            defaults=_sizes(50368, 768, 22, 8192),
            word=r"(?:^|\.)embeddings\.tok_embeddings\.weight$",
            embeddings=_EMBEDDINGS,
            layer=_DECODER_LAYER,
            norm=r"(?:^|\.)final_norm\.",
            head="prediction",
        ),
        "gpt2": TextFamily(
            defaults=MappingProxyType({"vocab_size": 50257, "n_embd": 768, "n_layer": 12, "n_positions": 1024}),
            hidden="n_embd",
            layers="n_layer",
            positions="n_positions",
            word=r"(?:^|\.)wte\.weight$",
            embeddings=r"(?:^|\.)w[tp]e\.weight$",
            layer=r"(?:^|\.)h\.(\d+)\.",
            norm=r"(?:^|\.)ln_f\.",
            causal=True,
            pooling="last",
        ),
        "llama": _decoder(_sizes(32000, 4096, 32, 2048)),
        "qwen2": _decoder(_sizes(151936, 4096, 32, 32768), biases=True),
        "qwen3": _decoder(_sizes(151936, 4096, 32, 32768)),
        "gemma": _decoder(_sizes(256000, 3072, 28, 8192)),
        "gemma2": _decoder(_sizes(256000, 2304, 26, 8192)),
        "gemma3_text": _decoder(_sizes(262208, 2304, 26, 131072)),
        "mistral": _decoder(_sizes(32000, 4096, 32, 131072)),
        "smollm3": _decoder(_sizes(128256, 2048, 36, 32768)),
        "t5": TextFamily(
            biases=False,
            defaults=MappingProxyType({"vocab_size": 32128, "d_model": 512, "num_layers": 6}),
            hidden="d_model",
            layers="num_layers",
            positions=None,
            word=r"^(?:encoder\.embed_tokens|shared)\.weight$",
            embeddings=r"^(?:encoder\.embed_tokens|shared)\.weight$",
            layer=r"^encoder\.block\.(\d+)\.",
            norm=r"^encoder\.final_layer_norm\.",
            pooling="mean",
            head="linear",
        ),
    }
)
"""By `model_type` of config.json. Of T5 only the encoder is trained; its own head would need the decoder."""

BUFFERS = re.compile(r"(?:^|\.)(?:position_ids|token_type_ids|inv_freq|masked_bias)$|\.attn\.bias$")
"""Tensors of old files that are no parameters."""


def fault_of(name: str, value: object, *, model_type: str, stages: int, positions: int | None) -> tuple[str, str] | None:
    """Code and message of a fault if a model with these stages and positions cannot be trained with this value of the hyperparameter."""
    methods = FAMILIES[model_type].methods
    if (own := adapters.fault_of(name, value, model=f"a model of type {model_type}", stages=stages, methods=methods)) is not None:
        return own
    if name != "max_length" or type(value) is not int or positions is None or value <= positions:
        return None
    return "text_too_long", f"the model has positions for {positions:,} tokens; lower this to {positions} or less"
