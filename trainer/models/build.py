"""From a TrainConfig to the model that is trained."""

import copy

import torch
from torch import Tensor, nn

import trainer.catalogue as catalogue
from trainer.contract import TrainConfig
from trainer.models import weights
from trainer.models.errors import UnfitImageSize, UnfitModel
from trainer.models.families import BY_MODEL
from trainer.models.fit import load_into
from trainer.models.staged import StagedModel


def build(config: TrainConfig, classes: int) -> StagedModel:
    """The model on the CPU, with its weights loaded, a new last layer for the classes, and its first stages frozen.

    Equal configs give equal models, bit for bit, with a head that follows from seed and weights alone; torch's own random state
    stays as it is. Raises UnfitModel: UnfitImageSize, WeightsUnavailable or UnfitWeights, and itself for an unknown model and for
    more frozen stages than the model has.
    """
    _check(config)
    found = weights.load(config.model)
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(config.seed)  # of the CPU alone, where the model is made
        model = staged(config.model.name, classes, config.image_size)
    if found is not None:
        model.drawn = load_into(model, BY_MODEL[config.model.name], found.tensors, config.model)
    model.network.load_state_dict(fresh_head(model, config.seed), strict=False)
    for layer in model.head.modules():
        if isinstance(layer, nn.Dropout):
            layer.p = config.dropout
    return model.freeze(config.frozen_layers)


def fresh_head(model: StagedModel, seed: int) -> dict[str, Tensor]:
    """First values of the head's layers that no weights were for, on the CPU, by their names in the network: a function of the seed.

    They are what each layer's own `reset_parameters` draws, one after the other. Torch's random state stays as it is.
    """
    names = {id(tensor): name for name, tensor in model.network.state_dict(keep_vars=True).items()}
    values = dict[str, Tensor]()
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        for layer in model.head.modules():
            own = [title for title, tensor in layer.named_parameters(recurse=False) if names[id(tensor)] in model.drawn]
            if own:
                twin = copy.deepcopy(layer).cpu()
                twin.reset_parameters()  # type: ignore[operator]
                values |= {names[id(getattr(layer, title))]: getattr(twin, title).detach() for title in own}
    return values


def staged(name: str, classes: int, image_size: int) -> StagedModel:
    """The model with random initial values from torch's random state, nothing frozen. Raises KeyError for an unknown name."""
    family = BY_MODEL[name]
    network = family.make(name, classes, image_size)
    stages, head = family.split(network)
    return StagedModel(network, stages, head)


def _check(config: TrainConfig) -> None:
    name, size = config.model.name, config.image_size
    if name not in catalogue.names():
        raise UnfitModel(f"the catalogue has no model named {name}; it has {', '.join(catalogue.names())}")
    model = catalogue.load(name)
    if config.frozen_layers > len(model.stages):
        raise UnfitModel(f"{name} has {len(model.stages)} stages to freeze, not {config.frozen_layers}; lower frozen_layers")
    if size < model.smallest_image:
        raise UnfitImageSize(f"{name} needs images of at least {model.smallest_image} pixels, not {size}; raise image_size")
    if size % model.image_step:
        raise UnfitImageSize(f"{name} needs images of a multiple of {model.image_step} pixels, not {size}; change image_size")
