"""Heads of text models are trained together as each alone, also those without biases."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F

from tests.trainer.backbones.test_stages import OUTPUTS, POOLINGS, after, texts
from trainer.backbones.description import AutoPooling, describe_folder
from trainer.backbones.factory import build
from trainer.backbones.families import FAMILIES
from trainer.heads.ensemble import BatchedHeads, FrozenBuffers, Traits
from trainer.heads.joint import IN_CACHE, JOINT, Execution
from trainer.heads.layers import Noise
from trainer.heads.stack import UnsupportedHead, split_head
from trainer.pooling import Pooling
from trainer.stopwatch import Stopwatch
from trainer.targets.classes.losses import HeadsCrossEntropy

CASES: list[tuple[str, AutoPooling]] = [(kind, "auto") for kind in FAMILIES]
CASES += [(kind, pooling) for kind in ("bert", "gpt2", "gemma", "modernbert", "t5") for pooling in POOLINGS]


@pytest.mark.parametrize("execution", [IN_CACHE, JOINT], ids=["in cache", "joint"])
@pytest.mark.parametrize(("kind", "pooling"), CASES)
def test_outputs_and_gradients_are_those_of_the_module(
    kind: str, pooling: AutoPooling, execution: Execution, model_folder: Callable[..., Path]
) -> None:
    model = build(model_folder(kind), OUTPUTS, pooling=pooling)
    assert describe_folder(model_folder(kind)).trains_together(pooling)
    model.freeze(len(model.stages)).double().eval()
    prefix, stack = split_head(model)
    assert isinstance(prefix[0], Pooling)  # type: ignore[index]
    heads = [model.fresh_head(seed) for seed in (1, 2)]
    values = {
        name: torch.stack([own.get(name, tensor.detach()).double() for own in heads])
        for name, tensor in model.tensors_of(model.head).items()
    }
    for name, value in values.items():
        if value.ndim == 2 and name.endswith("weight"):
            value[1].neg_()  # a scale whose sign changes the order of the channel's values
    traits = Traits(dropout=(0.0, 0.0), loss=HeadsCrossEntropy(smoothing=torch.zeros(2).double()))
    batched = BatchedHeads(stack, values, traits, execution)
    with torch.no_grad():
        states = after(model, texts())
        pooled = prefix(states)
    targets = torch.arange(len(pooled)) % OUTPUTS
    batched.learn(pooled, targets, Noise(0, torch.device("cpu")), Stopwatch())
    outputs = torch.cat([found for _, found in batched.outputs(pooled)])
    for place in range(2):
        model.network.load_state_dict({name: value[place] for name, value in values.items()}, strict=False)
        model.zero_grad()
        expected = model.head(states)
        F.cross_entropy(expected, targets).backward()  # type: ignore[no-untyped-call]
        assert torch.allclose(outputs[place].T, expected, rtol=1e-6, atol=1e-7)
        for name, parameter in batched.parameters.items():
            gradient = model.network.get_parameter(name).grad
            assert gradient is not None and gradient.any()
            assert torch.allclose(parameter.gradient[place], gradient, rtol=1e-5, atol=1e-7), name


def test_a_checkpoint_has_no_buffers_that_the_network_computes(model_folder: Callable[..., Path]) -> None:
    """Such as the frequencies of rotary embeddings: the network would refuse them as unknown names."""
    network = build(model_folder("llama"), OUTPUTS).network
    assert any(True for _ in network.named_buffers())
    assert FrozenBuffers(network).on_host == {}


def test_a_head_with_another_activation_is_trained_alone(model_folder: Callable[..., Path]) -> None:
    folder = model_folder("deberta-v2", pooler_hidden_act="silu")
    assert not describe_folder(folder).trains_together("auto") and describe_folder(folder).trains_together("mean")
    with pytest.raises(UnsupportedHead):
        split_head(build(folder, OUTPUTS))
