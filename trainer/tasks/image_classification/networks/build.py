"""Builds the model of an ImageTrainConfig."""

import torch
from torch import nn

import trainer.tasks.image_classification.catalogue as catalogue
from trainer.models import Infeasible, StagedModel, UnfitModel
from trainer.tasks.image_classification.config import ImageTrainConfig
from trainer.tasks.image_classification.networks import weights
from trainer.tasks.image_classification.networks.families import BY_MODEL
from trainer.tasks.image_classification.networks.weights import load_into


class UnfitImageSize(Infeasible):
    """The network cannot process images of this size."""


def build(config: ImageTrainConfig, classes: int) -> StagedModel:
    """The model on the CPU with its weights loaded, a new last layer for the classes, and its first stages frozen.

    Equal configs give models that are equal bit for bit; the new layers depend on the seed alone. Torch's random state is restored.
    Raises WeightsUnavailable, UnfitWeights, Infeasible for more frozen stages than the model has, UnfitImageSize, and UnfitModel
    for an unknown model.
    """
    _check(config)
    found = weights.load(config.model)
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(config.seed)  # the CPU's generator only, since the model is made on the CPU
        model = staged(config.model.name, classes, config.image_size)
    if found is not None:
        model.drawn = load_into(model, BY_MODEL[config.model.name], found.tensors, config.model)
    model.network.load_state_dict(model.fresh_head(config.seed), strict=False)
    for layer in model.head.modules():
        if isinstance(layer, nn.Dropout):
            layer.p = config.dropout
    return model.freeze(config.frozen_layers)


def staged(name: str, classes: int, image_size: int) -> StagedModel:
    """The model with initial values drawn from torch's random state, nothing frozen. Raises KeyError for an unknown name."""
    family = BY_MODEL[name]
    network = family.make(name, classes, image_size)
    stages, head = family.split(network)
    return StagedModel(network, stages, head)


def _check(config: ImageTrainConfig) -> None:
    name, size = config.model.name, config.image_size
    if name not in catalogue.names():
        raise UnfitModel(f"the catalogue has no model named {name}; it has {', '.join(catalogue.names())}")
    model = catalogue.load(name)
    if config.frozen_layers > len(model.stages):
        raise Infeasible(f"{name} has {len(model.stages)} stages to freeze, not {config.frozen_layers}; lower frozen_layers")
    if size < model.smallest_image:
        raise UnfitImageSize(f"{name} needs images of at least {model.smallest_image} pixels, not {size}; raise image_size")
    if size % model.image_step:
        raise UnfitImageSize(f"{name} needs images of a multiple of {model.image_step} pixels, not {size}; change image_size")
