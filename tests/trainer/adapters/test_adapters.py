"""Adapted networks: what is trained, what starts equal, and that the merged network computes the same."""

import copy
import sys

import pytest
import torch
from torch import Tensor, nn

from tests.trainer.adapters.conftest import MAKERS, Adapt, make
from trainer.adapters.config import AdapterHyperparameters, frozen_stages
from trainer.models import Infeasible, MissingWeights, StagedModel, UnfitModel
from trainer.optimization import parameter_groups
from trainer.sequences import dense

LOW_RANK = ("lora", "dora")
METHODS = (*LOW_RANK, "bitfit", "adapter")
STAGES = 5  # embeddings and four blocks


def trained(model: StagedModel) -> set[str]:
    return {name for name, parameter in model.network.named_parameters() if parameter.requires_grad}


def of_head(model: StagedModel) -> set[str]:
    return set(model.tensors_of(model.head))


def perturbed(model: StagedModel) -> StagedModel:
    """The model after a change of everything that is trained."""
    generator = torch.Generator().manual_seed(2)
    with torch.no_grad():
        for parameter in model.trainable_parameters():
            parameter.add_(torch.randn(parameter.shape, generator=generator) * 0.1)
    return model.eval()


def learn(model: StagedModel, images: Tensor) -> None:
    """Compute the gradients."""
    nn.functional.cross_entropy(model(images), torch.tensor([0, 1, 2, 0])).backward()  # type: ignore[no-untyped-call]


def step(model: StagedModel, images: Tensor) -> None:
    model.train()
    optimizer = torch.optim.AdamW(model.trainable_parameters(), 0.01)
    for _ in range(2):  # the first step of lora changes only the factor that is 0
        optimizer.zero_grad()
        learn(model, images)
        optimizer.step()


@pytest.mark.parametrize("method", METHODS)
def test_a_step_changes_the_head_and_what_the_method_trains_and_nothing_else(
    adapted: Adapt, images: Tensor, kind: str, method: str
) -> None:
    model = adapted(kind, method)
    before = copy.deepcopy(model.network.state_dict())
    step(model, images)
    changed = {name for name, tensor in model.network.state_dict().items() if not torch.equal(tensor, before[name])}
    assert changed == trained(model)
    assert of_head(model) & {name for name, _ in model.network.named_parameters()} <= changed
    marks = {"lora": ".lora_", "dora": ".lora_", "bitfit": "bias", "adapter": "_adapter."}
    assert {name for name in changed - of_head(model) if marks[method] not in name} == set()


@pytest.mark.parametrize("method", METHODS)
def test_the_base_has_no_gradient(adapted: Adapt, images: Tensor, kind: str, method: str) -> None:
    model = adapted(kind, method)
    learn(model.train(), images)
    assert {name for name, parameter in model.network.named_parameters() if parameter.grad is not None} == trained(model)


@pytest.mark.parametrize("method", LOW_RANK)
def test_low_rank_updates_start_at_nothing(adapted: Adapt, images: Tensor, kind: str, method: str) -> None:
    with torch.no_grad():
        assert torch.allclose(adapted(kind, method).eval()(images), make(kind).eval()(images), atol=1e-5)


def test_bottlenecks_start_near_the_identity_and_not_at_it(adapted: Adapt, images: Tensor, kind: str) -> None:
    with torch.no_grad():
        found, plain = adapted(kind, "adapter").eval()(images), make(kind).eval()(images)
    assert torch.allclose(found, plain, atol=1e-2)
    assert not torch.equal(found, plain)


@pytest.mark.parametrize("targets", ["attention", "mlp", "all"])
@pytest.mark.parametrize("method", LOW_RANK)
def test_the_merged_network_computes_the_same_in_the_layout_of_the_base(
    adapted: Adapt, images: Tensor, kind: str, method: str, targets: str
) -> None:
    model = perturbed(adapted(kind, method, lora_targets=targets, lora_dropout=0.2))
    plain = MAKERS[kind][1]().eval()
    plain.load_state_dict(model.plain_network().state_dict())
    with torch.no_grad():
        adapted_outputs = model(images)
        assert torch.allclose(plain(images), adapted_outputs, atol=1e-5)
        assert not torch.allclose(make(kind).eval()(images), adapted_outputs, atol=1e-2)


def test_merging_leaves_the_trained_network_as_it_was(adapted: Adapt, kind: str) -> None:
    model = perturbed(adapted(kind, "lora"))
    before = copy.deepcopy(model.network.state_dict())
    model.plain_network()
    after = model.network.state_dict()
    assert before.keys() == after.keys()
    assert all(torch.equal(before[name], after[name]) for name in before)


@pytest.mark.parametrize("method", METHODS)
def test_equal_configs_give_equal_networks_and_another_seed_another_one(adapted: Adapt, kind: str, method: str) -> None:
    state = torch.get_rng_state()
    first, same, other = (adapted(kind, method, seed=seed).network.state_dict() for seed in (1, 1, 2))
    assert torch.equal(torch.get_rng_state(), state)
    assert all(torch.equal(first[name], same[name]) for name in first)
    if method != "bitfit":
        assert any(not torch.equal(first[name], other[name]) for name in first)


