"""Builds a text model from a folder in Hugging Face's format: its network as stages, its weights, and a new head."""

import logging
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn

from trainer.backbones.description import AutoPooling, TextModelInfo, UnfitFolder, describe_folder
from trainer.backbones.hub import MissingExtra
from trainer.backbones.stages import final_norm, stages_of
from trainer.models import MissingWeights, StagedModel, UnfitModel, UnfitWeights
from trainer.pooling import Pooling

PLAIN_ATTENTION = ("mpnet", "deberta-v2", "gemma2")  # types for which the library has no scaled_dot_product_attention
WITH_POOLER = ("bert", "roberta", "xlm-roberta", "albert", "mpnet")  # types whose network has a pooler unless that is declined
MOST_PARAMETERS = 2**34
NAMED = 5


class PooledText(nn.Module):
    """A network of the library without a head, and a head of one linear layer. `whole` is the object that the library can save."""

    def __init__(self, whole: Any, outputs: int) -> None:
        super().__init__()
        self.backbone: Any = whole.encoder if whole.config.model_type == "t5" else whole
        self.classifier = nn.Linear(whole.config.hidden_size, outputs)
        self._whole = (whole,)

    @property
    def whole(self) -> Any:
        """The library's object; it shares its parameters with `backbone`."""
        return self._whole[0]


def describe(folder: Path) -> TextModelInfo:
    """The model in the folder. Raises MissingWeights or UnfitWeights."""
    try:
        return describe_folder(folder)
    except UnfitFolder as error:
        kind = MissingWeights if error.is_missing else UnfitWeights
        raise kind(f"the model folder {folder} cannot be used: {error}") from None


def build(
    folder: Path,
    outputs: int,
    *,
    pooling: AutoPooling = "auto",
    dropout: float = 0.0,
    seed: int = 0,
    weights: Literal["DEFAULT", "random"] = "DEFAULT",
) -> StagedModel:
    """The model on the CPU in float32, with the folder's weights or random ones, and a new head; nothing is frozen.

    Equal arguments give models that are equal bit for bit; the head depends on seed and weights alone. Torch's random state is restored.
    The dropout is that of the head; in the stages it is what config.json states. Raises UnfitModel, MissingWeights and UnfitWeights.
    """
    info = describe(folder)
    own = info.has_own_head(pooling)
    with torch.random.fork_rng(devices=[]), quiet():
        torch.default_generator.manual_seed(seed)
        network, missing = _network(folder, info, outputs, own_head=own, random=weights == "random")
    base = _base_of(network)
    head = nn.Sequential(*_pooled(base, info, pooling), *_layers(network, info, own_head=own, dropout=dropout))
    model = StagedModel(network, stages_of(base, info.stage_names), head)
    _require_parts(model)
    last = {name for name, tensor in network.named_parameters() if any(tensor is one for one in list(head)[-1].parameters())}
    norm = final_norm(base)
    constant = set() if norm is None else set(_names(network, norm[0]))
    if weights == "random":
        model.drawn = frozenset(network.state_dict().keys() - constant)
    else:
        model.drawn = frozenset(_accepted(folder, model, missing, last) | last)
    network.load_state_dict(model.fresh_head(seed), strict=False)
    return model


def _network(folder: Path, info: TextModelInfo, outputs: int, *, own_head: bool, random: bool) -> tuple[nn.Module, set[str]]:
    """The network, and the names of its tensors that the file does not contain in that shape."""
    try:
        import transformers
        from transformers import AutoConfig, AutoModel, AutoModelForSequenceClassification, AutoModelForTextEncoding
    except ImportError:
        raise MissingExtra from None
    del transformers
    try:
        config: Any = AutoConfig.from_pretrained(folder, trust_remote_code=False, local_files_only=True)
    except Exception as error:  # validation errors of many types
        raise UnfitWeights(f"the model folder {folder} cannot be used: its config.json is invalid ({_line(error)})") from None
    config.num_labels = outputs
    settings: dict[str, Any] = {"attn_implementation": "eager" if info.model_type in PLAIN_ATTENTION else "sdpa", "dtype": torch.float32}
    if own_head:
        kind: Any = AutoModelForSequenceClassification
    else:
        kind = AutoModelForTextEncoding if info.model_type == "t5" else AutoModel
        settings |= {"add_pooling_layer": False} if info.model_type in WITH_POOLER else {}
    try:
        _refuse_absurd(kind, config, settings, info)
        if random:
            found, loading = kind.from_config(config, trust_remote_code=False, **settings), dict[str, Any]()
        else:
            found, loading = kind.from_pretrained(
                folder, config=config, use_safetensors=True, trust_remote_code=False, local_files_only=True, output_loading_info=True,
                ignore_mismatched_sizes=True, **settings,
            )  # fmt: skip
    except (UnfitModel, MemoryError):
        raise
    except Exception as error:  # the library raises many types for files that do not fit
        raise UnfitWeights(f"the model folder {folder} cannot be used: the library does not load it ({_line(error)})") from None
    found.float().requires_grad_(True)
    missing = {str(name) for name in loading.get("missing_keys", ())}
    missing |= {str(one[0] if isinstance(one, tuple) else one) for one in loading.get("mismatched_keys", ())}
    if own_head:
        return found, missing
    return PooledText(found, outputs), {
        f"backbone.{name.removeprefix('encoder.') if info.model_type == 't5' else name}" for name in missing
    }


