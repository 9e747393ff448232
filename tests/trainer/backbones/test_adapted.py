"""Adapted text models of every type: what is trained, merged networks, prompts, random stages, and PEFT's format in a clean process."""

import copy
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import pytest
import torch
from torch import Tensor, nn

from tests.trainer.backbones.conftest import HIDDEN, LAYERS, VOCABULARY
from trainer.adapters.texts import adapted, blocks, save_adapter
from trainer.backbones.description import describe_folder
from trainer.backbones.export import Outputs, save
from trainer.backbones.factory import build
from trainer.backbones.families import FAMILIES
from trainer.backbones.stages import Embeddings
from trainer.models import Infeasible, StagedModel
from trainer.sequences import Sequences, dense
from trainer.tasks.images.config import ImageHyperparameters

Folder = Callable[..., Path]
OUTPUTS = 3
LOW_RANK = ("lora", "dora")


def config(method: str, **values: Any) -> ImageHyperparameters:
    return ImageHyperparameters.model_validate({"method": method, "seed": 3, **values})


def texts() -> Sequences:
    """Two texts of different lengths; ids and segments."""
    ids = torch.randint(4, VOCABULARY, (2, 9), generator=torch.Generator().manual_seed(0))
    return Sequences(torch.stack([ids, torch.zeros_like(ids)], -1), torch.tensor([9, 6]))


def perturbed(model: StagedModel) -> StagedModel:
    generator = torch.Generator().manual_seed(2)
    with torch.no_grad():
        for parameter in model.trainable_parameters():
            parameter.add_(torch.randn(parameter.shape, generator=generator) * 0.1)
    return model.eval()


def outputs(model: StagedModel) -> Tensor:
    with torch.no_grad():
        return model.eval()(texts())  # type: ignore[no-any-return]


def trained(model: StagedModel) -> set[str]:
    return {name for name, parameter in model.network.named_parameters() if parameter.requires_grad}


def step(model: StagedModel) -> None:
    model.train()
    optimizer = torch.optim.AdamW(model.trainable_parameters(), 0.01)
    for _ in range(2):  # the first step of lora changes only the factor that is 0
        optimizer.zero_grad()
        nn.functional.cross_entropy(model(texts()), torch.tensor([0, 2])).backward()  # type: ignore[no-untyped-call]
        optimizer.step()


@pytest.mark.parametrize("kind", FAMILIES)
def test_the_linear_layers_of_a_stage_are_those_of_attention_and_mlp(model_folder: Folder, kind: str) -> None:
    model = build(model_folder(kind), OUTPUTS)
    first, *found = blocks(model)
    assert first is None and len(found) == LAYERS
    for stage, block in zip(model.stages[1:], found, strict=True):
        assert block is not None
        linear = {path for path, one in model.network.named_modules() if type(one).__name__ in ("Linear", "Conv1D")}
        inside = {path for path in linear if f"{path}.weight" in model.tensors_of(stage)}
        assert {*block.attention, *block.mlp} == inside and not set(block.attention) & set(block.mlp)
        assert len(block.attention) in ((2, 4) if kind in ("gpt2", "modernbert") else (4,)) and len(block.mlp) in (2, 3)


@pytest.mark.parametrize("method", ["lora", "dora", "adapter", "bitfit", "prompt"])
@pytest.mark.parametrize("kind", FAMILIES)
def test_a_step_changes_the_head_and_what_the_method_trains_and_nothing_else(
    model_folder: Folder,
    kind: str,
    method: str,
) -> None:
    if method not in FAMILIES[kind].methods:
        with pytest.raises(Infeasible, match="the network has no biases that bitfit could train; choose another method"):
            adapted(build(model_folder(kind), OUTPUTS), config(method))
        return
    model = adapted(build(model_folder(kind), OUTPUTS), config(method, prompt_tokens=3))
    before = copy.deepcopy(model.network.state_dict())
    step(model)
    after = model.network.state_dict()
    changed = {name for name, _ in model.network.named_parameters() if not torch.equal(after[name], before[name])}
    assert changed == trained(model)
    head = {name for name in model.tensors_of(model.head) if name in changed}
    assert head == {
        name for name, parameter in model.network.named_parameters() if any(parameter is one for one in model.head.parameters())
    }
    mark = {"lora": ".lora_", "dora": ".lora_", "adapter": "_adapter.", "bitfit": "bias", "prompt": "prompt."}[method]
    assert changed - head and all(mark in name for name in changed - head)


