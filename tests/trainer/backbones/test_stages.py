"""The stages of each type compute what the library computes, independent of padding, and freeze as stages do."""

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tests.trainer.backbones.conftest import VOCABULARY
from trainer.backbones.description import AutoPooling, describe_folder
from trainer.backbones.factory import PooledText, build
from trainer.backbones.families import FAMILIES
from trainer.backbones.stages import final_norm
from trainer.models import StagedModel
from trainer.sequences import Sequences

Folder = Callable[..., Path]
LENGTHS = (9, 5, 7, 2)
OUTPUTS = 5
WITH_SEGMENTS = ("bert", "roberta", "xlm-roberta", "electra", "albert")
POOLINGS: tuple[AutoPooling, ...] = ("cls", "mean", "last", "max")


def texts(pad: int = 0, lengths: tuple[int, ...] = LENGTHS) -> Sequences:
    """Random texts; the padding consists of the id `pad`."""
    random = torch.Generator().manual_seed(1)
    ids = torch.randint(5, VOCABULARY, (len(LENGTHS), max(LENGTHS)), generator=random)
    segments = torch.randint(0, 2, ids.shape, generator=random)
    found = Sequences(torch.stack((ids, segments), -1), torch.tensor(lengths))
    return found.replaced(torch.where(found.mask[:, :, None], found.values, torch.tensor([pad, 0])))


def single(batch: Sequences, place: int) -> Sequences:
    length = int(batch.lengths[place])
    return Sequences(batch.values[place : place + 1, :length], batch.lengths[place : place + 1])


def after(model: StagedModel, given: Sequences, k: int | None = None) -> Sequences:
    for stage in model.stages[:k]:
        given = stage(given)
    return given


def base_of(model: StagedModel) -> Any:
    return model.stages[0].base


def inputs_of(kind: str, batch: Sequences) -> dict[str, Tensor]:
    """The library's arguments."""
    ids, segments = batch.values.unbind(-1)
    named = {"input_ids": ids, "attention_mask": batch.mask.long()}
    return named | ({"token_type_ids": segments} if kind in WITH_SEGMENTS else {})


def losses(model: StagedModel, batch: Sequences) -> Tensor:
    return F.cross_entropy(model(batch), torch.arange(len(batch)) % OUTPUTS)


@pytest.fixture(params=FAMILIES)
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def model(kind: str, model_folder: Folder) -> StagedModel:
    return build(model_folder(kind), OUTPUTS, dropout=0.1).eval()


@torch.no_grad()
def test_stages_compute_the_librarys_hidden_states_and_outputs(kind: str, model: StagedModel) -> None:
    batch, norm = texts(1 if FAMILIES[kind].reserved else 0), final_norm(base_of(model))
    states = after(model, batch).values
    states = states if norm is None else norm[0](states)
    expected = base_of(model)(**inputs_of(kind, batch)).last_hidden_state
    assert torch.allclose(states[batch.mask], expected[batch.mask], rtol=1e-5, atol=1e-5)
    if kind == "t5":  # the library's own head needs the decoder
        mean = (expected * batch.mask[:, :, None]).sum(1) / batch.lengths[:, None]
        assert isinstance(model.network, PooledText)
        assert torch.allclose(model(batch), model.network.classifier(mean), rtol=1e-5, atol=1e-5)
        return
    outputs = model(batch)
    assert torch.allclose(outputs, model.network(**inputs_of(kind, batch)).logits, rtol=1e-5, atol=1e-5)
    for place in range(len(batch)):
        own = single(batch, place)
        alone = model.network(**inputs_of(kind, own)).logits
        assert torch.allclose(outputs[place], alone[0], rtol=1e-4, atol=1e-5)
    assert outputs.std(0).min() > 1e-3  # the texts have different outputs, so that the comparison can fail


