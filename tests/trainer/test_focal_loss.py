"""The focal loss: its definition, its hand-written gradient, and configs without it."""

from collections.abc import Callable

import pytest
import torch

from trainer.targets.classes.losses import CrossEntropy, HeadsCrossEntropy
from trainer.tasks.image_classification.config import ImageClassificationConfig, ImageClassificationInfo
from trainer.tasks.image_classification.task import TASK

MEMBERS, CLASSES, BATCH = 4, 5, 7
GAMMAS = (0.0, 0.5, 1.0, 2.0)


def outputs_and_classes(scale: float) -> tuple[torch.Tensor, torch.Tensor]:
    random = torch.Generator().manual_seed(0)
    logits = torch.randn((MEMBERS, CLASSES, BATCH), generator=random, dtype=torch.float64) * scale
    return logits, torch.randint(0, CLASSES, (BATCH,), generator=random)


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("scale", [1.0, 10.0])
def test_the_hand_written_gradient_is_that_of_autograd(smoothing: float, weighted: bool, scale: float) -> None:
    logits, classes = outputs_and_classes(scale)
    weights = torch.linspace(0.5, 2, CLASSES, dtype=torch.float64)
    gammas = torch.tensor(GAMMAS, dtype=torch.float64)
    heads = HeadsCrossEntropy(
        smoothing=torch.full((MEMBERS,), smoothing, dtype=torch.float64),
        weighted=[weighted] * MEMBERS,
        class_weights=weights,
        focal_gamma=gammas,
    )
    losses, slope = heads(logits, classes)
    logits.requires_grad_()
    each = [CrossEntropy(smoothing, weights if weighted else None, gamma)(logits[place].T, classes) for place, gamma in enumerate(GAMMAS)]
    expected = torch.stack(each).mean(1)
    expected.sum().backward()  # type: ignore[no-untyped-call]
    assert losses == pytest.approx(expected.detach(), rel=1e-9)
    assert logits.grad is not None and slope == pytest.approx(logits.grad, abs=1e-9)
    assert heads.of(1, 3)(logits.detach()[1:3], classes)[1] == pytest.approx(slope[1:3])


def test_the_loss_is_the_cross_entropy_times_a_power_of_what_the_true_class_lacks() -> None:
    logits, classes = outputs_and_classes(1.0)
    own = logits[0].softmax(0).gather(0, classes[None])[0]
    assert CrossEntropy(0.0, None, 2.0)(logits[0].T, classes) == pytest.approx(-((1 - own) ** 2) * own.log())


def test_an_example_that_is_certainly_right_has_finite_values() -> None:
    logits, classes = torch.zeros((1, CLASSES, 1)), torch.tensor([2])
    logits[0, 2] = 200
    for gamma in (0.5, 2.0):
        losses, slope = HeadsCrossEntropy(smoothing=torch.tensor([0.1]), focal_gamma=torch.tensor([gamma]))(logits, classes)
        assert losses.isfinite().all() and slope.isfinite().all()


def test_heads_without_it_train_by_the_plain_loss(configure: Callable[..., ImageClassificationConfig]) -> None:
    config = configure()
    info = ImageClassificationInfo(classes=("a", "b"), images={}, fingerprint="", split="", weights_sha256=None)
    classes = torch.tensor([0, 1, 1])
    logits = torch.randn((2, 2, 3), generator=torch.Generator().manual_seed(0))
    focal = config.model_copy(update={"focal_gamma": 2.0})
    plain, mixed = TASK.heads_loss([config, config], classes, info), TASK.heads_loss([config, focal], classes, info)
    alone = TASK.heads_loss([focal], classes, info)
    assert mixed(logits, classes)[1][0] == pytest.approx(plain(logits, classes)[1][0], abs=1e-7)
    assert torch.equal(mixed(logits, classes)[1][1], alone(logits[1:], classes)[1][0])
    settings = TASK.loss_settings(focal, classes, info)
    assert TASK.loss_of(logits[1].T, classes, settings)[0].mean() == pytest.approx(float(alone(logits[1:], classes)[0]), abs=1e-6)


def test_configs_without_it_are_written_as_before(configure: Callable[..., ImageClassificationConfig]) -> None:
    assert "focal_gamma" not in configure().model_dump_json() and "focal_gamma" in configure(focal_gamma=1.0).model_dump_json()
