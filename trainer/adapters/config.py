"""The hyperparameters of parameter-efficient fine-tuning, and which stages they leave frozen. Imports no torch."""

from collections.abc import Collection, Mapping
from types import MappingProxyType
from typing import Any, Literal, get_args

from pydantic import Field, FiniteFloat

from trainer.configuration import Hyperparameters

Method = Literal["full", "lora", "dora", "bitfit", "prompt", "adapter"]
METHODS: tuple[str, ...] = get_args(Method)
LOW_RANK = ("lora", "dora")  # methods that PEFT's LoRA layers implement
EXTENDING = ("adapter", "prompt")  # methods that add layers which cannot be merged into the network
OF_LAYERS = (*LOW_RANK, "bitfit", "adapter")  # methods that train something in each stage

# Fields that earlier versions lacked are left out of JSON while they have their default, so that digests of configs do not change.


class AdapterHyperparameters(Hyperparameters):
    """What is trained of a pretrained transformer besides the head, which is always trained."""

    method: Method = Field(
        default="full",
        exclude_if=lambda method: method == "full",
        description="full: all weights above frozen_layers; lora and dora: low-rank updates of the linear layers; bitfit: biases; "
        "adapter: small layers behind attention and MLP; prompt: vectors before the tokens of a text",
    )
    lora_r: int = Field(default=8, ge=1, le=1_024, exclude_if=lambda rank: rank == 8, description="rank of the updates of lora and dora")
    lora_alpha: int = Field(
        default=16, ge=1, le=65_536, exclude_if=lambda alpha: alpha == 16, description="the updates are multiplied by lora_alpha / lora_r"
    )
    lora_dropout: FiniteFloat = Field(
        default=0.0, ge=0, lt=1, exclude_if=lambda rate: rate == 0, description="dropout of the input of the updates of lora and dora"
    )
    lora_targets: Literal["attention", "mlp", "all"] = Field(
        default="all", exclude_if=lambda targets: targets == "all", description="the linear layers that lora and dora update"
    )
    lora_layers: int = Field(
        default=0,
        ge=0,
        le=10_000,
        exclude_if=lambda layers: layers == 0,
        description="lora, dora, bitfit and adapter train only the last m stages, and the stages below are frozen; 0: all stages",
    )
    prompt_tokens: int = Field(default=20, ge=1, le=512, exclude_if=lambda count: count == 20, description="vectors of prompt")
    adapter_size: int = Field(
        default=64, ge=1, le=8_192, exclude_if=lambda size: size == 64, description="width of the layers that adapter adds"
    )
    layer_decay: FiniteFloat = Field(
        default=1.0,
        gt=0,
        le=1,
        exclude_if=lambda decay: decay == 1,
        description="the learning rate of a stage is that of the stage above times this; that of the head is lr",
    )
    reinit_layers: int = Field(
        default=0,
        ge=0,
        le=10_000,
        exclude_if=lambda layers: layers == 0,
        description="number of stages, counted from the head, that start from random values instead of the pretrained ones",
    )


CONDITIONS: Mapping[str, Mapping[str, tuple[str, ...]]] = MappingProxyType(
    {
        "frozen_layers": {"method": ("full",)},
        "reinit_layers": {"method": ("full",)},
        **{name: {"method": LOW_RANK} for name in ("lora_r", "lora_alpha", "lora_dropout", "lora_targets")},
        "lora_layers": {"method": OF_LAYERS},
        "prompt_tokens": {"method": ("prompt",)},
        "adapter_size": {"method": ("adapter",)},
    }
)
"""`trainer.tasks.capabilities.FineTuningMethods.conditions` of a task with these hyperparameters."""

SETTINGS = frozenset(AdapterHyperparameters.model_fields) - frozenset(Hyperparameters.model_fields)
"""`FineTuningMethods.settings` of a task with these hyperparameters."""

FREEZING = ("method", "frozen_layers", "lora_layers")
"""`trainer.tasks.capabilities.FineTuningMethods.freezing` of a task with these hyperparameters."""

SPELLINGS: Mapping[str, str] = MappingProxyType(
    {
        "method": "peft_method peft_type tuner tuning_method finetuning_method finetuning_type",
        "lora_r": "r rank lora_rank",
        "lora_targets": "target_modules lora_target lora_target_modules",
        "lora_layers": "layers_to_transform lora_num_layers num_lora_layers",
        "prompt_tokens": "num_virtual_tokens prompt_length",
        "adapter_size": "bottleneck_size bottleneck_dim adapter_dim",
        "layer_decay": "llrd layerwise_lr_decay layer_lr_decay layer_wise_lr_decay lr_layer_decay",
        "reinit_layers": "reinit_n_layers num_reinit_layers",
    }
)
"""Names of these hyperparameters in other tools."""


def frozen_stages(values: Mapping[str, Any], stages: int) -> int:
    """The number of leading stages that are frozen as a whole, of a transformer whose first stage is its embeddings.

    Embeddings have no linear layers of attention or MLP, so lora, dora and adapter leave them frozen. They have biases, and prompt
    changes their output.
    """
    method, last = values["method"], values["lora_layers"]
    match method:
        case "full":
            return int(values["frozen_layers"])
        case "prompt":
            return 0
        case "bitfit":
            return max(0, stages - last) if last else 0
        case _:
            return max(1, stages - last) if last else 1


def fault_of(name: str, value: object, *, model: str, stages: int, methods: Collection[str]) -> tuple[str, str] | None:
    """Code and message of a fault if a model with these stages cannot be trained with this value of the hyperparameter.

    `methods` are the methods that the model supports besides full.
    """
    if name == "method" and value in METHODS and value not in ("full", *methods):
        known = f"choose one of full, {', '.join(methods)}" if methods else "write full, or choose a transformer"
        return "unfit_method", f"{model} cannot be trained with this method; {known}"
    if name in ("lora_layers", "reinit_layers") and isinstance(value, int) and value > stages:
        return "too_many_stages", f"the model has {stages} stages; lower this to {stages} or less"
    return None
