"""The head of every model of the catalogue can be run in lanes."""

import pytest
import torch
from torch import nn

import trainer.tasks.images.catalogue as catalogue
from trainer.heads.ensemble import BatchedHeads, Traits
from trainer.heads.joint import IN_CACHE
from trainer.heads.stack import split_head
from trainer.sequences import dense
from trainer.targets.classes.losses import HeadsCrossEntropy
from trainer.tasks.images.networks.factory import staged
from trainer.tasks.images.networks.families import BY_MODEL

VGGS = tuple(name for name in BY_MODEL if name.startswith("vgg") and name != "vgg11")  # half a gigabyte each, and all vgg11's


@pytest.mark.parametrize("name", [name for name in BY_MODEL if name not in VGGS])
def test_a_lane_answers_as_the_module_does(name: str) -> None:
    with torch.device("meta"):
        model = staged(name, 4, 224)
        model.freeze(len(model.stages)).eval()
        shape = dense(model.forward_prefix(torch.empty(2, 3, 224, 224), len(model.stages))).shape
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model.head.to_empty(device="cpu")
        for layer in model.head.modules():
            if isinstance(layer, nn.Linear | nn.Conv2d | nn.LayerNorm):
                layer.reset_parameters()
        outputs = torch.randn(shape)
    prefix, stack = split_head(model)
    values = {title: tensor.detach()[None] for title, tensor in model.tensors_of(model.head).items()}
    heads = BatchedHeads(stack, values, Traits(dropout=(0.0,), loss=HeadsCrossEntropy(smoothing=torch.zeros(1))), IN_CACHE)
    with torch.no_grad():
        ((_, logits),) = heads.outputs(prefix(outputs))
        assert torch.allclose(logits[0].T, model.head(outputs), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", BY_MODEL)
def test_the_catalogue_says_so(name: str) -> None:
    assert catalogue.load(name).lanes
