"""Pretrained weights: from files and downloads, into the network or refused with the reason."""

import hashlib
import os
import socket
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest
import safetensors.torch
import torch
from torch import Tensor
from torchvision.models import SqueezeNet1_1_Weights, squeezenet1_1

from trainer.models import StagedModel, UnfitWeights, WeightsUnavailable
from trainer.tasks.image_classification.config import ImageClassificationConfig
from trainer.tasks.images.config import ImageModel
from trainer.tasks.images.networks import factory
from trainer.tasks.images.networks.factory import build

Config = Callable[..., ImageClassificationConfig]
State = dict[str, Tensor]


@pytest.fixture
def pretrained(config: Config) -> State:
    """The state dict of a small network for three classes, as if it had been trained."""
    return build(config("small_cnn", image_size=16, seed=99), 3).network.state_dict()


def stages_hold(model: StagedModel, tensors: Mapping[str, Tensor]) -> bool:
    named = {name: tensor for stage in model.stages for name, tensor in model.tensors_of(stage).items()}
    return all(torch.equal(tensor, tensors[name]) for name, tensor in named.items() if name in tensors)


def test_features_without_a_head_load(config: Config, shared_data: Path) -> None:
    file = shared_data / "weights/squeezenet1_1-imagenet-features.safetensors"
    model = build(config("squeezenet1_1", weights=file, image_size=64), 10)
    tensors = safetensors.torch.load_file(file)
    assert len(tensors) == sum(len(model.tensors_of(stage)) for stage in model.stages)
    assert stages_hold(model, tensors)


def test_weights_with_a_head_for_other_classes_load(config: Config, shared_data: Path) -> None:
    file = shared_data / "weights/mobilenet_v2-imagenet.safetensors"
    model = build(config("mobilenet_v2", weights=file, image_size=97), 10)
    tensors = safetensors.torch.load_file(file)
    assert tensors["classifier.1.weight"].shape[0] == 1000
    assert stages_hold(model, tensors)
    assert model.network.get_parameter("classifier.1.weight").shape[0] == 10


def wrapped(state: State) -> dict[str, object]:
    return {f"module.{name}": tensor for name, tensor in state.items()}


@pytest.mark.parametrize(
    "content",
    [
        lambda state: state,
        wrapped,
        lambda state: {"epoch": 3, "state_dict": wrapped(state), "optimizer": {"lr": 0.1}},
        lambda state: {"model": state},
        lambda state: {name: tensor for name, tensor in state.items() if not name.endswith("num_batches_tracked")},
        lambda state: {name: tensor for name, tensor in state.items() if not name.startswith("classifier")},
    ],
    ids=["plain", "data parallel", "checkpoint", "model", "no counts", "no head"],
)
def test_a_state_dict_file_is_understood_as_people_save_it(
    config: Config, pretrained: State, tmp_path: Path, content: Callable[[State], object]
) -> None:
    torch.save(content(pretrained), tmp_path / "weights.pth")
    model = build(config("small_cnn", weights=tmp_path / "weights.pth", image_size=16), 5)
    parameters = {name: tensor for name, tensor in pretrained.items() if not name.endswith("num_batches_tracked")}
    assert stages_hold(model, parameters)


def test_an_old_style_torch_file_loads(config: Config, pretrained: State, tmp_path: Path) -> None:
    torch.save(pretrained, tmp_path / "weights.pth", _use_new_zipfile_serialization=False)
    assert stages_hold(build(config("small_cnn", weights=tmp_path / "weights.pth", image_size=16), 5), pretrained)


def test_weights_of_half_precision_become_the_network_s(config: Config, pretrained: State, tmp_path: Path) -> None:
    half = {name: tensor.half() if tensor.is_floating_point() else tensor for name, tensor in pretrained.items()}
    safetensors.torch.save_file(half, tmp_path / "weights.safetensors")
    model = build(config("small_cnn", weights=tmp_path / "weights.safetensors", image_size=16), 5)
    assert all(tensor.dtype == torch.float32 for tensor in model.parameters())
    assert stages_hold(model, {name: tensor.float() for name, tensor in half.items() if tensor.is_floating_point()})


