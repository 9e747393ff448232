"""Every model: its stages are torchvision's network, cut without a rest, and run to the same result, bit for bit."""

import copy
import re
from types import SimpleNamespace

import pytest
import torch
import torchvision

import trainer.tasks.images.catalogue as catalogue
from trainer.models import StagedModel
from trainer.tasks.images.networks.factory import staged
from trainer.tasks.images.networks.families import BY_MODEL

STAGES = {
    "squeezenet1_0": 9, "squeezenet1_1": 9, "resnet18": 9, "resnet34": 17, "resnet50": 17, "resnet152": 51, "vgg11": 8, "vgg16": 13,
    "vgg16_bn": 13, "vgg19": 16, "vit_b_16": 13, "vit_b_32": 13, "vit_l_16": 25, "vit_h_14": 33, "mobilenet_v2": 19,
    "mobilenet_v3_large": 17, "efficientnet_b0": 18, "shufflenet_v2_x1_0": 18, "convnext_tiny": 19, "swin_t": 13, "swin_v2_b": 25,
    "small_cnn": 4,
}  # fmt: skip


@pytest.mark.parametrize(("name", "count"), STAGES.items())
def test_a_model_has_the_stages_that_its_paper_counts(name: str, count: int) -> None:
    assert len(catalogue.load(name).stages) == count


def test_each_size_that_torchvision_has_is_there() -> None:
    ours = re.compile(r"(resnet|resnext|wide_resnet|vgg|squeezenet|mobilenet_|efficientnet_|shufflenet_|convnext_|vit_|swin_)")
    theirs = {name for name in torchvision.models.list_models(module=torchvision.models) if ours.match(name)}
    assert set(BY_MODEL) == theirs | {"small_cnn"}


def test_stages_and_head_hold_each_tensor_of_the_network_once(every_model: str) -> None:
    with torch.device("meta"):
        model = staged(every_model, 1000, 224)
    held = [(title, tensor.shape) for part in (*model.stages, model.head) for title, tensor in model.tensors_of(part).items()]
    assert sorted(held) == sorted((title, tensor.shape) for title, tensor in model.network.state_dict().items())
    assert all(model.tensors_of(stage) for stage in model.stages)


def test_the_staged_forward_is_the_network_s_own(every_model: str, networks: SimpleNamespace) -> None:
    size = networks.small_size(every_model)
    network = networks.calibrated(every_model, size)
    model = StagedModel(network, *BY_MODEL[every_model].split(network)).eval()
    batch = networks.images(2, size, seed=2)
    with torch.no_grad():
        own = network(batch)
        assert torch.equal(model(batch), own)
    assert (own[0] - own[1]).abs().max() > 1e-3 * own.abs().max(), "the logits would be the same for any image"


def test_the_forward_can_be_taken_up_behind_a_frozen_stage(sample: str, networks: SimpleNamespace) -> None:
    model = networks.seeded(sample, networks.small_size(sample)).eval()
    model.freeze(len(model.stages))
    batch = networks.images(2, networks.small_size(sample))
    with torch.no_grad():
        whole = model(batch)
        for k in (0, 1, len(model.stages) // 2, len(model.stages)):
            assert torch.equal(model.forward_from(model.forward_prefix(batch, k), k), whole)


def test_no_stage_changes_what_it_is_given(sample: str, networks: SimpleNamespace) -> None:
    model = networks.seeded(sample, networks.small_size(sample)).train()
    features = networks.images(4, networks.small_size(sample))
    with torch.no_grad():
        for part in (*model.stages, model.head):
            given = features.clone()
            result = part(features)
            assert torch.equal(features, given)
            features = result


@pytest.mark.parametrize("name", ["small_cnn", "vit_b_32"])
def test_a_copy_in_another_precision_has_stages_of_its_own(name: str, networks: SimpleNamespace) -> None:
    model = networks.seeded(name, networks.small_size(name)).eval()
    before = {title: tensor.clone() for title, tensor in model.network.state_dict().items()}
    twin = copy.deepcopy(model).double()
    with torch.no_grad():
        for tensor in twin.network.parameters():
            tensor.mul_(1.5)
        batch = networks.images(2, networks.small_size(name)).double()
        assert torch.equal(twin(batch), twin.network(batch))
    assert all(torch.equal(tensor, before[title]) for title, tensor in model.network.state_dict().items())
