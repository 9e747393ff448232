"""By which mean and deviation images are normalised: the study's, those of the weights, or ImageNet's where nothing is known."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import safetensors.torch
import torch
from torch import Tensor
from torchvision.models import EfficientNet_V2_L_Weights, MobileNet_V2_Weights

from trainer.checkpoints import export
from trainer.models import WeightsUnavailable
from trainer.tasks.image_classification.config import ImageClassificationConfig
from trainer.tasks.images.config import IMAGENET_MEAN, IMAGENET_STD, ImageModel, Normalisation
from trainer.tasks.images.networks import factory
from trainer.tasks.images.networks.factory import build, normalisation_of, staged
from trainer.weight_files import Outline

Config = Callable[..., ImageClassificationConfig]
HALF = (0.5, 0.5, 0.5)
PUBLISHED = "mobilenet_v2-b0353104.pth"


def found(**model: object) -> Normalisation:
    config = ImageModel.model_validate(model)
    return normalisation_of(config, factory.load(config))


@pytest.fixture
def tensors() -> dict[str, Tensor]:
    return staged("small_cnn", 3, 16).network.state_dict()


@pytest.fixture
def hub(shared_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """torch.hub's cache with torchvision's first weights of MobileNetV2 in it."""
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    monkeypatch.setattr(torch.hub, "_hub_dir", None)
    cache = tmp_path / "torch/hub/checkpoints"
    cache.mkdir(parents=True)
    shutil.copy(shared_data / "weights" / PUBLISHED, cache)
    return cache


def test_published_weights_bring_theirs(hub: Path) -> None:
    model = ImageModel(name="mobilenet_v2", weights="IMAGENET1K_V1")
    loaded = factory.load(model)
    assert loaded is not None and loaded.loaded.name == "MobileNet_V2_Weights.IMAGENET1K_V1"
    assert found(**model.model_dump()) == Normalisation(mean=IMAGENET_MEAN, std=IMAGENET_STD, source="weights")


def test_a_published_file_is_known_under_any_name(shared_data: Path, tmp_path: Path) -> None:
    file = tmp_path / "ours.pt"
    shutil.copy(shared_data / "weights" / PUBLISHED, file)
    assert found(name="mobilenet_v2", weights=str(file)).source == "weights"
    loaded = factory.load(ImageModel(name="mobilenet_v2", weights=str(file)))
    assert loaded is not None and loaded.loaded.name == "MobileNet_V2_Weights.IMAGENET1K_V1"


def test_weights_that_were_trained_with_others_bring_these() -> None:
    """Torchvision's EfficientNetV2-L was."""
    outline = Outline("torch", {})
    assert factory._normalisation(outline, EfficientNet_V2_L_Weights.IMAGENET1K_V1).mean == HALF


def test_a_local_file_is_assumed_to_have_imagenet_s(shared_data: Path) -> None:
    file = str(shared_data / "weights/mobilenet_v2-imagenet.safetensors")
    assert found(name="mobilenet_v2", weights=file) == Normalisation(mean=IMAGENET_MEAN, std=IMAGENET_STD, source="assumed")


def test_what_the_study_states_comes_first(shared_data: Path) -> None:
    file = str(shared_data / "weights/mobilenet_v2-imagenet.safetensors")
    assert found(name="mobilenet_v2", weights=file, mean=HALF, std=HALF) == Normalisation(mean=HALF, std=HALF, source="study")
    assert found(name="mobilenet_v2", weights=file, mean=HALF) == Normalisation(mean=HALF, std=IMAGENET_STD, source="study")


def test_random_values_have_imagenet_s() -> None:
    assert found(name="small_cnn", weights="random").source == "default"


def test_a_file_that_states_its_own_is_believed(tensors: dict[str, Tensor], tmp_path: Path) -> None:
    file = tmp_path / "w.safetensors"
    safetensors.torch.save_file(tensors, file, {"mean": json.dumps(HALF), "std": "[0.25, 0.25, 0.25]"})
    assert found(name="small_cnn", weights=str(file)) == Normalisation(mean=HALF, std=(0.25, 0.25, 0.25), source="metadata")


@pytest.mark.parametrize(
    "metadata", [{"mean": "half", "std": "[1]"}, {"config": "[" * 9_000}, {"config": '{"model": 3}'}, {"mean": "[1, 2]", "std": "[0]"}]
)
def test_metadata_of_another_program_are_passed_over(tensors: dict[str, Tensor], tmp_path: Path, metadata: dict[str, str]) -> None:
    file = tmp_path / "w.safetensors"
    safetensors.torch.save_file(tensors, file, metadata)
    assert found(name="small_cnn", weights=str(file)).source == "assumed"


def test_an_exported_model_states_its_own(config: Config, tmp_path: Path) -> None:
    written = config("small_cnn", image_size=16)
    written = written.model_copy(update={"model": written.model.model_copy(update={"mean": HALF, "std": HALF})})
    export(build(written, 3).network, written, {}, tmp_path / "model.safetensors")
    read = found(name="small_cnn", weights=str(tmp_path / "model.safetensors"))
    assert read == Normalisation(mean=HALF, std=HALF, source="metadata")


def test_the_default_weights_are_downloaded_from_the_cache_of_torch_hub(
    config: Config, hub: Path, monkeypatch: pytest.MonkeyPatch, shared_data: Path
) -> None:
    monkeypatch.setattr(MobileNet_V2_Weights.DEFAULT.value, "url", MobileNet_V2_Weights.IMAGENET1K_V1.url)
    model = build(config("mobilenet_v2", weights="DEFAULT", image_size=32), 5)
    published = torch.load(shared_data / "weights" / PUBLISHED, weights_only=True)
    assert torch.equal(model.network.get_parameter("features.0.0.weight"), published["features.0.0.weight"])


def test_a_download_that_is_impossible_says_what_to_do(config: Config, hub: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(MobileNet_V2_Weights.DEFAULT.value, "url", "http://127.0.0.1:1/mobilenet_v2-7ebf99e0.pth")
    with pytest.raises(WeightsUnavailable) as caught:
        build(config("mobilenet_v2", weights="DEFAULT", image_size=32), 5)
    message = str(caught.value)
    assert str(hub) in message and "local file" in message and "weights: random" in message
