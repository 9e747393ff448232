"""The library's networks as ordered stages: the embeddings and each layer, as functions of their input alone.

A stage calls the library's own layer. What the library computes once for all layers (masks, rotations, position biases) each stage
computes from the lengths of its input. Weights that several layers share belong to the first stage that uses them: the others read them,
and register nothing. So a shared weight is frozen exactly if that stage is.
"""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from trainer.backbones.families import FAMILIES
from trainer.pooling import StandardiseTokens, TokenScale
from trainer.sequences import Sequences


class TextStage(nn.Module):
    """A stage. `own` are the modules whose parameters belong to it; `base` is the network, of which it may read more."""

    def __init__(self, base: nn.Module, *own: nn.Module) -> None:
        super().__init__()
        self.own = nn.ModuleList(own)
        self._base = (base,)  # a tuple is not registered

    @property
    def base(self) -> Any:
        """The library's network without a head."""
        return self._base[0]

    def forward(self, given: Sequences) -> Sequences:
        return given.replaced(self.values(given))

    def values(self, given: Sequences) -> Tensor:
        """The input [B, T, ...] → hidden states [B, T, D]."""
        raise NotImplementedError


class Embeddings(TextStage):
    """Ids and segments int64 [B, T, 2] → hidden states [B, T, D]. Segments are ignored by models that have none."""

    def values(self, given: Sequences) -> Tensor:
        ids, segments = given.values.unbind(-1)
        base, config = self.base, self.base.config
        match config.model_type:
            case "bert":
                found = base.embeddings(input_ids=ids, token_type_ids=_known(segments, config))
            case "electra":
                found = base.embeddings(input_ids=ids, token_type_ids=_known(segments, config))
                found = base.embeddings_project(found) if hasattr(base, "embeddings_project") else found
            case "albert":
                found = base.encoder.embedding_hidden_mapping_in(base.embeddings(input_ids=ids, token_type_ids=_known(segments, config)))
            case "roberta" | "xlm-roberta":
                positions = _positions(ids) + config.pad_token_id + 1
                found = base.embeddings(input_ids=ids, token_type_ids=_known(segments, config), position_ids=positions)
            case "mpnet":
                found = base.embeddings(input_ids=ids, position_ids=_positions(ids) + base.embeddings.padding_idx + 1)
            case "deberta-v2":
                found = base.embeddings(input_ids=ids, token_type_ids=_known(segments, config), mask=given.mask)
            case "gpt2":
                found = base.drop(base.wte(ids) + base.wpe(_positions(ids)))
            case "t5":
                found = base.dropout(base.embed_tokens(ids))
            case "distilbert" | "modernbert":
                found = base.embeddings(input_ids=ids)
            case _:
                found = base.embed_tokens(ids)
        values: Tensor = found
        return values


class EncoderLayer(TextStage):
    """A layer with attention over all tokens of the text, called with a mask alone; `repeated` times if layers share their weights."""

    def __init__(self, base: nn.Module, layer: nn.Module, repeated: int = 1) -> None:
        super().__init__(base, layer)
        self.repeated = repeated

    def values(self, given: Sequences) -> Tensor:
        values, mask = given.values, given.mask[:, None, None, :]
        for _ in range(self.repeated):
            values = self.own[0](values, attention_mask=mask)
        return values


class MPNetLayer(TextStage):
    """A layer of MPNet; the bias by relative position is the same for all layers."""

    def values(self, given: Sequences) -> Tensor:
        bias = self.base.encoder.compute_position_bias(given.values[:1])
        found: Tensor = self.own[0](given.values, _added(given.mask[:, None, None, :], given.values), bias)[0]
        return found


