"""Weights of a folder are loaded as they are, or refused with the names of the tensors."""

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from trainer.backbones import factory
from trainer.backbones.factory import build
from trainer.backbones.hub import MissingExtra
from trainer.models import MissingWeights, UnfitWeights

Folder = Callable[..., Path]


@pytest.fixture
def changed(model_folder: Folder, tmp_path: Path) -> Callable[..., Path]:
    """A copy of a model with changed tensors and configuration."""

    def make(change: Callable[[dict[str, Tensor]], object] = lambda tensors: None, kind: str = "bert", **config: object) -> Path:
        folder = Path(shutil.copytree(model_folder(kind), tmp_path / "changed"))
        tensors = load_file(folder / "model.safetensors")
        change(tensors)
        save_file(tensors, folder / "model.safetensors", {"format": "pt"})
        document = json.loads((folder / "config.json").read_text()) | config
        (folder / "config.json").write_text(json.dumps(document))
        return folder

    return make


def tensors_of(folder: Path) -> dict[str, Tensor]:
    return load_file(folder / "model.safetensors")


def test_tensors_are_those_of_the_file_except_the_last_layer(model_folder: Folder) -> None:
    folder = model_folder("roberta")
    model, wanted = build(folder, 2), tensors_of(folder)  # the file has a head of two outputs, which is not used
    state = model.network.state_dict()
    assert model.drawn == {"classifier.out_proj.weight", "classifier.out_proj.bias"}
    assert state.keys() == wanted.keys()
    assert {name for name in state if not torch.equal(state[name], wanted[name])} == model.drawn


def test_a_file_without_a_head_gets_a_new_one(changed: Callable[..., Path]) -> None:
    def without_head(tensors: dict[str, Tensor]) -> None:
        for name in [name for name in tensors if name.startswith("classifier.")]:
            del tensors[name]

    folder = changed(without_head, "roberta")
    model, other = build(folder, 3, seed=1), build(folder, 3, seed=2)
    assert model.drawn == {f"classifier.{layer}.{name}" for layer in ("dense", "out_proj") for name in ("weight", "bias")}
    first, second = model.network.state_dict(), other.network.state_dict()
    assert not any(torch.equal(first[name], second[name]) for name in model.drawn)
    assert torch.equal(first["classifier.dense.weight"], model.fresh_head(1)["classifier.dense.weight"])


def test_half_precision_is_loaded_as_float32(changed: Callable[..., Path]) -> None:
    def halved(tensors: dict[str, Tensor]) -> None:
        tensors |= {name: tensor.half() for name, tensor in tensors.items()}

    folder = changed(halved, dtype="float16")
    assert {tensor.dtype for tensor in build(folder, 3).network.parameters()} == {torch.float32}


def test_a_missing_tensor_of_a_stage_is_named(changed: Callable[..., Path]) -> None:
    name = "bert.embeddings.LayerNorm.weight"
    with pytest.raises(UnfitWeights, match=f"1 missing or of another shape \\({name}\\)"):
        build(changed(lambda tensors: tensors.pop(name)), 3)


def test_a_tensor_of_another_shape_is_named(changed: Callable[..., Path]) -> None:
    name = "bert.encoder.layer.1.output.dense.weight"
    with pytest.raises(UnfitWeights, match=f"1 missing or of another shape \\({name}\\)"):
        build(changed(lambda tensors: tensors.update({name: torch.zeros(32, 49)})), 3)


def test_a_tensor_that_is_not_finite_is_named(changed: Callable[..., Path]) -> None:
    with pytest.raises(UnfitWeights, match=r"1 not finite \(bert\.embeddings\.LayerNorm\.bias\)"):
        build(changed(lambda tensors: tensors["bert.embeddings.LayerNorm.bias"].fill_(torch.nan)), 3)


def test_a_configuration_of_a_much_larger_model_takes_no_memory(changed: Callable[..., Path]) -> None:
    with pytest.raises(UnfitWeights, match=r"states [\d,]+ parameters"):
        build(changed(intermediate_size=2**30), 3)


def test_an_invalid_configuration_is_an_error_of_the_weights(changed: Callable[..., Path]) -> None:
    with pytest.raises(UnfitWeights, match=r"config\.json"):
        build(changed(hidden_dropout_prob="much"), 3)


def test_a_missing_folder_is_an_error_of_the_machine(tmp_path: Path) -> None:
    with pytest.raises(MissingWeights, match="does not exist; correct the path"):
        build(tmp_path / "nowhere", 3)


def test_a_folder_that_cannot_be_trained_is_an_error_of_the_weights(changed: Callable[..., Path]) -> None:
    with pytest.raises(UnfitWeights, match="names code to be executed"):
        build(changed(auto_map={"AutoModel": "modeling.Own"}), 3)


def test_without_the_extra_the_error_says_what_to_install(model_folder: Folder, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = model_folder("bert")
    monkeypatch.setitem(sys.modules, "transformers", None)
    for name in [name for name in sys.modules if name.startswith("transformers.")]:
        monkeypatch.delitem(sys.modules, name)
    with pytest.raises(MissingExtra, match=r"install thawline\[text\]"):
        build(folder, 3)


def test_loading_prints_nothing(model_folder: Folder) -> None:
    """A trainer's standard output is read by its worker."""
    code = f"from pathlib import Path; from trainer.backbones.factory import build; build(Path({str(model_folder('albert'))!r}), 7)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=120)
    assert (done.stdout, done.stderr) == ("", "")


def test_a_parameter_in_two_stages_is_refused(model_folder: Folder) -> None:
    model = build(model_folder("t5"), 3)
    model.stages[2].own.append(model.stages[1].own[0])  # type: ignore[union-attr, operator, index]
    with pytest.raises(RuntimeError, match="not divided among its stages"):
        factory._require_parts(model)


def test_shards_give_the_same_model(model_folder: Folder, tmp_path: Path) -> None:
    whole = model_folder("distilbert")
    model = build(whole, 3)
    with factory.quiet():
        model.network.save_pretrained(tmp_path, max_shard_size="20KB")  # type: ignore[operator]
    for name in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copyfile(whole / name, tmp_path / name)
    assert len(factory.describe(tmp_path).weight_files) > 1
    found = build(tmp_path, 3).network.state_dict()
    assert all(torch.equal(tensor, found[name]) for name, tensor in model.network.state_dict().items())
