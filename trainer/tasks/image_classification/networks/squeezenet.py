"""SqueezeNet (Iandola et al. 2016): the stem and eight Fire modules, each with the pool behind it."""

from torch import nn
from torchvision.models.squeezenet import Fire, SqueezeNet

from trainer.tasks.image_classification.networks.family import Family, Split, attach


def split(network: SqueezeNet) -> Split:
    stages = attach(network.features, lambda layer: isinstance(layer, Fire), "features")
    head = nn.Sequential(network.classifier, nn.Flatten(1))  # dropout, 1x1 convolution, ReLU, pool: [N, 512, H, W] → [N, C]
    return stages, head


SQUEEZENET = Family(name="squeezenet", members=("squeezenet1_0", "squeezenet1_1"), classifier="classifier.1", split=split)