class DebertaLayer(TextStage):
    """A layer of DeBERTa; the embeddings of relative positions are the same for all layers. A convolution may follow the first one."""

    def __init__(self, base: nn.Module, layer: nn.Module, conv: nn.Module | None, *shared: nn.Module) -> None:
        super().__init__(base, layer, *(() if conv is None else (conv,)), *shared)
        self.convolves = conv is not None

    def values(self, given: Sequences) -> Tensor:
        encoder, mask = self.base.encoder, given.mask
        positions, embeddings = encoder.get_rel_pos(given.values), encoder.get_rel_embedding()
        found: Tensor = self.own[0](given.values, encoder.get_attention_mask(mask), relative_pos=positions, rel_embeddings=embeddings)[0]
        if self.convolves:  # over neighbours, so the padding must be zero
            found = encoder.conv(given.values.masked_fill(~mask[:, :, None], 0), found, mask.long())
        return found


class ModernBertLayer(TextStage):
    """A layer of ModernBERT, with attention over all tokens or over a window."""

    def values(self, given: Sequences) -> Tensor:
        layer, values, mask = self.own[0], given.values, given.mask[:, None, None, :]
        if layer.attention_type == "sliding_attention":
            mask = mask & (_distances(values).abs() <= self.base.config.sliding_window)
        rotation = self.base.rotary_emb(values, _positions(values), layer.attention_type)
        found: Tensor = layer(values, attention_mask=mask, position_embeddings=rotation)
        return found


class T5Layer(TextStage):
    """A layer of T5's encoder; the bias by relative position is that of the first layer."""

    def values(self, given: Sequences) -> Tensor:
        length = given.values.shape[1]
        bias = self.base.block[0].layer[0].SelfAttention.compute_bias(length, length, device=given.device)
        found: Tensor = self.own[0](given.values, attention_mask=given.mask[:, None, None, :], position_bias=bias)[0]
        return found


class DecoderLayer(TextStage):
    """A layer with causal attention, over all earlier tokens or over a window. Padding needs no mask: it follows all tokens of a text."""

    def __init__(self, base: nn.Module, layer: nn.Module, place: int) -> None:
        super().__init__(base, layer)
        self.place = place

    @property
    def attention(self) -> str:
        """`full_attention` or `sliding_attention`."""
        config = self.base.config
        if config.model_type == "mistral":
            return "full_attention" if config.sliding_window is None else "sliding_attention"
        kinds = getattr(config, "layer_types", None)
        return "full_attention" if kinds is None else str(kinds[self.place])

    def values(self, given: Sequences) -> Tensor:
        values, layer = given.values, self.own[0]
        if self.base.config.model_type == "gpt2":
            return layer(values, None, None)  # type: ignore[no-any-return]
        rotation = self.base.rotary_emb(values, _positions(values), *self._kind)
        return layer(values, attention_mask=self._mask(given), position_embeddings=rotation)  # type: ignore[no-any-return]

    @property
    def _kind(self) -> tuple[str, ...]:
        return (self.attention,) if self.base.config.model_type == "gemma3_text" else ()

    def _mask(self, given: Sequences) -> Tensor | None:
        """bool or, for the library's plain attention, numbers to add; None where the causal mask of torch's attention suffices."""
        config, values = self.base.config, given.values
        window = config.sliding_window if self.attention == "sliding_attention" else None
        if getattr(config, "use_bidirectional_attention", None):
            near = given.mask[:, None, None, :]
            return near if window is None else near & (_distances(values).abs() < window)
        is_plain = config._attn_implementation == "eager"
        if not is_plain and (window is None or values.shape[1] <= window):
            return None
        distances = _distances(values)
        seen = (distances >= 0) if window is None else (distances >= 0) & (distances < window)
        return _added(seen[None, None], values) if is_plain else seen[None, None]


def _positions(values: Tensor) -> Tensor:
    """int64 [1, T]"""
    return torch.arange(values.shape[1], device=values.device)[None]


def _distances(values: Tensor) -> Tensor:
    """The position of the query less that of the key, int64 [T, T]."""
    places = torch.arange(values.shape[1], device=values.device)
    return places[:, None] - places


