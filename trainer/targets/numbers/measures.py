"""Metrics and losses of regression, for one model and for many."""

from collections.abc import Mapping, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor


def measure(predicted: Tensor, targets: Tensor) -> list[Mapping[str, float]]:
    """Metrics of each of M models: predictions float64 [M, N] and targets float64 [N], both in the unit of the data.

    A correlation with a constant is 0; R² of constant targets is 0, or 1 if every prediction is right.
    """
    errors = predicted - targets
    squares = errors.square().sum(1)
    centred, y = predicted - predicted.mean(1, keepdim=True), targets - targets.mean()
    spread = y.square().sum()
    columns = {
        "rmse": (squares / len(targets)).sqrt(),
        "mae": errors.abs().mean(1),
        "r2": torch.where(spread > 0, 1 - squares / spread.clamp(min=torch.finfo(spread.dtype).tiny), (squares == 0).to(squares.dtype)),
        "pearson": _correlation(centred, y),
        "spearman": spearman(predicted, targets),
    }
    rows = torch.stack([*columns.values()], 1).tolist()
    return [dict(zip(columns, row, strict=True)) for row in rows]


def spearman(predicted: Tensor, targets: Tensor) -> Tensor:
    """Correlation of the ranks of predictions [M, N] and targets [N], equal values having their mean rank → [M]."""
    ranks, y = _ranks(predicted), _ranks(targets[None])[0]
    return _correlation(ranks - ranks.mean(1, keepdim=True), y - y.mean())


def _ranks(values: Tensor) -> Tensor:
    """Ranks of values [M, N] in each row, the mean of ties, float64; NaN in a row with NaN."""
    ordered, order = values.sort(1)
    place = torch.arange(values.shape[1], device=values.device).expand_as(order)
    new = torch.ones_like(ordered, dtype=torch.bool)  # where a place has another value than the one before it
    new[:, 1:] = ordered[:, 1:] != ordered[:, :-1]
    ranks = place.double()
    if not bool(new.all()):
        first = torch.where(new, place, 0).cummax(1).values
        ends = torch.ones_like(new)
        ends[:, :-1] = new[:, 1:]
        last = torch.where(ends, place, values.shape[1]).flip(1).cummin(1).values.flip(1)
        ranks = (first + last).double() / 2
    found = torch.empty_like(ranks).scatter_(1, order, ranks)
    return found.masked_fill(values.isnan().any(1, keepdim=True), torch.nan)


def _correlation(x: Tensor, y: Tensor) -> Tensor:
    """The correlation of centred x [M, N] and centred y [N] → [M]; 0 where one is constant up to rounding."""
    product, whole = (x * y).sum(1), (x.square().sum(1) * y.square().sum()).sqrt()
    found = (product / whole.clamp(min=torch.finfo(whole.dtype).tiny)).clamp(-1, 1)
    return torch.where(whole > 0, found, torch.where(whole.isnan(), whole, torch.zeros_like(whole)))


def loss_of(outputs: Tensor, standardised: Tensor, loss: str, delta: float) -> Tensor:
    """The loss of each example [B], given outputs float32 [B] and standardised targets [B]."""
    match loss:
        case "mse":
            return F.mse_loss(outputs, standardised, reduction="none")
        case "l1":
            return F.l1_loss(outputs, standardised, reduction="none")
        case "huber":
            return F.huber_loss(outputs, standardised, reduction="none", delta=delta)
        case _:
            raise ValueError(f"{loss} is no loss of regression")


class HeadsNumberLoss:
    """The losses of M heads with a hand-written gradient.

    For one member and one example with the error e, and c = clamp(e, -d, d):
        huber  L = c (e - c / 2)    dL/de = c, with d = huber_delta
        mse    L = 2 c (e - c / 2)  dL/de = 2 c, with d = infinity
        l1     L = c e              dL/de = c = sign(e)
    The mean over B examples divides both by B.
    """

    def __init__(self, losses: Sequence[str], deltas: Sequence[float], mean: float, std: float, device: torch.device) -> None:
        """For each of M members its loss and huber_delta; mean and standard deviation of the training targets."""
        self._losses, self._deltas, self._mean, self._std, self._device = tuple(losses), tuple(deltas), mean, std, device
        limits = [delta if loss == "huber" else torch.inf for loss, delta in zip(losses, deltas, strict=True)]
        self._limit = torch.tensor(limits, device=device)[:, None, None]
        self._lowest = -self._limit
        self._factor = torch.tensor([2.0 if loss == "mse" else 1.0 for loss in losses], device=device)[:, None, None]
        self._linear: Tensor | None = None  # whether a member's loss is l1, [M, 1, 1]
        if "l1" in losses:
            self._linear = torch.tensor([loss == "l1" for loss in losses], device=device)[:, None, None]

    def of(self, first: int, last: int) -> "HeadsNumberLoss":
        """The loss of members `first` to `last`, the latter excluded."""
        return HeadsNumberLoss(self._losses[first:last], self._deltas[first:last], self._mean, self._std, self._device)

    def __call__(self, outputs: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
        """Outputs [M, 1, B], targets [B] in the unit of the data → mean losses [M], gradient by the outputs [M, 1, B]."""
        errors = outputs - standardised(targets, self._mean, self._std).to(outputs.dtype)
        slope = errors.clamp(self._lowest, self._limit)
        half = slope / 2
        if self._linear is not None:
            slope, half = torch.where(self._linear, errors.sign(), slope), torch.where(self._linear, 0.0, half)
        slope_of_mean = slope * self._factor
        losses = (slope_of_mean * (errors - half)).mean((1, 2))
        return losses, slope_of_mean / len(targets)


def standardised(targets: Tensor, mean: float, std: float) -> Tensor:
    """Targets float64 in the unit of the data → float32 in standard deviations from the mean."""
    return ((targets - mean) / std).float()
