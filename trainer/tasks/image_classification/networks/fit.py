"""Whether a state dict fits a network, and its way into it."""

from collections.abc import Collection, Mapping

import torch
from torch import Tensor

from trainer.models.errors import UnfitWeights
from trainer.models.staged import StagedModel
from trainer.tasks.image_classification.config import ImageModel
from trainer.tasks.image_classification.networks.family import Family

LISTED = 5


def load_into(model: StagedModel, family: Family, tensors: Mapping[str, Tensor], config: ImageModel) -> frozenset[str]:
    """Put the tensors into the network, all but those of the classifier, which stays as it was made. Gives the names of those left.

    The rest of the head may be absent as a whole, or without finite values (torchvision's feature-only weights), and then
    stays as it was made too. Raises UnfitWeights, which names the tensors that do not fit.
    """
    state = family.adapt(dict(tensors), model.network)
    wanted = model.network.state_dict()
    left = set(family.classifier_tensors)
    head = [name for name in model.tensors_of(model.head) if name not in left]
    if not _is_usable(state, head):
        left.update(head)
    state = {name: tensor for name, tensor in state.items() if name not in left}
    wanted = {name: tensor for name, tensor in wanted.items() if name not in left}
    if misfits := _misfits(state, wanted):
        raise UnfitWeights(unfit(str(config.weights), config.name, misfits))
    model.network.load_state_dict(state, strict=False)
    return frozenset(left)


def unfit(weights: str, model: str, misfits: str) -> str:
    """The sentence for weights whose tensors do not fit."""
    return f"the tensors in {weights} do not fit {model}: {misfits}; give weights of this model, or name the model they are for"


def _is_usable(state: Mapping[str, Tensor], names: Collection[str]) -> bool:
    found = [state[name] for name in names if name in state]
    return bool(found) and all(map(_is_finite, found))


def _misfits(state: Mapping[str, Tensor], wanted: Mapping[str, Tensor]) -> str:
    shared = [name for name in wanted if name in state]
    kinds = {
        "missing": [name for name in wanted if name not in state and not name.endswith("num_batches_tracked")],
        "unexpected": [name for name in sorted(state) if name not in wanted],
        "of another shape": [name for name in shared if state[name].shape != wanted[name].shape],
        "not of floating point": [n for n in shared if wanted[n].is_floating_point() and not state[n].is_floating_point()],
        "not finite": [name for name in shared if not _is_finite(state[name])],
    }
    return "; ".join(f"{len(names)} {kind} ({_some(names)})" for kind, names in kinds.items() if names)


def _is_finite(tensor: Tensor) -> bool:
    return not tensor.is_floating_point() or bool(torch.isfinite(tensor).all())


def _some(names: list[str]) -> str:
    return ", ".join(name[:80] for name in names[:LISTED]) + (", …" if len(names) > LISTED else "")