@pytest.mark.parametrize(
    ("method", "hyperparameters", "count"),
    [
        # Linear layers of a block of width 16: 16 to 48, 16 to 16, 16 to 32, 32 to 16. The head: a norm and 16 to 3, 83 parameters.
        ("lora", {"lora_r": 2}, 83 + 4 * 2 * (64 + 32 + 48 + 48)),
        ("lora", {"lora_r": 2, "lora_targets": "attention"}, 83 + 4 * 2 * (64 + 32)),
        ("lora", {"lora_r": 2, "lora_targets": "mlp"}, 83 + 4 * 2 * (48 + 48)),
        ("lora", {"lora_r": 2, "lora_layers": 1}, 83 + 2 * (64 + 32 + 48 + 48)),
        ("dora", {"lora_r": 2}, 83 + 4 * (2 * (64 + 32 + 48 + 48) + 48 + 16 + 32 + 16)),
        ("adapter", {"adapter_size": 3}, 83 + 4 * 2 * (16 * 3 + 3 + 3 * 16 + 16)),
        ("bitfit", {}, 83 + 16 + 4 * (16 + 48 + 16 + 16 + 32 + 16)),
        ("bitfit", {"lora_layers": 2}, 83 + 2 * (16 + 48 + 16 + 16 + 32 + 16)),
    ],
)
def test_the_number_of_trained_parameters(adapted: Adapt, method: str, hyperparameters: dict[str, object], count: int) -> None:
    model = adapted("vit", method, **hyperparameters)
    assert sum(parameter.numel() for parameter in model.trainable_parameters()) == count


@pytest.mark.parametrize(
    ("values", "frozen"),
    [
        ({"method": "full", "frozen_layers": 2}, 2),
        ({"method": "full", "lora_layers": 2}, 0),
        ({"method": "lora"}, 1),
        ({"method": "lora", "lora_layers": 2}, 3),
        ({"method": "dora", "lora_layers": STAGES}, 1),
        ({"method": "adapter", "lora_layers": 1}, 4),
        ({"method": "bitfit"}, 0),
        ({"method": "bitfit", "lora_layers": STAGES}, 0),
        ({"method": "bitfit", "lora_layers": 3}, 2),
        ({"method": "prompt"}, 0),
    ],
)
def test_stages_below_the_lowest_change_are_frozen(values: dict[str, object], frozen: int) -> None:
    assert frozen_stages(dict(AdapterHyperparameters.model_validate(values)), STAGES) == frozen


@pytest.mark.parametrize("method", METHODS)
def test_frozen_stages_are_the_plain_ones_in_evaluation_mode(adapted: Adapt, images: Tensor, kind: str, method: str) -> None:
    model = adapted(kind, method, lora_layers=2).train()
    assert model.frozen == 3
    assert [stage.training for stage in model.stages] == [False, False, False, True, True]
    assert torch.equal(dense(model.forward_prefix(images, 3)), dense(make(kind).freeze(3).forward_prefix(images, 3)))


def test_more_layers_than_stages_are_infeasible(adapted: Adapt) -> None:
    with pytest.raises(Infeasible, match="the model has 5 stages; lower frozen_layers or lora_layers"):
        adapted("vit", "lora", lora_layers=6)


def test_prompt_tuning_needs_a_text_model(adapted: Adapt) -> None:
    with pytest.raises(UnfitModel, match="prompt tuning needs a text model"):
        adapted("vit", "prompt")


def test_layer_decay_lowers_the_rate_from_the_head_downwards(adapted: Adapt) -> None:
    model = adapted("vit", "full", frozen_layers=2)
    assert [group.lr_factor for group in parameter_groups(model)] == [1.0]
    model.layer_decay = 0.5
    groups = parameter_groups(model)
    assert [group.lr_factor for group in groups] == [0.125, 0.25, 0.5, 1.0]
    assert [len(group.parameters) for group in groups] == [12, 12, 12, 4]
    assert {id(one) for group in groups for one in group.parameters} == {id(one) for one in model.trainable_parameters()}


def test_dropout_of_the_update_is_drawn_in_training_alone(adapted: Adapt, images: Tensor, kind: str) -> None:
    model = perturbed(adapted(kind, "lora", lora_dropout=0.5))
    with torch.no_grad():
        assert torch.equal(model(images), model(images))
        model.train()
        assert not torch.equal(model(images), model(images))


@pytest.mark.parametrize("method", METHODS)
def test_adapted_networks_train_in_bfloat16(adapted: Adapt, images: Tensor, kind: str, method: str) -> None:
    model = adapted(kind, method)
    with torch.autocast("cpu", torch.bfloat16):
        found = model.train()(images)
        loss = nn.functional.cross_entropy(found.float(), torch.tensor([0, 1, 2, 0]))
    loss.backward()  # type: ignore[no-untyped-call]
    assert found.dtype == torch.bfloat16
    assert all(
        one.grad is not None and one.grad.dtype == torch.float32 and one.grad.isfinite().all() for one in model.trainable_parameters()
    )
    with torch.no_grad():
        assert torch.allclose(model.eval()(images), found.float(), rtol=0.1, atol=0.3)


def test_without_peft_the_error_has_the_extra_to_install(adapted: Adapt, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "peft", None)
    with pytest.raises(MissingWeights, match=r"need the package peft, which this machine lacks; install thawline\[text\]"):
        adapted("vit", "lora")
    assert adapted("vit", "bitfit").trained and adapted("vit", "adapter").trained
