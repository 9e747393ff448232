"""Server and trainer read weights files by the same rules: the same files are accepted, the others refused for the same reason."""

import argparse
import gzip
import pickle
import re
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.torch
import torch
from torch import Tensor, nn

import trainer.tasks.images.catalogue as catalogue
from service.domain.parsing import parse_study
from service.inspection import weights_faults
from tests.narrowed import training
from trainer.configuration import LoadedWeights
from trainer.models import UnfitModel
from trainer.tasks.image_classification.config import ImageClassificationConfig
from trainer.tasks.images.config import ImageData, ImageModel
from trainer.tasks.images.networks import factory
from trainer.tasks.images.networks.factory import build, staged
from trainer.tasks.images.selection import select
from trainer.weight_files import Outline, read_outline
from trainer.weight_files.pickles import HARMLESS, TensorOutline, UnreadableWeights

State = dict[str, Tensor]
MODEL = "small_cnn"


@pytest.fixture(scope="module")
def state() -> State:
    torch.manual_seed(3)
    return staged(MODEL, 10, 16).network.state_dict()


def document(file: Path, model: str = MODEL) -> dict[str, Any]:
    return {
        "name": "weights", "data": {"path": "/nowhere"}, "model": {"name": model, "weights": str(file)}, "fixed": {"image_size": 64},
        "search_space": {"lr": {"type": "float", "low": 0.1, "high": 1.0}},
        "objective": {"metric": "accuracy", "direction": "maximize"}, "budget": {"trials": 1},
    }  # fmt: skip


def by_the_server(file: Path) -> str | None:
    """Why the server refuses the file; None if it takes it."""
    faults = list(weights_faults(training(parse_study(document(file)))))
    return faults[0].message if faults else None


def by_the_trainer(file: Path) -> str | None:
    """The same of the trainer."""
    try:
        build(ImageClassificationConfig(data=ImageData(path="data"), model=ImageModel(name=MODEL, weights=str(file)), image_size=16), 5)
    except UnfitModel as error:
        return str(error)
    return None


def loaded(file: Path) -> LoadedWeights:
    found = factory.load(ImageModel(name=MODEL, weights=str(file)))
    assert found is not None
    return found.loaded


def save(file: Path, content: object, **options: Any) -> Path:
    torch.save(content, file, **options)
    return file


def prefixed(state: State, prefix: str) -> State:
    return {f"{prefix}{name}": tensor for name, tensor in state.items()}


def optimised() -> dict[str, Any]:
    """The state of an optimiser and a schedule after a step."""
    layer = nn.Linear(2, 2)
    optimiser = torch.optim.AdamW(layer.parameters())
    layer(torch.ones(1, 2)).sum().backward()
    optimiser.step()
    schedule = torch.optim.lr_scheduler.StepLR(optimiser, 3)
    return {"optimizer": optimiser.state_dict(), "lr_scheduler": schedule.state_dict(), "epoch": 7, "best": 0.5, "name": "run"}


def lightning(state: State) -> dict[str, Any]:
    return {
        "epoch": 3, "global_step": 100, "pytorch-lightning_version": "2.5.0", "hyper_parameters": {"lr": 1e-3}, "loops": {"fit": {}},
        "state_dict": {**prefixed(state, "model."), "criterion.weight": torch.ones(3)}, "optimizer_states": [optimised()["optimizer"]],
    }  # fmt: skip


def averaged(state: State) -> State:
    return {"n_averaged": torch.tensor(5), **prefixed(state, "module.")}


def in_the_middle(state: State) -> State:
    return {name.replace("blocks.", "blocks._orig_mod."): tensor for name, tensor in state.items()}


def with_backbone(state: State) -> State:
    return {**{name: one for name, one in prefixed(state, "backbone.").items() if "classifier" not in name}, "head.weight": torch.ones(9)}


