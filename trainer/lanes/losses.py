"""What an epoch's training losses say of each lane."""

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from trainer.contract import Failed
from trainer.lanes.team import Team


def diverged(team: Team, epoch: int, losses: Tensor, rates: Tensor) -> Iterator[tuple[int, Failed]]:
    """The lanes whose losses [steps, L] or parameters are not finite, with what is to be told of them."""
    sound = losses.isfinite().cpu()
    for place, (lane, whole) in enumerate(zip(team.numbers, team.finite(), strict=True)):
        if not bool(sound[:, place].all()):
            batch = int(sound[:, place].logical_not().nonzero()[0, 0])
            found, lr = float(losses[batch, place]), float(rates[batch, place])
            detail = f"the training loss was {found} in batch {batch + 1} of epoch {epoch}, at a learning rate of {lr:.3g}"
        elif not whole:
            detail = f"parameters were not finite after epoch {epoch}, at a learning rate of {float(rates[-1, place]):.3g}"
        else:
            continue
        yield lane, Failed(lane=lane, reason="diverged", detail=detail, step=epoch - 1)


def other_metrics(team: Team, sizes: Sequence[int], losses: Tensor, rates: Tensor) -> dict[int, dict[str, float]]:
    """By lane, the metrics that are not measured on validation images: the mean training loss and the last learning rate."""
    weights = torch.tensor(sizes, dtype=torch.float64) / sum(sizes)
    means = (losses.double().cpu() * weights[:, None]).sum(0).tolist()
    return {lane: {"train_loss": mean, "lr": lr} for lane, mean, lr in zip(team.numbers, means, rates[-1].tolist(), strict=True)}
