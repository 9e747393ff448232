"""VGG (Simonyan and Zisserman 2014): a stage a convolution, with the normalisation, activation and pool behind it."""

from torch import nn
from torchvision.models.vgg import VGG as Network

from trainer.tasks.image_classification.networks.family import Family, Split, attach


def split(network: Network) -> Split:
    stages = attach(network.features, lambda layer: isinstance(layer, nn.Conv2d), "features")
    return stages, nn.Sequential(network.avgpool, nn.Flatten(1), network.classifier)  # [N, 512, H, W] → [N, 25088] → [N, C]


VGG = Family(
    name="vgg",
    members=("vgg11", "vgg11_bn", "vgg13", "vgg13_bn", "vgg16", "vgg16_bn", "vgg19", "vgg19_bn"),
    classifier="classifier.6",
    split=split,
)