def _added(mask: Tensor, like: Tensor) -> Tensor:
    """0 where the mask is true, else the lowest number."""
    return torch.zeros(mask.shape, dtype=like.dtype, device=like.device).masked_fill_(~mask, torch.finfo(like.dtype).min)


def _known(segments: Tensor, config: Any) -> Tensor:
    """The segments, or 0 in a model that has no second one."""
    return segments if config.type_vocab_size > 1 else torch.zeros_like(segments)


def stages_of(base: Any, names: tuple[str, ...]) -> Mapping[str, nn.Module]:
    """The stages of the library's network without head, by the names of `TextModelInfo.stage_names`."""
    kind = base.config.model_type
    match kind:
        case "bert" | "roberta" | "xlm-roberta" | "electra":
            layers: list[nn.Module] = [EncoderLayer(base, layer) for layer in base.encoder.layer]
        case "distilbert":
            layers = [EncoderLayer(base, layer) for layer in base.transformer.layer]
        case "albert":
            count, groups = base.config.num_hidden_layers, base.encoder.albert_layer_groups
            own = [int(place / (count / len(groups))) for place in range(count)]  # as the library assigns them
            layers = [EncoderLayer(base, group, own.count(place)) for place, group in enumerate(groups)]
        case "mpnet":
            encoder = base.encoder
            shared = [[encoder.relative_attention_bias], *([] for _ in encoder.layer[1:])]
            layers = [MPNetLayer(base, layer, *more) for layer, more in zip(encoder.layer, shared, strict=True)]
        case "deberta-v2":
            encoder = base.encoder
            more = [getattr(encoder, name) for name in ("rel_embeddings", "LayerNorm") if hasattr(encoder, name)]
            layers = [DebertaLayer(base, layer, None) for layer in encoder.layer[1:]]
            layers.insert(0, DebertaLayer(base, encoder.layer[0], encoder.conv, *more))
        case "modernbert":
            layers = [ModernBertLayer(base, layer) for layer in base.layers]
        case "t5":
            layers = [T5Layer(base, layer) for layer in base.block]
        case "gpt2":
            layers = [DecoderLayer(base, layer, place) for place, layer in enumerate(base.h)]
        case _:
            layers = [DecoderLayer(base, layer, place) for place, layer in enumerate(base.layers)]
    return dict(zip(names, (Embeddings(base, *_embeddings(base)), *layers), strict=True))


def _embeddings(base: Any) -> list[nn.Module]:
    """The modules of the first stage."""
    match base.config.model_type:
        case "albert":
            return [base.embeddings, base.encoder.embedding_hidden_mapping_in]
        case "electra":
            return [base.embeddings, *([base.embeddings_project] if hasattr(base, "embeddings_project") else [])]
        case "gpt2":
            return [base.wte, base.wpe, base.drop]
        case "t5":
            return [base.embed_tokens, base.dropout]
        case kind if FAMILIES[kind].causal:
            return [base.embed_tokens]
        case _:
            return [base.embeddings]


def final_norm(base: Any) -> tuple[nn.Module, StandardiseTokens, TokenScale] | None:
    """The normalisation behind the last layer and its two halves; None for a model without one."""
    match base.config.model_type:
        case "modernbert":
            norm = base.final_norm
        case "gpt2":
            norm = base.ln_f
        case "t5":
            norm = base.final_layer_norm
        case kind if FAMILIES[kind].causal:
            norm = base.norm
        case _:
            return None
    is_layer = isinstance(norm, nn.LayerNorm)
    eps = norm.variance_epsilon if hasattr(norm, "variance_epsilon") else norm.eps
    offset = 1.0 if base.config.model_type.startswith("gemma") else 0.0  # Gemma's scale is one and the weight
    return norm, StandardiseTokens("layer" if is_layer else "rms", eps), TokenScale(norm, offset)