@pytest.mark.parametrize("spoil", [lambda head: {}, lambda head: {name: tensor * torch.nan for name, tensor in head.items()}])
def test_a_head_that_is_absent_or_not_a_number_is_made_anew(config: Config, tmp_path: Path, spoil: Callable[[State], State]) -> None:
    state = build(config("mobilenet_v3_small", image_size=32, seed=99), 3).network.state_dict()
    head = {name: tensor for name, tensor in state.items() if name.startswith("classifier.")}
    assert len(head) == 4
    stages = {name: tensor for name, tensor in state.items() if name not in head}
    torch.save(stages | spoil(head), tmp_path / "weights.pt")
    model = build(config("mobilenet_v3_small", weights=tmp_path / "weights.pt", image_size=32), 5)
    assert stages_hold(model, stages)
    assert all(tensor.isfinite().all() for tensor in model.parameters())


def test_the_head_s_other_layers_are_loaded(config: Config, tmp_path: Path) -> None:
    state = build(config("mobilenet_v3_small", image_size=32, seed=99), 3).network.state_dict()
    torch.save(state, tmp_path / "weights.pt")
    model = build(config("mobilenet_v3_small", weights=tmp_path / "weights.pt", image_size=32), 3)
    assert torch.equal(model.network.get_parameter("classifier.0.weight"), state["classifier.0.weight"])
    assert not torch.equal(model.network.get_parameter("classifier.3.weight"), state["classifier.3.weight"])


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda state: state.pop("blocks.1.0.weight"), r"1 missing \(blocks.1.0.weight\)"),
        (lambda state: state.update({"layer1.0.conv1.weight": torch.zeros(2)}), r"1 unexpected \(layer1.0.conv1.weight\)"),
        (lambda state: state.update({"stem.0.weight": torch.zeros(16, 1, 3, 3)}), r"1 of another shape \(stem.0.weight\)"),
        (lambda state: state["stem.0.weight"].fill_(torch.nan), r"1 not finite \(stem.0.weight\)"),
        (lambda state: state.update({"stem.1.bias": torch.zeros(16, dtype=torch.int8)}), r"1 not of floating point \(stem.1.bias\)"),
        (lambda state: [state.pop(name) for name in list(state) if not name.startswith("classifier")], r"20 missing \(.*, …\)"),
    ],
    ids=["missing", "unexpected", "shape", "nan", "integers", "head only"],
)
def test_tensors_that_do_not_fit_are_named(
    config: Config, pretrained: State, tmp_path: Path, spoil: Callable[[State], object], message: str
) -> None:
    spoil(pretrained)
    torch.save(pretrained, tmp_path / "weights.pt")
    with pytest.raises(UnfitWeights, match=message):
        build(config("small_cnn", weights=tmp_path / "weights.pt", image_size=16), 5)


def test_weights_of_another_model_are_refused_in_one_sentence(config: Config, shared_data: Path) -> None:
    file = shared_data / "weights/squeezenet1_1-imagenet-features.safetensors"
    with pytest.raises(UnfitWeights, match=r"do not fit resnet18: 100 missing .* 50 unexpected") as caught:
        build(config("resnet18", weights=file, image_size=32), 5)
    assert len(str(caught.value)) < 800


