"""A model is built from a config: the same one each time, with the asked dropout, for the asked image size."""

import io
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest
import safetensors.torch
import torch
from torch import nn
from torchvision.models import VisionTransformer

from trainer.models import StagedModel, UnfitModel, UnfitWeights
from trainer.tasks.image_classification.config import ImageClassificationConfig
from trainer.tasks.images.config import ImageModel
from trainer.tasks.images.networks import families
from trainer.tasks.images.networks.factory import UnfitImageSize, build, load_into
from trainer.tasks.images.networks.families import BY_MODEL

Config = Callable[..., ImageClassificationConfig]


def state_of(model: StagedModel) -> dict[str, torch.Tensor]:
    return model.network.state_dict()


def test_equal_configs_give_equal_models_and_leave_the_random_state_alone(config: Config) -> None:
    before = torch.random.get_rng_state()
    first = build(config("small_cnn", image_size=16, seed=3), 5)
    torch.rand(7)
    torch.random.set_rng_state(before)
    second = build(config("small_cnn", image_size=16, seed=3), 5)
    assert torch.equal(torch.random.get_rng_state(), before)
    assert all(torch.equal(tensor, state_of(second)[name]) for name, tensor in state_of(first).items())


def test_another_seed_gives_another_head_on_the_same_weights(config: Config, tmp_path: Path) -> None:
    weights = tmp_path / "weights.pt"
    torch.save(state_of(build(config("small_cnn", image_size=16), 5)), weights)
    first, second = (build(config("small_cnn", weights=weights, image_size=16, seed=seed), 5) for seed in (1, 2))
    changed = {name for name, tensor in state_of(first).items() if not torch.equal(tensor, state_of(second)[name])}
    assert changed == {"classifier.weight", "classifier.bias"}


def test_as_many_stages_are_frozen_as_the_config_says(config: Config) -> None:
    model = build(config("small_cnn", image_size=16, frozen_layers=3), 5)
    assert [any(tensor.requires_grad for tensor in part.parameters()) for part in (*model.stages, model.head)] == [False] * 3 + [True] * 2


def test_dropout_stands_before_the_last_layer_and_nowhere_else_in_the_head(sample: str, config: Config, networks: SimpleNamespace) -> None:
    model = build(config(sample, image_size=networks.small_size(sample), dropout=0.25), 5)
    last = model.network.get_submodule(BY_MODEL[sample].classifier)
    layers = [layer for layer in model.head.modules() if isinstance(layer, nn.Dropout | nn.Linear | nn.Conv2d)]
    assert isinstance(layers[-2], nn.Dropout)
    assert layers[-1] is last
    assert {layer.p for layer in layers if isinstance(layer, nn.Dropout)} == {0.25}
    assert isinstance(last, nn.Linear | nn.Conv2d) and last.bias is not None
    assert last.weight.shape[0] == last.bias.shape[0] == 5


def test_dropout_acts_in_training_and_not_in_evaluation(config: Config, networks: SimpleNamespace) -> None:
    model = build(config("resnet18", image_size=32, dropout=0.5, frozen_layers=9), 5).train()
    batch = networks.images(2, 32)
    with torch.no_grad():
        assert not torch.equal(model(batch), model(batch))
        assert torch.equal(model.eval()(batch), model.network(batch))


@pytest.mark.parametrize(
    ("name", "size", "remedy"),
    [
        ("squeezenet1_1", 16, "at least 17 pixels, not 16"),
        ("vgg16", 31, "at least 32 pixels"),
        ("vit_b_16", 40, "a multiple of 16 pixels, not 40"),
    ],
)
def test_an_image_size_that_the_network_cannot_take_is_refused(config: Config, name: str, size: int, remedy: str) -> None:
    with pytest.raises(UnfitImageSize, match=remedy):
        build(config(name, image_size=size), 5)


def test_an_unknown_model_is_answered_with_those_that_there_are(config: Config) -> None:
    with pytest.raises(UnfitModel, match=r"no model named resnet19; it has convnext_base, .*resnet18"):
        build(config("resnet19"), 5)


