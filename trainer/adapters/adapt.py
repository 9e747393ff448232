"""Adapts a StagedModel: which of its parameters are trained, which layers are added, and the network without added layers."""

import copy
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from trainer.adapters.config import EXTENDING, AdapterHyperparameters, frozen_stages
from trainer.adapters.layers import Bottleneck, ExposedAttention
from trainer.models import Infeasible, MissingWeights, StagedModel, UnfitModel
from trainer.order import seed_for


@dataclass(frozen=True, slots=True, kw_only=True)
class Block:
    """The places of a stage that methods change, as paths of modules in the network."""

    attention: tuple[str, ...]
    """Linear layers of the attention, after `exposed` was applied."""
    mlp: tuple[str, ...]
    """Linear layers of the MLP."""
    outputs: Mapping[str, int]
    """Modules whose output [..., D] is added to the residual stream, and D: a bottleneck adapter follows each."""
    exposed: Mapping[str, Callable[[Any], ExposedAttention]] = field(default_factory=dict)
    """Attention modules that read their layers' weights instead of calling the layers, and what replaces each."""


AddPrompt = Callable[[StagedModel, AdapterHyperparameters], Iterable[str]]
"""Adds prompt vectors to a model, and returns the names of the added parameters."""


def adapt(
    model: StagedModel, blocks: Sequence[Block | None], config: AdapterHyperparameters, prompt: AddPrompt | None = None
) -> StagedModel:
    """Add the layers of the config's method, and freeze what it does not train; `blocks` describes each stage of the model.

    Initial values depend on the config's seed alone, and torch's random state is restored. Raises Infeasible for more stages than the
    model has, and UnfitModel for a method that the model does not support.
    """
    frozen = frozen_stages(dict(config), len(model.stages))
    if max(frozen, config.lora_layers) > len(model.stages):
        raise Infeasible(f"the model has {len(model.stages)} stages; lower frozen_layers or lora_layers")
    if config.method == "full":
        return model.freeze(frozen)
    changed = [block for block in blocks[frozen:] if block is not None]
    if not changed and config.method != "bitfit":
        raise UnfitModel(f"{config.method} changes no layer of the model; raise lora_layers, or choose another method")
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed_for(config.seed, "adapters", 0))
        match config.method:
            case "lora" | "dora":
                added = frozenset(_add_low_rank(model.network, changed, config))
                model.merge = merged
            case "adapter":
                added = frozenset(_add_bottlenecks(model.network, changed, config.adapter_size))
            case "bitfit" if not (added := frozenset(_biases(model, frozen))):
                raise Infeasible("the network has no biases that bitfit could train; choose another method")
            case "bitfit":
                pass
            case "prompt" if prompt is not None:
                added = frozenset(prompt(model, config))
            case "prompt":
                raise UnfitModel("prompt tuning needs a text model")
    model.trained = added
    model.extended = config.method in EXTENDING
    return model.freeze(frozen)


def random_stages(model: StagedModel, config: AdapterHyperparameters) -> tuple[nn.Module, ...]:
    """The stages that start from random values. Raises Infeasible if one of them is frozen or does not exist."""
    if 0 < config.reinit_layers > len(model.stages) - config.frozen_layers:
        raise Infeasible(
            f"the last {config.reinit_layers} stages start from random values, but the first {config.frozen_layers} of "
            f"{len(model.stages)} are frozen; lower reinit_layers or frozen_layers"
        )
    return model.stages[len(model.stages) - config.reinit_layers :]


def initial_values(model: StagedModel, config: AdapterHyperparameters) -> dict[str, Tensor]:
    """Copies of the tensors of `random_stages`, by their names in the network, taken before weights are loaded."""
    stages = random_stages(model, config)
    return {name: tensor.detach().clone() for stage in stages for name, tensor in model.tensors_of(stage).items()}


def _add_low_rank(network: nn.Module, blocks: Iterable[Block], config: AdapterHyperparameters) -> Iterator[str]:
    """Wrap the targeted layers by PEFT's, and return the names of the added parameters."""
    LoraConfig, inject = _peft()
    targets = list[str]()
    for block in blocks:
        if config.lora_targets in ("attention", "all"):
            for path, expose in block.exposed.items():
                network.set_submodule(path, expose(network.get_submodule(path)))
            targets += block.attention
        if config.lora_targets in ("mlp", "all"):
            targets += block.mlp
    inject(
        LoraConfig(
            r=config.lora_r,
            lora_alpha=config.lora_alpha,
            lora_dropout=config.lora_dropout,
            use_dora=config.method == "dora",
            target_modules=targets,
            # GPT-2's layers are of the library's Conv1D, whose weights are transposed.
            fan_in_fan_out=any(type(network.get_submodule(path)).__name__ == "Conv1D" for path in targets),
        ),
        network,
    )
    return (name for name, _ in network.named_parameters() if ".lora_" in name)


def _add_bottlenecks(network: nn.Module, blocks: Iterable[Block], size: int) -> Iterator[str]:
    """Add an adapter behind each output of the blocks, beside the module that it follows, whose tensors keep their names."""
    for block in blocks:
        for path, width in block.outputs.items():
            owner, _, name = path.rpartition(".")
            adapter = Bottleneck(width, size)
            network.get_submodule(path).register_forward_hook(adapter.follow)
            network.get_submodule(owner).add_module(f"{name}_adapter", adapter)
            yield from (f"{path}_adapter.{title}" for title, _ in adapter.named_parameters())


def _biases(model: StagedModel, frozen: int) -> Iterator[str]:
    """Names of the biases of layers and norms in the stages that are not frozen."""
    for stage in model.stages[frozen:]:
        yield from (name for name in model.tensors_of(stage) if name.rpartition(".")[2].endswith("bias"))


def merged(network: nn.Module) -> nn.Module:
    """A copy of the network on the CPU, with the low-rank updates added to the weights that they update.

    Its tensors have the names of the network before it was adapted.
    """
    twin = on_host(network)
    layers = {path: module for path, module in twin.named_modules() if hasattr(module, "get_base_layer")}
    for path, layer in layers.items():
        layer.merge()
        twin.set_submodule(path, layer.get_base_layer())
    for path, module in list(twin.named_modules()):
        if isinstance(module, ExposedAttention):
            twin.set_submodule(path, module.restored())
    return twin


def on_host(network: nn.Module) -> nn.Module:
    """A copy of the network on the CPU, made without a copy on its device."""
    memo: dict[int, Any] = {}
    for tensor in (*network.parameters(), *network.buffers()):
        twin = tensor.detach().to("cpu", copy=True)
        memo[id(tensor)] = nn.Parameter(twin, requires_grad=tensor.requires_grad) if isinstance(tensor, nn.Parameter) else twin
    return copy.deepcopy(network, memo)


def _peft() -> tuple[Any, Any]:
    """PEFT's LoraConfig, and its function that wraps layers. Raises MissingWeights if PEFT is not installed."""
    try:
        from peft import LoraConfig, inject_adapter_in_model
    except ModuleNotFoundError as error:
        raise missing_peft(error) from error
    return LoraConfig, inject_adapter_in_model


def missing_peft(error: ModuleNotFoundError) -> MissingWeights:
    """The error of a method that needs PEFT, which another machine may have."""
    return MissingWeights(f"lora, dora and prompt need the package {error.name}, which this machine lacks; install thawline[text]")
