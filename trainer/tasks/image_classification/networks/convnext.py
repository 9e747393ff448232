"""ConvNeXt (Liu et al. 2022): stem and blocks; a downsampling layer belongs to the block behind it."""

from torch import nn
from torchvision.models.convnext import ConvNeXt

from trainer.tasks.image_classification.networks.family import Family, Split, pyramid


def split(network: ConvNeXt) -> Split:
    norm, flatten, last = network.classifier
    return pyramid(network.features), nn.Sequential(network.avgpool, norm, flatten, nn.Dropout(0.0), last)


CONVNEXT = Family(
    name="convnext",
    members=("convnext_tiny", "convnext_small", "convnext_base", "convnext_large"),
    classifier="classifier.2",
    split=split,
)