ACCEPTED: Mapping[str, tuple[Callable[[State], object], LoadedWeights]] = {
    "plain": (lambda state: state, LoadedWeights(format="torch")),
    "no counts": (
        lambda state: {name: one for name, one in state.items() if not name.endswith("num_batches_tracked")},
        LoadedWeights(format="torch"),
    ),
    "half precision": (lambda state: {name: one.half() for name, one in state.items()}, LoadedWeights(format="torch")),
    "parameters": (
        lambda state: {name: nn.Parameter(one) if one.is_floating_point() else one for name, one in state.items()},
        LoadedWeights(format="torch"),
    ),
    "data parallel": (lambda state: prefixed(state, "module."), LoadedWeights(format="torch", prefix="module.")),
    "compiled": (lambda state: prefixed(state, "_orig_mod."), LoadedWeights(format="torch", wrappers=("_orig_mod.",))),
    "compiled in parallel": (
        lambda state: prefixed(state, "module._orig_mod."),
        LoadedWeights(format="torch", prefix="module.", wrappers=("_orig_mod.",)),
    ),
    "compiled in part": (in_the_middle, LoadedWeights(format="torch", wrappers=("_orig_mod.",))),
    "lightning": (
        lightning,
        LoadedWeights(format="torch", container=("state_dict",), prefix="model.", left_out=1, examples=("criterion.weight",)),
    ),
    "backbone": (with_backbone, LoadedWeights(format="torch", prefix="backbone.", left_out=1, examples=("head.weight",))),
    "own prefix": (lambda state: prefixed(state, "encoder.trunk."), LoadedWeights(format="torch", prefix="encoder.trunk.")),
    "checkpoint": (lambda state: {"model": state, **optimised()}, LoadedWeights(format="torch", container=("model",))),
    "checkpoint in a checkpoint": (
        lambda state: {"model": {"state_dict": state, "step": 3}},
        LoadedWeights(format="torch", container=("model", "state_dict")),
    ),
    "average only": (
        lambda state: {"model_ema": averaged(state), "epoch": 1},
        LoadedWeights(format="torch", container=("model_ema",), prefix="module.", left_out=1, examples=("n_averaged",)),
    ),
    "average besides": (
        lambda state: {"model": state, "model_ema": averaged(state)},
        LoadedWeights(format="torch", container=("model",), unused=("model_ema",)),
    ),
    "timm": (
        lambda state: {"arch": "x", "state_dict_ema": state, "state_dict": state},
        LoadedWeights(format="torch", container=("state_dict",), unused=("state_dict_ema",)),
    ),
    "ema": (lambda state: {"ema": state}, LoadedWeights(format="torch", container=("ema",))),
    "a key of its own": (lambda state: {"generator": state, "epoch": 3}, LoadedWeights(format="torch", container=("generator",))),
    "two models": (
        lambda state: {**prefixed(state, "model."), **prefixed(state, "teacher.")},
        LoadedWeights(format="torch", prefix="model.", left_out=26, examples=tuple(f"teacher.{name}" for name in (
            "stem.0.weight", "stem.1.weight", "stem.1.bias", "stem.1.running_mean", "stem.1.running_var"))),
    ),
}  # fmt: skip


@pytest.mark.parametrize("legacy", [False, True], ids=["zip", "before 1.6"])
@pytest.mark.parametrize("case", ACCEPTED)
def test_a_file_by_torch_is_taken_by_both_and_what_was_taken_is_stated(state: State, tmp_path: Path, case: str, legacy: bool) -> None:
    content, expected = ACCEPTED[case]
    made = content(state)
    file = save(tmp_path / "weights.pth", made, _use_new_zipfile_serialization=not legacy)
    assert (by_the_server(file), by_the_trainer(file)) == (None, None)
    found = loaded(file)
    assert found == expected.model_copy(update={"format": "legacy torch" if legacy else "torch"})


@pytest.mark.parametrize("name", ["weights.safetensors", "weights.pth", "weights.bin"])
def test_the_format_is_told_by_the_content(state: State, tmp_path: Path, name: str) -> None:
    safetensors.torch.save_file(prefixed(state, "model."), tmp_path / name)
    assert (by_the_server(tmp_path / name), by_the_trainer(tmp_path / name)) == (None, None)
    assert loaded(tmp_path / name) == LoadedWeights(format="safetensors", prefix="model.")
    save(tmp_path / "torch.safetensors", state)
    assert (by_the_server(tmp_path / "torch.safetensors"), by_the_trainer(tmp_path / "torch.safetensors")) == (None, None)


def test_a_safetensors_header_of_any_length_is_read(state: State, tmp_path: Path) -> None:
    """The length stands first: its bytes may be those that other formats begin with."""
    first = set[int]()
    for length in range(0, 2_048, 8):
        file = tmp_path / f"{length}.safetensors"
        safetensors.torch.save_file(state, file, {"note": "x" * length})
        first.add(file.read_bytes()[0])
        assert by_the_server(file) is None
    assert 0x80 in first