def test_more_frozen_stages_than_the_model_has_are_refused(config: Config) -> None:
    with pytest.raises(UnfitModel, match="small_cnn has 4 stages to freeze, not 5; lower frozen_layers"):
        build(config("small_cnn", image_size=16, frozen_layers=5), 5)


def test_a_checkpoint_loads_into_torchvision_s_own_network(sample: str, networks: SimpleNamespace) -> None:
    size = networks.small_size(sample)
    trained = networks.calibrated(sample, size)
    model = StagedModel(trained, *BY_MODEL[sample].split(trained)).eval()
    with torch.no_grad():
        expected = model(networks.images(2, size))
    file = io.BytesIO()
    torch.save(state_of(model), file)
    file.seek(0)
    for state in (torch.load(file, weights_only=True), safetensors.torch.load(safetensors.torch.save(state_of(model)))):
        with torch.device("meta"):
            network = BY_MODEL[sample].make(sample, 7, size)
        network.load_state_dict(state, strict=True, assign=True)
        with torch.no_grad():
            assert torch.equal(network.eval()(networks.images(2, size)), expected)


FILE = ImageModel(name="vit_b_16", weights="weights.pt")


def small_transformer(image_size: int) -> StagedModel:
    network = VisionTransformer(image_size, patch_size=8, num_layers=2, num_heads=2, hidden_dim=16, mlp_dim=32, num_classes=5)
    return StagedModel(network, *families.split_vit(network))


def test_positions_are_interpolated_to_another_image_size(networks: SimpleNamespace) -> None:
    source, target = small_transformer(32), small_transformer(48)
    before = source.network.get_parameter("encoder.pos_embedding")
    with torch.no_grad():
        before[0, 1:] = torch.arange(4.0).repeat(4).unsqueeze(1)  # grows from left to right
    load_into(target, families.VIT, state_of(source), FILE)
    positions = target.network.get_parameter("encoder.pos_embedding")
    assert torch.equal(positions[:, 0], before[:, 0])
    grid = positions[0, 1:, 0].reshape(6, 6)
    assert torch.allclose(grid, grid[0].expand(6, 6))
    assert (grid[0].diff() > 0).all()
    assert grid[0, [0, 5]].tolist() == [0, 3]
    weight = "encoder.layers.encoder_layer_1.mlp.0.weight"
    assert torch.equal(target.network.get_parameter(weight), source.network.get_parameter(weight))
    assert target.eval()(networks.images(1, 48)).shape == (1, 5)


def test_positions_that_are_no_square_are_unfit() -> None:
    state = state_of(small_transformer(32))
    state["encoder.pos_embedding"] = torch.zeros(1, 16, 16)
    with pytest.raises(UnfitWeights, match=r"1 of another shape \(encoder.pos_embedding\)"):
        load_into(small_transformer(32), families.VIT, state, FILE)


def test_a_head_s_first_values_are_drawn_without_the_network(sample: str, config: Config, networks: SimpleNamespace) -> None:
    size = networks.small_size(sample)
    model, other = (build(config(sample, image_size=size, seed=seed), 5) for seed in (1, 2))
    before = torch.random.get_rng_state()
    drawn = other.fresh_head(seed=1)
    assert torch.equal(torch.random.get_rng_state(), before)
    assert drawn.keys() == model.tensors_of(model.head).keys()
    assert all(torch.equal(tensor, drawn[name]) for name, tensor in model.tensors_of(model.head).items())
    assert not torch.equal(state_of(other)[BY_MODEL[sample].classifier_tensors[0]], drawn[BY_MODEL[sample].classifier_tensors[0]])


def test_only_the_head_s_layers_without_weights_are_drawn(config: Config, tmp_path: Path) -> None:
    torch.save(state_of(build(config("mobilenet_v3_small", image_size=32, seed=99), 3)), tmp_path / "weights.pt")
    model = build(config("mobilenet_v3_small", weights=tmp_path / "weights.pt", image_size=32), 5)
    assert model.fresh_head(seed=1).keys() == {"classifier.3.weight", "classifier.3.bias"}