class Code:
    """Something that a pickle could run."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple[object, ...]:
        return os.mkdir, (str(self.mark),)


def test_code_in_a_weights_file_is_refused_and_never_run(config: Config, pretrained: State, tmp_path: Path) -> None:
    torch.save({**pretrained, "extra": Code(tmp_path / "ran")}, tmp_path / "weights.pt")
    with pytest.raises(UnfitWeights, match="never executed"):
        build(config("small_cnn", weights=tmp_path / "weights.pt", image_size=16), 5)
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize("suffix", [".pt", ".safetensors"])
@pytest.mark.parametrize("content", [b"", b"\x80\x02no pickle", os.urandom(2000), b"\xff" * 64], ids=["empty", "pickle", "noise", "ones"])
def test_a_file_that_holds_no_tensors_is_unfit(config: Config, tmp_path: Path, suffix: str, content: bytes) -> None:
    (tmp_path / f"weights{suffix}").write_bytes(content)
    with pytest.raises(UnfitWeights, match="weights"):
        build(config("small_cnn", weights=tmp_path / f"weights{suffix}", image_size=16), 5)


@pytest.mark.parametrize("suffix", [".pt", ".safetensors"])
def test_a_file_that_was_cut_short_is_unfit(config: Config, pretrained: State, tmp_path: Path, suffix: str) -> None:
    file = tmp_path / f"weights{suffix}"
    (torch.save if suffix == ".pt" else safetensors.torch.save_file)(pretrained, file)
    file.write_bytes(file.read_bytes()[:-5000])
    with pytest.raises(UnfitWeights):
        build(config("small_cnn", weights=file, image_size=16), 5)


@pytest.mark.parametrize("content", [{}, {"epoch": 3}, [1, 2], torch.zeros(3)], ids=["nothing", "numbers", "a list", "a tensor"])
def test_a_torch_file_without_a_state_dict_is_unfit(config: Config, tmp_path: Path, content: object) -> None:
    torch.save(content, tmp_path / "weights.pt")
    with pytest.raises(UnfitWeights, match="holds no state dict"):
        build(config("small_cnn", weights=tmp_path / "weights.pt", image_size=16), 5)


def test_a_file_that_is_not_there_or_no_file_is_named(config: Config, tmp_path: Path) -> None:
    with pytest.raises(WeightsUnavailable, match=r"there is no weights file .*gone\.pt"):
        build(config("small_cnn", weights=tmp_path / "gone.pt", image_size=16), 5)
    with pytest.raises(WeightsUnavailable, match="cannot be read"):
        build(config("small_cnn", weights=tmp_path, image_size=16), 5)


@pytest.mark.parametrize("target", ["/dev/zero", "/dev/stdin", "a pipe"])
def test_a_special_file_is_refused(config: Config, tmp_path: Path, target: str) -> None:
    file = tmp_path / "weights.pt"
    if target == "a pipe":
        os.mkfifo(file)
    else:
        file.symlink_to(target)
    with pytest.raises(WeightsUnavailable, match="not a regular file"):
        build(config("small_cnn", weights=file, image_size=16), 5)


def test_weights_are_read_once_and_again_when_the_file_changes(pretrained: State, tmp_path: Path) -> None:
    model = ImageModel(name="small_cnn", weights=str(tmp_path / "weights.pt"))
    torch.save(pretrained, tmp_path / "weights.pt")
    first = factory.load(model)
    assert first is not None
    assert factory.load(model) is first
    assert first.sha256 == hashlib.sha256((tmp_path / "weights.pt").read_bytes()).hexdigest()
    torch.save({name: tensor * 0 for name, tensor in pretrained.items()}, tmp_path / "weights.pt")
    os.utime(tmp_path / "weights.pt", (1, 1))
    second = factory.load(model)
    assert second is not None
    assert second.sha256 != first.sha256
    assert not second.tensors["stem.0.weight"].any()


def test_training_does_not_reach_the_kept_weights(config: Config, pretrained: State, tmp_path: Path) -> None:
    torch.save(pretrained, tmp_path / "weights.pt")
    model = build(config("small_cnn", weights=tmp_path / "weights.pt", image_size=16), 5)
    with torch.no_grad():
        for tensor in model.parameters():
            tensor.zero_()
    again = build(config("small_cnn", weights=tmp_path / "weights.pt", image_size=16), 5)
    assert stages_hold(again, pretrained)


def test_no_weights_are_none() -> None:
    assert factory.load(ImageModel(name="small_cnn")) is None


@pytest.mark.parametrize("name", ["IMAGENET1K_V1", "DEFAULT", "SqueezeNet1_1_Weights.IMAGENET1K_V1", "SqueezeNet1_1_Weights.DEFAULT"])
def test_torchvision_s_weights_go_by_these_names(name: str) -> None:
    assert factory.named("squeezenet1_1", name) is SqueezeNet1_1_Weights.IMAGENET1K_V1


@pytest.mark.parametrize("name", ["IMAGENET1K_V9", "ResNet18_Weights.IMAGENET1K_V1", "imagenet", "__class__"])
def test_other_names_are_answered_with_those_that_there_are(name: str) -> None:
    with pytest.raises(WeightsUnavailable, match=r"squeezenet1_1 has no weights named .*; it has IMAGENET1K_V1; or give a "):
        factory.named("squeezenet1_1", name)


@pytest.fixture
def published(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], Path]:
    """Let torchvision's SqueezeNet 1.1 weights lie at another URL; torch.hub's cache is empty. Gives the cache."""
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    monkeypatch.setattr(torch.hub, "_hub_dir", None)

    def publish(url: str) -> Path:
        monkeypatch.setattr(SqueezeNet1_1_Weights.IMAGENET1K_V1.value, "url", url)
        return tmp_path / "torch/hub/checkpoints"

    return publish


def saved_with_its_hash(folder: Path) -> Path:
    torch.save(squeezenet1_1().state_dict(), folder / "new.pth")
    sha256 = hashlib.sha256((folder / "new.pth").read_bytes()).hexdigest()
    return (folder / "new.pth").rename(folder / f"squeezenet1_1-{sha256[:8]}.pth")


def test_weights_are_downloaded_once_and_hashed(config: Config, tmp_path: Path, published: Callable[[str], Path]) -> None:
    file = saved_with_its_hash(tmp_path)
    cache = published(file.as_uri())
    named = config("squeezenet1_1", weights="IMAGENET1K_V1", image_size=32)
    model = build(named, 5)
    assert stages_hold(model, torch.load(file, weights_only=True))
    assert (cache / file.name).read_bytes() == file.read_bytes()
    file.unlink()
    found = factory.load(named.model)
    assert found is not None
    assert found.sha256.startswith(file.stem.rpartition("-")[2])
    build(named, 5)


def test_a_download_that_is_not_what_was_published_is_refused(config: Config, tmp_path: Path, published: Callable[[str], Path]) -> None:
    file = saved_with_its_hash(tmp_path)
    cache = published(file.as_uri())
    file.write_bytes(file.read_bytes()[:-1])
    with pytest.raises(WeightsUnavailable, match=r"could not be downloaded .*invalid hash value"):
        build(config("squeezenet1_1", weights="DEFAULT", image_size=32), 5)
    assert not any(cache.iterdir())


def test_a_damaged_file_in_the_cache_is_told(config: Config, tmp_path: Path, published: Callable[[str], Path]) -> None:
    cache = published("https://download.invalid/squeezenet1_1-0123abcd.pth")
    cache.mkdir(parents=True)
    (cache / "squeezenet1_1-0123abcd.pth").write_bytes(b"half a file")
    with pytest.raises(WeightsUnavailable, match=r"squeezenet1_1-0123abcd\.pth is not the file that was published"):
        build(config("squeezenet1_1", weights="DEFAULT", image_size=32), 5)


def closed_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.mark.parametrize("where", ["http://127.0.0.1:{port}", "{folder}/nowhere"])
def test_a_download_that_fails_says_which_and_what_to_do(
    config: Config, tmp_path: Path, published: Callable[[str], Path], where: str
) -> None:
    published(where.format(port=closed_port(), folder=tmp_path.as_uri()) + "/squeezenet1_1-b8a52dc0.pth")
    remedy = r"SqueezeNet1_1_Weights\.IMAGENET1K_V1 could not be downloaded from .*; connect this machine .*, or give a local file"
    with pytest.raises(WeightsUnavailable, match=remedy) as caught:
        build(config("squeezenet1_1", weights="DEFAULT", image_size=32), 5)
    assert caught.value.__suppress_context__
    assert socket.getdefaulttimeout() is None
