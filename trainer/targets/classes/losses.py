"""Cross entropy of one model's outputs, and of heads trained together with a hand-written gradient."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor


@dataclass(frozen=True, slots=True, eq=False)
class CrossEntropy:
    """Settings of the cross entropy."""

    smoothing: float
    class_weights: Tensor | None  # [C]
    focal_gamma: float = 0.0

    def __call__(self, logits: Tensor, targets: Tensor) -> Tensor:
        """Logits float32 [B, C] and classes [B] → losses in nats [B]."""
        losses = F.cross_entropy(logits, targets, reduction="none", label_smoothing=self.smoothing)
        if self.class_weights is not None:  # by the true class; torch's own weights would weight each smoothed target separately
            losses = losses * self.class_weights[targets]
        if self.focal_gamma:
            own = logits.log_softmax(1).gather(1, targets[:, None])[:, 0]
            losses = losses * _missing(own).clamp(min=LEAST).pow(self.focal_gamma)
        return losses


LEAST = 1e-7  # of 1 - p: a power with an exponent below 0 stays finite


def _missing(logs: Tensor) -> Tensor:
    """1 - p for log p."""
    return logs.expm1().neg()


def balanced_weights(targets: Tensor, classes: int) -> Tensor:
    """Class weights float32 [C] for `class_weights: balanced`; `targets` are the classes of the training examples.

    n / (k * n_c) as in scikit-learn. Their mean over the training examples is 1, so they do not change the scale of the gradient, and
    learning rates stay comparable.
    """
    counts = targets.bincount(minlength=classes).float()
    return len(targets) / (len(counts) * counts.clamp(min=1))


class HeadsCrossEntropy:
    """Cross entropy of M heads with a hand-written gradient.

    For one member and one example of class y: logits z [C], p = softmax(z), smoothing e, class weight w.
        loss        L       = w (-(1 - e) log p_y - e / C Σ_c log p_c)
        derivative  ∂log p_j / ∂z_c = [c = j] - p_c
        gradient    ∂L / ∂z_c = w (p_c - (1 - e) [c = y] - e / C)
    The p_c terms add up to w p_c, since the targets' weights (1 - e) + C e / C are 1. The mean over B examples divides both by B.

    The focal loss (Lin et al., Focal Loss for Dense Object Detection, 2017) is f L with f = (1 - p_y)^g. By the product rule, with
    ∂p_y / ∂z_c = p_y ([c = y] - p_c), its gradient is f ∂L / ∂z_c - L g (1 - p_y)^(g - 1) p_y ([c = y] - p_c).
    """

    def __init__(
        self,
        *,
        smoothing: Tensor,
        weighted: Sequence[bool] = (),
        class_weights: Tensor | None = None,
        focal_gamma: Tensor | None = None,
    ) -> None:
        """Label smoothing [M]; for each member whether its loss is weighted by class (empty: none is); the class weights [C]; g [M]."""
        self._gamma = focal_gamma
        self.class_weights, self._smoothing, self._weighted = class_weights, smoothing, tuple(weighted)
        # Tested once here: in `__call__` the test would make the host wait for the device in every step.
        self._smooth = smoothing if bool(smoothing.any()) else None
        self._weights: Tensor | None = None  # [M, C]
        if class_weights is not None and any(self._weighted):
            self._weights = torch.stack([class_weights if own else torch.ones_like(class_weights) for own in self._weighted])

    def of(self, first: int, last: int) -> "HeadsCrossEntropy":
        """The loss of members `first` to `last`, the latter excluded."""
        smoothing, weighted = self._smoothing[first:last], self._weighted[first:last]
        gamma = None if self._gamma is None else self._gamma[first:last]
        return HeadsCrossEntropy(smoothing=smoothing, weighted=weighted, class_weights=self.class_weights, focal_gamma=gamma)

    def __call__(self, outputs: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
        """Logits [M, C, B], classes [B] → mean losses [M], gradient by the logits [M, C, B]. A mean over examples, not weights."""
        members, classes, count = outputs.shape
        smoothing = self._smooth
        logs = outputs.log_softmax(1)  # log p, [M, C, B]
        true = targets.expand(members, 1, count)
        each = None if self._weights is None else self._weights[:, None, targets]  # w of each example, [M, 1, B]
        if self._gamma is not None:
            return self._focal(logs, true, each, self._gamma[:, None, None])
        of_true, of_all = logs.gather(1, true), logs if each is None else logs * each
        losses, slope = (of_true if each is None else of_true * each).mean((1, 2)).neg_(), logs.exp()
        # `slope` is p at first; subtract the smoothed targets.
        if smoothing is None:
            slope.scatter_add_(1, true, slope.new_full((1, 1, 1), -1).expand(members, 1, count))
        else:
            losses = losses * (1 - smoothing) - of_all.mean((1, 2)) * smoothing
            slope.sub_((smoothing / classes)[:, None, None])
            slope.scatter_add_(1, true, (smoothing - 1)[:, None, None].expand(members, 1, count))
        return losses, (slope if each is None else slope.mul_(each)).div_(count)

    def _focal(self, logs: Tensor, true: Tensor, each: Tensor | None, gamma: Tensor) -> tuple[Tensor, Tensor]:
        """The focal loss: log p [M, C, B], classes [M, 1, B], class weights [M, 1, B] and exponents [M, 1, 1]."""
        _, classes, count = logs.shape
        smoothing = self._smoothing[:, None, None]
        of_true = logs.gather(1, true)  # log p_y, [M, 1, B]
        is_true = torch.zeros_like(logs).scatter_(1, true, 1.0)
        probabilities, exact = logs.exp(), _missing(of_true)
        missing = exact.clamp(min=LEAST)  # constant below LEAST, where its derivative is 0
        losses = -(1 - smoothing) * of_true - smoothing * logs.mean(1, keepdim=True)  # L, [M, 1, B]
        factor = missing.pow(gamma)  # f
        slope = factor * (probabilities - (1 - smoothing) * is_true - smoothing / classes)
        slope -= losses * gamma * missing.pow(gamma - 1) * (exact >= LEAST) * of_true.exp() * (is_true - probabilities)
        losses = losses * factor
        if each is not None:
            losses, slope = losses * each, slope * each
        return losses.mean((1, 2)), slope / count


class TabulatedCrossEntropy:
    """The function of HeadsCrossEntropy in five operations, whatever the members' smoothing and class weights are.

    With targets t_c = w ((1 - e) [c = y] + e / C), the loss is -Σ_c t_c log p_c and its gradient w p_c - t_c. The targets of each class y
    are in a table, and the gradient is torch's backward kernel of log_softmax, whose input is -t.
    """

    def __init__(self, smoothing: Sequence[float], weighted: Sequence[bool], class_weights: Tensor) -> None:
        """Label smoothing and whether the loss is weighted by class, for each of M members; the class weights [C]."""
        self._smoothing, self._weighted, self._class_weights = tuple(smoothing), tuple(weighted), class_weights
        settings, classes = list(zip(self._smoothing, self._weighted, strict=True)), len(class_weights)
        distinct, like = list(dict.fromkeys(settings)), class_weights
        each = like.new_tensor([own for own, _ in distinct])[:, None, None]
        weights = torch.stack([class_weights if own else torch.ones_like(class_weights) for _, own in distinct])[:, None, :]
        same = torch.eye(classes, dtype=like.dtype, device=like.device)
        self._table = -weights * ((1 - each) * same + each / classes)  # by setting, class c and true class y
        self._setting = torch.tensor([distinct.index(own) for own in settings], device=like.device)[:, None, None]
        self._class = torch.arange(classes, device=like.device)[:, None]
        self._of_mean, self._count = self._table, 1  # the table over the number of examples in the last batch

    def of(self, first: int, last: int) -> "TabulatedCrossEntropy":
        """The loss of members `first` to `last`, the latter excluded."""
        return TabulatedCrossEntropy(self._smoothing[first:last], self._weighted[first:last], self._class_weights)

    def __call__(self, outputs: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
        """As HeadsCrossEntropy: logits [M, C, B], classes [B] → mean losses [M], gradient by the logits [M, C, B]."""
        if self._count != len(targets):  # only the last batch of an epoch differs
            self._of_mean, self._count = self._table / len(targets), len(targets)
        found = self._of_mean[self._setting, self._class, targets]  # -t of each example, [M, C, B]
        logs = outputs.log_softmax(1)
        losses = (logs * found).sum((1, 2))
        return losses, torch.ops.aten._log_softmax_backward_data(found, logs, 1, logs.dtype)


def tabulates(device: torch.device) -> bool:
    """Whether few operations are faster than small ones on the device."""
    return device.type != "cpu"