def cut(content: bytes) -> bytes:
    return content[:-3_000]


def script(file: Path) -> None:
    with pytest.warns(FutureWarning):
        torch.jit.save(torch.jit.script(nn.Linear(2, 2)), file)


def numpy_archive(file: Path) -> None:
    with file.open("wb") as opened:
        np.savez(opened, a=np.ones(3))


def with_state(change: Callable[[State], object], **options: Any) -> Callable[[Path, State], object]:
    return lambda file, state: save(file, change(dict(state)), **options)


REFUSED: Mapping[str, tuple[Callable[[Path, State], object], str]] = {
    "empty": (lambda file, state: file.touch(), "it is empty"),
    "Git LFS": (
        lambda file, state: file.write_text("version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 3\n"),
        "run `git lfs pull`",
    ),
    "HTML": (lambda file, state: file.write_text("\n<!DOCTYPE html><html><title>404</title></html>"), "an HTML or XML page"),
    "XML": (lambda file, state: file.write_text('<?xml version="1.0"?><Error>AccessDenied</Error>'), "an HTML or XML page"),
    "gzip": (lambda file, state: file.write_bytes(gzip.compress(b"weights")), "unpack it"),
    "text": (lambda file, state: file.write_text("these are no weights, whatever the name says"), "neither a safetensors file nor"),
    "cut zip": (lambda file, state: file.write_bytes(cut(save(file, state).read_bytes())), "cut short"),
    "cut before 1.6": (
        lambda file, state: file.write_bytes(cut(save(file, state, _use_new_zipfile_serialization=False).read_bytes())),
        "cut short",
    ),
    "cut pickle before 1.6": (
        lambda file, state: file.write_bytes(save(file, state, _use_new_zipfile_serialization=False).read_bytes()[:1_000]),
        "cut short",
    ),
    "cut safetensors": (lambda file, state: file.write_bytes(cut(safetensors.torch.save(state))), "cut short"),
    "longer safetensors": (lambda file, state: file.write_bytes(safetensors.torch.save(state) + b"more"), "bytes follow its last tensor"),
    "numpy": (lambda file, state: numpy_archive(file), "a zip archive, but not one that torch.save wrote"),
    "pickle": (lambda file, state: file.write_bytes(pickle.dumps({"a": 1}, protocol=2)), "a pickle that torch.save did not write"),
    "args": (with_state(lambda state: {"model": state, "args": argparse.Namespace(lr=1)}), "argparse.Namespace"),
    "numpy scalar": (with_state(lambda state: {"state_dict": state, "best": np.float64(0.9)}), "numpy"),
    "args before 1.6": (
        with_state(lambda state: {"model": state, "args": argparse.Namespace(lr=1)}, _use_new_zipfile_serialization=False),
        "argparse.Namespace",
    ),
    "protocol 4": (with_state(lambda state: state, pickle_protocol=4), "a pickle protocol above 3"),
    "a module": (with_state(lambda state: nn.Linear(2, 2)), "a whole pickled object (torch.nn.modules.linear.Linear"),
    "a module in a dict": (with_state(lambda state: {"model": nn.Linear(2, 2), "epoch": 3}), "pickled objects (torch.nn.modules.linear"),
    "TorchScript": (lambda file, state: script(file), "a TorchScript archive"),
    "a tensor": (with_state(lambda state: torch.ones(3)), "no state dict"),
    "a list": (with_state(lambda state: [torch.ones(3)]), "no state dict"),
    "numbers": (with_state(lambda state: {"epoch": 3}), "no state dict"),
    "no tensors": (with_state(lambda state: {}), "no state dict"),
    "keys of tuples": (with_state(lambda state: {**state, "more": {(1, 2): 3}}), "keys are neither text nor small numbers"),
    "two of equal rank": (
        with_state(lambda state: {**prefixed(state, "student."), **prefixed(state, "teacher.")}),
        "several sets of tensors for small_cnn, under student., teacher.",
    ),
    "two dicts": (with_state(lambda state: {"generator": state, "critic": state}), "several sets of tensors (generator, critic)"),
    "another model": (with_state(lambda state: staged("squeezenet1_1", 5, 32).network.state_dict()), "do not fit small_cnn"),
    "a larger model": (with_state(lambda state: {**state, "blocks.3.0.weight": torch.ones(2)}), "1 unexpected (blocks.3.0.weight)"),
    "part of a model": (with_state(lambda state: state | {"stem.0.weight": None}), "1 missing (stem.0.weight)"),
    "another shape": (with_state(lambda state: state | {"stem.0.weight": torch.ones(2)}), "1 of another shape (stem.0.weight)"),
    "whole numbers": (with_state(lambda state: state | {"stem.1.bias": torch.ones(16).int()}), "1 not of floating point (stem.1.bias)"),
}  # fmt: skip
CONVERTED = ("args", "numpy scalar", "args before 1.6", "protocol 4")


