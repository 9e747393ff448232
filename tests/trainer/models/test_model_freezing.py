"""Frozen stages stay as they are, to the bit; the others and the head learn."""

from types import SimpleNamespace

import pytest
import torch
from torch import Tensor, nn

from trainer.models import StagedModel


def train_a_little(model: StagedModel, batch: Tensor) -> None:
    labels = torch.arange(len(batch)) % 7
    optimizer = torch.optim.SGD(model.trainable_parameters(), lr=0.02)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        for _ in range(2):  # the first moves a head that begins at zero, the second what is below it
            optimizer.zero_grad()
            nn.functional.cross_entropy(model(batch), labels).backward()  # type: ignore[no-untyped-call]
            optimizer.step()


def test_frozen_stages_stay_as_they_are_and_all_others_learn(sample: str, networks: SimpleNamespace) -> None:
    model = networks.seeded(sample, networks.small_size(sample))
    batch = networks.images(4, networks.small_size(sample))
    for k in (len(model.stages), len(model.stages) // 2, 0):
        model.eval().freeze(k).train()
        before = {title: tensor.clone() for title, tensor in model.network.state_dict().items()}
        train_a_little(model, batch)
        after = model.network.state_dict()
        for index, part in enumerate((*model.stages, model.head)):
            parameters = {title for title, tensor in model.tensors_of(part).items() if isinstance(tensor, nn.Parameter)}
            statistics = {
                title for title in model.tensors_of(part) if title.endswith(("running_mean", "running_var", "num_batches_tracked"))
            }
            changed = {title for title in model.tensors_of(part) if not torch.equal(before[title], after[title])}
            learns = index >= k
            assert all(tensor.requires_grad == learns for tensor in part.parameters())
            assert all(module.training == learns for module in part.modules())
            assert bool(changed & parameters) == learns
            assert changed >= statistics if learns else not changed


def test_a_frozen_prefix_is_a_pure_function_without_gradient(sample: str, networks: SimpleNamespace) -> None:
    model = networks.seeded(sample, networks.small_size(sample)).freeze(2).train()
    batch = networks.images(2, networks.small_size(sample)).requires_grad_()
    first, second = model.forward_prefix(batch, 2), model.forward_prefix(batch, 2)
    assert torch.equal(first, second)
    assert not first.requires_grad


@pytest.mark.parametrize("k", [0, 2, 4])
def test_only_what_is_not_frozen_is_handed_to_the_optimizer(networks: SimpleNamespace, k: int) -> None:
    model = networks.seeded("small_cnn", 16).freeze(k)
    learning = [tensor for part in (*model.stages[k:], model.head) for tensor in part.parameters()]
    assert [id(tensor) for tensor in model.trainable_parameters()] == [id(tensor) for tensor in learning]


@pytest.mark.parametrize("k", [-1, 5])
def test_stages_that_are_not_there_cannot_be_frozen(networks: SimpleNamespace, k: int) -> None:
    with pytest.raises(ValueError, match="the model has 4"):
        networks.seeded("small_cnn", 16).freeze(k)


def test_a_prefix_that_is_not_frozen_is_refused(networks: SimpleNamespace) -> None:
    model = networks.seeded("small_cnn", 16).freeze(2)
    with pytest.raises(ValueError, match="the first 3 stages are not all frozen; 2 are"):
        model.forward_prefix(networks.images(1, 16), 3)


def test_evaluation_mode_holds_for_all_stages(networks: SimpleNamespace) -> None:
    model = networks.seeded("small_cnn", 16).freeze(2).train().eval()
    assert not any(module.training for part in (*model.stages, model.head) for module in part.modules())