def _refuse_absurd(kind: Any, config: Any, settings: Mapping[str, Any], info: TextModelInfo) -> None:
    """Raises UnfitWeights for a configuration that asks for much more memory than the weights in the folder need."""
    with torch.device("meta"):
        outline = kind.from_config(config, trust_remote_code=False, **settings)
    wanted, found = sum(tensor.numel() for tensor in outline.parameters()), sum(info.stage_parameters)
    hidden = info.hidden_size
    if wanted > min(MOST_PARAMETERS, found + 4 * hidden * hidden + hidden * (config.num_labels + 8) + config.num_labels):
        raise UnfitWeights(f"its config.json states {wanted:,} parameters, its weights have {found:,}; download both again")


def _base_of(network: Any) -> Any:
    """The library's network without a head."""
    return network.backbone if isinstance(network, PooledText) else getattr(network, network.base_model_prefix)


def _pooled(base: Any, info: TextModelInfo, pooling: AutoPooling) -> Iterator[nn.Module]:
    """Pooling, and the two halves of the final normalisation."""
    kind, norm = info.pooling_of(pooling), final_norm(base)
    if pooling == "auto" and info.model_type == "modernbert":
        kind = base.config.classifier_pooling
    if norm is None:
        yield Pooling(kind)
        return
    _, standardise, scale = norm
    scale.extremes = kind == "max"
    yield from (Pooling(kind, standardise), scale)


def _layers(network: Any, info: TextModelInfo, *, own_head: bool, dropout: float) -> Iterator[nn.Module]:
    """The layers behind the pooling, in the library's order; with one dropout rate for all."""
    if not own_head:
        yield from (nn.Dropout(dropout), network.classifier)
        return
    match info.model_type:
        case "bert":
            yield from (network.bert.pooler.dense, nn.Tanh(), nn.Dropout(dropout), network.classifier)
        case "albert":
            yield from (network.albert.pooler, nn.Tanh(), nn.Dropout(dropout), network.classifier)
        case "roberta" | "xlm-roberta" | "mpnet":
            own = network.classifier
            yield from (nn.Dropout(dropout), own.dense, nn.Tanh(), nn.Dropout(dropout), own.out_proj)
        case "electra":
            own = network.classifier
            yield from (nn.Dropout(dropout), own.dense, nn.GELU(), nn.Dropout(dropout), own.out_proj)
        case "distilbert":
            yield from (network.pre_classifier, nn.ReLU(), nn.Dropout(dropout), network.classifier)
        case "deberta-v2":
            yield from (network.pooler.dense, _activation(network.config.pooler_hidden_act), nn.Dropout(dropout), network.classifier)
        case "modernbert":
            own = network.head
            activation = _activation(network.config.classifier_activation)
            yield from (own.dense, activation, own.norm, nn.Dropout(dropout), network.classifier)
        case _:
            yield from (nn.Dropout(dropout), network.score)


def _activation(name: str) -> nn.Module:
    """torch's module where there is one, since `trainer.heads` has gradients for some of them; else the library's."""
    known: dict[str, type[nn.Module]] = {"gelu": nn.GELU, "tanh": nn.Tanh, "relu": nn.ReLU}
    if name in known:
        return known[name]()
    from transformers.activations import ACT2FN

    found: nn.Module = ACT2FN[name]
    return found


def _require_parts(model: StagedModel) -> None:
    """Raises RuntimeError unless each parameter is in exactly one part: in two, thawing one would thaw the other."""
    parts = [{id(tensor) for tensor in part.parameters()} for part in (*model.stages, model.head)]
    if sum(map(len, parts)) != len(set().union(*parts)) or {id(tensor) for tensor in model.network.parameters()} != set().union(*parts):
        raise RuntimeError(f"the parameters of {type(model.network).__name__} are not divided among its stages")


def _accepted(folder: Path, model: StagedModel, missing: Collection[str], last: Collection[str]) -> set[str]:
    """The tensors that keep their initial values: those of the head. Raises UnfitWeights if a stage lacks one, or has infinite values."""
    tensors = model.network.state_dict()
    head = model.tensors_of(model.head).keys()
    faults = {
        "missing or of another shape": sorted(name for name in missing if name not in head),
        "not finite": sorted(name for name, tensor in tensors.items() if name not in last and not _is_finite(tensor)),
    }
    if found := [f"{len(names)} {kind} ({_some(names)})" for kind, names in faults.items() if names]:
        raise UnfitWeights(f"the tensors in {folder} do not fit its config.json: {'; '.join(found)}; download both again")
    return set(missing)


def _is_finite(tensor: Tensor) -> bool:
    return not tensor.is_floating_point() or bool(tensor.isfinite().all())


def _names(network: nn.Module, module: nn.Module) -> Iterator[str]:
    own = {id(tensor) for tensor in module.parameters()}
    return (name for name, tensor in network.named_parameters() if id(tensor) in own)


def _some(names: list[str]) -> str:
    return ", ".join(name[:80] for name in names[:NAMED]) + (", …" if len(names) > NAMED else "")


def _line(error: BaseException) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0][:300]


@contextmanager
def quiet() -> Iterator[None]:
    """Suppresses the library's reports, whose subjects this module checks itself, and its progress bars."""
    try:
        from transformers.utils import logging as reports
    except ImportError:
        raise MissingExtra from None
    level, bars = reports.get_verbosity(), reports.is_progress_bar_enabled()
    reports.set_verbosity(logging.CRITICAL)
    reports.disable_progress_bar()  # type: ignore[no-untyped-call]
    try:
        yield
    finally:
        reports.set_verbosity(level)
        if bars:
            reports.enable_progress_bar()  # type: ignore[no-untyped-call]