@pytest.mark.parametrize("case", REFUSED)
def test_a_file_is_refused_by_both_for_the_same_reason(state: State, tmp_path: Path, case: str) -> None:
    make, reason = REFUSED[case]
    make(tmp_path / "weights.pth", state)
    server, worker = by_the_server(tmp_path / "weights.pth"), by_the_trainer(tmp_path / "weights.pth")
    assert server is not None and worker is not None
    assert reason in server and reason in worker


@pytest.mark.parametrize("case", CONVERTED)
def test_the_two_lines_in_the_answer_convert_the_file(state: State, tmp_path: Path, case: str) -> None:
    REFUSED[case][0](tmp_path / "weights.pth", state)
    answer = by_the_server(tmp_path / "weights.pth")
    assert answer is not None
    run_the_lines(answer, tmp_path)
    converted = safetensors.torch.load_file(tmp_path / "weights.safetensors")
    assert all(torch.equal(converted[name], tensor) for name, tensor in state.items())
    assert (by_the_server(tmp_path / "weights.safetensors"), by_the_trainer(tmp_path / "weights.safetensors")) == (None, None)


@pytest.mark.parametrize("case", ["a module", "a module in a dict", "TorchScript"])
def test_the_two_lines_for_a_whole_module_write_its_state_dict(state: State, tmp_path: Path, case: str) -> None:
    REFUSED[case][0](tmp_path / "weights.pth", state)
    answer = by_the_server(tmp_path / "weights.pth")
    assert answer is not None
    run_the_lines(answer, tmp_path)
    assert safetensors.torch.load_file(tmp_path / "weights.safetensors").keys() == {"weight", "bias"}


def run_the_lines(answer: str, folder: Path) -> None:
    first, second = re.findall(r"`(import torch[^`]+)` and `([^`]+)`", answer)[0]
    subprocess.run([sys.executable, "-W", "ignore", "-c", f"{first}\n{second}"], cwd=folder, check=True)


def test_the_names_that_the_outline_accepts_are_accepted_by_torch() -> None:
    from torch._weights_only_unpickler import _get_allowed_globals

    assert _get_allowed_globals().keys() >= HARMLESS


def test_old_names_of_a_transformer_are_understood() -> None:
    model = catalogue.load("vit_b_16")
    tensors = {name: shape for part in (*model.stages, model.head) for name, shape in part.tensors.items()}
    old = {name.replace(".mlp.0.", ".mlp.linear_1.").replace(".mlp.3.", ".mlp.linear_2."): shape for name, shape in tensors.items()}
    assert old.keys() != tensors.keys()
    outline = Outline("torch", {name: TensorOutline(shape, "float32") for name, shape in old.items()})
    assert select(outline, model, "vit.pth").names.keys() == tensors.keys()


@pytest.mark.parametrize("file", ["mobilenet_v2-b0353104.pth", "mobilenet_v2-imagenet.safetensors"])
def test_published_files_are_read(shared_data: Path, file: str) -> None:
    with (shared_data / "weights" / file).open("rb") as opened:
        outline = read_outline(opened, file)
    assert len(select(outline, catalogue.load("mobilenet_v2"), file).names) == 314


def test_a_tensor_that_reaches_beyond_its_storage_is_refused(tmp_path: Path, state: State) -> None:
    content = save(tmp_path / "weights.pth", {"a": torch.ones(5)}, _use_new_zipfile_serialization=False).read_bytes()
    spoilt = content.replace(b"K\x05\x85", b"K\x99\x85")  # the shape (5,)
    assert spoilt != content
    (tmp_path / "weights.pth").write_bytes(spoilt)
    with (tmp_path / "weights.pth").open("rb") as opened, pytest.raises(UnreadableWeights, match="larger than its storage"):
        read_outline(opened, "weights.pth")