@pytest.mark.parametrize("method", LOW_RANK)
@pytest.mark.parametrize("kind", FAMILIES)
def test_the_merged_network_computes_the_same(model_folder: Folder, kind: str, method: str) -> None:
    plain = build(model_folder(kind), OUTPUTS)
    start = outputs(plain)
    model = adapted(build(model_folder(kind), OUTPUTS), config(method))
    assert torch.allclose(outputs(model), start, atol=1e-5)
    perturbed(model)
    plain.network.load_state_dict(model.plain_network().state_dict())
    assert torch.allclose(outputs(plain), outputs(model), atol=1e-5)
    assert not torch.allclose(outputs(model), start, atol=1e-2)


def test_lora_on_the_last_stage_leaves_the_others_frozen_and_plain(model_folder: Folder) -> None:
    model = adapted(build(model_folder("bert"), OUTPUTS), config("lora", lora_layers=1)).train()
    plain = build(model_folder("bert"), OUTPUTS).freeze(LAYERS)
    assert model.frozen == LAYERS and [stage.training for stage in model.stages] == [*[False] * LAYERS, True]
    own, other = model.forward_prefix(texts(), LAYERS), plain.forward_prefix(texts(), LAYERS)
    assert isinstance(own, Sequences) and isinstance(other, Sequences)
    assert torch.equal(own.packed(), other.packed())


def test_prompt_vectors_begin_as_embeddings_of_tokens_and_belong_to_the_seed(model_folder: Folder) -> None:
    state = torch.get_rng_state()
    first, same, other = (adapted(build(model_folder("bert"), OUTPUTS), config("prompt", seed=seed)) for seed in (1, 1, 2))
    assert torch.equal(torch.get_rng_state(), state)
    vectors = first.network.state_dict()["prompt.embedding.weight"]
    known = first.network.state_dict()["bert.embeddings.word_embeddings.weight"]
    assert all(any(torch.equal(vector, one) for one in known) for vector in vectors)
    assert torch.equal(vectors, same.network.state_dict()["prompt.embedding.weight"])
    assert not torch.equal(vectors, other.network.state_dict()["prompt.embedding.weight"])


def test_a_prompt_lengthens_each_text_and_padding_changes_nothing(model_folder: Folder) -> None:
    model = adapted(build(model_folder("bert"), OUTPUTS), config("prompt", prompt_tokens=5)).eval()
    given = texts()
    found = model.stages[0](given)
    assert found.values.shape[1] == 14 and found.lengths.tolist() == [14, 11]
    short = Sequences(given.values[1:, :6], given.lengths[1:])
    with torch.no_grad():
        assert torch.allclose(model(short), model(given)[1:], atol=1e-5)


@pytest.mark.parametrize("values", [{"method": "full", "frozen_layers": 4}, {"method": "lora", "lora_layers": 4}])
def test_more_stages_than_the_model_has_are_infeasible(model_folder: Folder, values: dict[str, Any]) -> None:
    assert adapted(build(model_folder("bert"), OUTPUTS), config("full", frozen_layers=3)).frozen == 3
    with pytest.raises(Infeasible, match="the model has 3 stages; lower frozen_layers or lora_layers"):
        adapted(build(model_folder("bert"), OUTPUTS), config(**values))


def test_a_prompt_needs_positions(model_folder: Folder) -> None:
    with pytest.raises(Infeasible, match="the model has 4 positions left for a prompt; lower prompt_tokens or max_length"):
        adapted(build(model_folder("bert"), OUTPUTS), config("prompt", prompt_tokens=5), free_positions=4)


@pytest.mark.parametrize("kind", FAMILIES)
def test_the_last_stages_start_from_values_of_the_seed(model_folder: Folder, kind: str) -> None:
    state = torch.get_rng_state()
    first, same, other = (adapted(build(model_folder(kind), OUTPUTS), config("full", seed=seed, reinit_layers=1)) for seed in (1, 1, 2))
    loaded = build(model_folder(kind), OUTPUTS, seed=1)
    assert torch.equal(torch.get_rng_state(), state)
    for depth, stage in enumerate(first.stages):
        own, again, another, old = (dict(model.stages[depth].named_parameters()) for model in (first, same, other, loaded))
        assert own.keys() == dict(stage.named_parameters()).keys() and all(torch.equal(own[name], again[name]) for name in own)
        matrices = [name for name in own if own[name].ndim == 2 and "emb" not in name]
        is_last = depth == len(first.stages) - 1
        assert all(torch.equal(own[name], old[name]) is not is_last for name in matrices)
        assert all(torch.equal(own[name], another[name]) is not is_last for name in matrices)
    assert torch.isfinite(dense(outputs(first))).all()