@torch.no_grad()
def test_nothing_depends_on_padding(kind: str, model: StagedModel) -> None:
    batch = texts()
    longer = Sequences(F.pad(batch.values, (0, 0, 0, 5), value=7), batch.lengths)
    longer = longer.replaced(torch.where(longer.mask[:, :, None], longer.values, torch.tensor([9, 1])))
    assert torch.allclose(model(batch), model(longer), rtol=1e-4, atol=1e-5)
    for k in range(len(model.stages)):  # a stored output is padded anew, with other values
        states = after(model, batch, k + 1)
        other = states.replaced(torch.where(states.mask[:, :, None], states.values, torch.tensor(3.0)))
        assert torch.allclose(model.forward_from(other, k + 1), model(batch), rtol=1e-4, atol=1e-5)


def test_as_many_stages_are_frozen_as_asked_for(kind: str, model_folder: Folder) -> None:
    batch = texts()
    model = build(model_folder(kind), OUTPUTS, dropout=0.1)
    for k in range(len(model.stages) + 1):
        model.freeze(k).train()
        model.zero_grad()
        losses(model, batch).backward()  # type: ignore[no-untyped-call]
        for place, part in enumerate((*model.stages, model.head)):
            learns = place >= k
            parameters = list(part.parameters())
            assert parameters and all(parameter.requires_grad == learns for parameter in parameters)
            assert any(parameter.grad is not None and bool(parameter.grad.any()) for parameter in parameters) == learns
            assert all(module.training == learns for module in part.modules())
        learning = {id(tensor) for part in (*model.stages[k:], model.head) for tensor in part.parameters()}
        assert {id(tensor) for tensor in model.trainable_parameters()} == learning


def test_a_stored_prefix_equals_a_computed_one(kind: str, model_folder: Folder) -> None:
    """Also in training mode, in which a frozen stage has no dropout, and after steps that change what is not frozen."""
    batch = texts()
    model = build(model_folder(kind), OUTPUTS)
    for k in range(1, len(model.stages) + 1):
        model.freeze(k).train()
        stored = model.forward_prefix(batch, k)
        assert isinstance(stored, Sequences) and not stored.values.requires_grad
        optimizer = torch.optim.SGD(model.trainable_parameters(), lr=0.1)
        losses(model, batch).backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        again = model.forward_prefix(batch, k)
        assert isinstance(again, Sequences)
        assert torch.equal(again.values, stored.values)
        model.eval()
        assert torch.equal(model.forward_from(stored, k), model(batch))


def test_equal_arguments_give_equal_models_and_leave_torchs_random_state(kind: str, model_folder: Folder) -> None:
    before = torch.get_rng_state()
    first, second, other = (build(model_folder(kind), OUTPUTS, seed=seed).network.state_dict() for seed in (3, 3, 4))
    assert torch.equal(torch.get_rng_state(), before)
    assert all(torch.equal(tensor, second[name]) for name, tensor in first.items())
    changed = {name for name, tensor in first.items() if not torch.equal(tensor, other[name])}
    assert changed == build(model_folder(kind), OUTPUTS).drawn


def test_random_weights_depend_on_the_seed(kind: str, model_folder: Folder) -> None:
    first, second, other = (build(model_folder(kind), OUTPUTS, seed=seed, weights="random") for seed in (3, 3, 4))
    batch = texts()
    assert torch.equal(first.eval()(batch), second.eval()(batch))
    assert not torch.equal(first(batch), other.eval()(batch))
    for name, value in first.fresh_head(3).items():
        assert torch.equal(value, first.network.state_dict()[name])


def test_a_copy_shares_nothing_with_the_model(model: StagedModel) -> None:
    batch, twin = texts(), copy.deepcopy(model)
    with torch.no_grad():
        before = model(batch)
        for parameter in twin.parameters():
            parameter.add_(0.1)
        assert torch.equal(model(batch), before) and not torch.equal(twin(batch), before)


