"""MobileNet v2 (Sandler et al. 2018) and v3 (Howard et al. 2019): stem, inverted residual blocks, last 1x1 convolution."""

from torch import nn
from torchvision.models.mobilenetv2 import MobileNetV2
from torchvision.models.mobilenetv3 import MobileNetV3

from trainer.tasks.image_classification.networks.family import Family, Split, attach


def split(network: MobileNetV2 | MobileNetV3) -> Split:
    stages = attach(network.features, lambda layer: True, "features")
    return stages, nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(1), network.classifier)


MOBILENET_V2 = Family(name="mobilenet_v2", members=("mobilenet_v2",), classifier="classifier.1", split=split)
MOBILENET_V3 = Family(name="mobilenet_v3", members=("mobilenet_v3_small", "mobilenet_v3_large"), classifier="classifier.3", split=split)