LOADED = {
    "lora": ("bert", "roberta", "electra", "albert", "deberta-v2", "modernbert", "gpt2", "llama"),
    "dora": ("bert", "distilbert", "gemma2"),
    "prompt": ("bert", "qwen2"),
}
PEFT_USE = """\
import json, sys, torch
from peft import AutoPeftModelForSequenceClassification
found = []
for folder, ids, mask in json.loads(sys.argv[1]):
    # The base folders have a head with another number of outputs.
    model = AutoPeftModelForSequenceClassification.from_pretrained(folder, num_labels=3, ignore_mismatched_sizes=True).eval()
    found.append(model(input_ids=torch.tensor(ids), attention_mask=torch.tensor(mask)).logits.tolist())
print(json.dumps(found))
"""


@pytest.mark.slow
def test_peft_loads_saved_adapters_in_a_clean_process(model_folder: Folder, tmp_path: Path) -> None:
    cases = [(kind, method) for method, kinds in LOADED.items() for kind in kinds]
    given, arguments, expected = texts(), [], []
    for kind, method in cases:
        source, folder, settings = model_folder(kind), tmp_path / f"{kind}-{method}", config(method, prompt_tokens=4)
        model = perturbed(adapted(build(source, OUTPUTS), settings))
        save_adapter(model, settings, folder, str(source))
        assert {path.name for path in folder.iterdir()} >= {"adapter_config.json", "adapter_model.safetensors"}
        ids = given.values[..., 0].masked_fill(~given.mask, 1 if FAMILIES[kind].reserved else 0)
        # Under a prompt the library does not find the end of a padded text, which decoders read: it gets the one without padding alone.
        count = 1 if FAMILIES[kind].causal and method == "prompt" else len(ids)
        arguments.append((str(folder), ids[:count].tolist(), given.mask[:count].long().tolist()))
        expected.append(outputs(model)[:count])
    command = [sys.executable, "-c", PEFT_USE, json.dumps(arguments)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=400, check=False, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    for case, found, own in zip(cases, json.loads(done.stdout.splitlines()[-1]), expected, strict=True):
        assert torch.allclose(torch.tensor(found), own, atol=1e-5), case


@pytest.mark.parametrize(("kind", "pooling"), [("bert", "auto"), ("gpt2", "auto"), ("t5", "auto"), ("bert", "mean")])
def test_the_saved_folder_has_the_updates_in_its_weights(
    model_folder: Folder, tmp_path: Path, kind: str, pooling: Literal["auto", "mean"]
) -> None:
    source = model_folder(kind)
    model = perturbed(adapted(build(source, OUTPUTS, pooling=pooling), config("lora")))
    save(model, tmp_path, source, Outputs(names=("a", "b", "c"), problem="single_label_classification", pooling=pooling))
    loaded = build(tmp_path, OUTPUTS, pooling=pooling)
    for own, other in zip(loaded.stages, model.stages, strict=True):
        values, same = own.eval()(own_input(own)), other.eval()(own_input(other))
        assert torch.allclose(values.packed(), same.packed(), atol=1e-5)


def own_input(stage: nn.Module) -> Sequences:
    """Ids for the embeddings, hidden states for a layer."""
    given = texts()
    if isinstance(stage, Embeddings):
        return given
    return given.replaced(torch.randn(2, 9, HIDDEN, generator=torch.Generator().manual_seed(1)))


@pytest.mark.parametrize("method", ["adapter", "prompt"])
def test_layers_that_the_library_lacks_are_not_saved_as_its_network(model_folder: Folder, tmp_path: Path, method: str) -> None:
    source = model_folder("bert")
    model = adapted(build(source, OUTPUTS), config(method))
    with pytest.raises(ValueError, match="which the library's network does not have"):
        save(model, tmp_path / "saved", source, Outputs(names=("a", "b", "c"), problem="single_label_classification"))


def test_a_method_of_a_type_of_models_is_checked_without_torch(model_folder: Folder) -> None:
    code, text = describe_folder(model_folder("llama")).fault_of("method", "bitfit") or ("", "")
    assert (code, text) == (
        "unfit_method",
        "a model of type llama cannot be trained with this method; choose one of full, lora, dora, adapter, prompt",
    )
    assert describe_folder(model_folder("bert")).fault_of("method", "bitfit") is None