def test_the_state_dict_can_be_saved_and_loaded(kind: str, model: StagedModel, model_folder: Folder) -> None:
    content = safetensors.torch.save({name: tensor.contiguous() for name, tensor in model.network.state_dict().items()})
    other, batch = build(model_folder(kind), OUTPUTS, seed=9, weights="random").eval(), texts()
    other.network.load_state_dict(safetensors.torch.load(content))
    with torch.no_grad():
        assert torch.equal(other(batch), model(batch))


@pytest.mark.parametrize("pooling", POOLINGS)
def test_poolings_are_those_of_the_librarys_hidden_states(pooling: AutoPooling, kind: str, model_folder: Folder) -> None:
    model, batch = build(model_folder(kind), OUTPUTS, pooling=pooling).eval(), texts(1 if FAMILIES[kind].reserved else 0)
    assert isinstance(model.network, PooledText)
    with torch.no_grad():
        states = base_of(model)(**inputs_of(kind, batch)).last_hidden_state
        rows = [own[:length] for own, length in zip(states, LENGTHS, strict=True)]
        match pooling:
            case "cls":
                pooled = [row[0] for row in rows]
            case "last":
                pooled = [row[-1] for row in rows]
            case "mean":
                pooled = [row.mean(0) for row in rows]
            case _:
                pooled = [row.amax(0) for row in rows]
        expected = model.network.classifier(torch.stack(pooled))
        assert torch.allclose(model(batch), expected, rtol=1e-4, atol=1e-5)


def test_the_description_counts_the_parameters_of_stages_and_head(kind: str, model: StagedModel, model_folder: Folder) -> None:
    info = describe_folder(model_folder(kind))
    assert model.stage_names == info.stage_names
    assert info.stage_parameters == tuple(sum(tensor.numel() for tensor in stage.parameters()) for stage in model.stages)
    for pooling in ("auto", *POOLINGS):
        head = build(model_folder(kind), OUTPUTS, pooling=pooling).head
        assert info.head_parameters(pooling, OUTPUTS) == sum(tensor.numel() for tensor in head.parameters())


@pytest.mark.parametrize("precision", [torch.bfloat16, torch.float16])
def test_lower_precision_computes_nearly_the_same(precision: torch.dtype, kind: str, model_folder: Folder) -> None:
    model, batch = build(model_folder(kind), OUTPUTS), texts()
    with torch.autocast("cpu", precision):
        outputs = model(batch)
    outputs.float().sum().backward()
    expected = model(batch)
    assert not torch.equal(outputs.float(), expected)
    assert (outputs - expected).abs().max() < 0.1 * expected.abs().max()
    assert all(bool(parameter.grad.isfinite().all()) for parameter in model.parameters() if parameter.grad is not None)


def test_layers_that_share_weights_are_one_stage(model_folder: Folder) -> None:
    model = build(model_folder("albert", num_hidden_groups=1), OUTPUTS)
    assert model.stage_names == ("embeddings", "layers 0-3")
    assert build(model_folder("albert"), OUTPUTS).stage_names == ("embeddings", "layers 0-1", "layers 2-3")


def test_gemma_without_a_causal_mask(model_folder: Folder) -> None:
    model = build(model_folder("gemma3_text", use_bidirectional_attention=True), OUTPUTS).eval()
    batch = texts()
    with torch.no_grad():
        assert torch.allclose(model(batch), model.network(**inputs_of("gemma3_text", batch)).logits, rtol=1e-5, atol=1e-5)
        changed = batch.values.clone()
        changed[0, 3] = torch.tensor([6, 0])
        causal = build(model_folder("gemma3_text"), OUTPUTS).eval()
        first = [after(one, own).values[0, 1] for one in (model, causal) for own in (batch, batch.replaced(changed))]
    assert not torch.equal(first[0], first[1]) and torch.equal(first[2], first[3])


def test_the_head_has_the_dropout_that_is_asked_for(model: StagedModel) -> None:
    assert {layer.p for layer in model.head.modules() if isinstance(layer, nn.Dropout)} == {0.1}
