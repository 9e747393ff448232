"""ResNet (He et al. 2015), ResNeXt (Xie et al. 2016) and Wide ResNet (Zagoruyko et al. 2016): the stem and the residual blocks."""

from torch import nn
from torchvision.models.resnet import ResNet

from trainer.tasks.image_classification.networks.family import Family, Split


def split(network: ResNet) -> Split:
    stages: dict[str, nn.Module] = {"stem": nn.Sequential(network.conv1, network.bn1, network.relu, network.maxpool)}
    for layer in ("layer1", "layer2", "layer3", "layer4"):
        stages |= {f"{layer}.{name}": block for name, block in getattr(network, layer).named_children()}
    return stages, nn.Sequential(network.avgpool, nn.Flatten(1), nn.Dropout(0.0), network.fc)


RESNET = Family(
    name="resnet",
    members=(
        "resnet18", "resnet34", "resnet50", "resnet101", "resnet152",
        "resnext50_32x4d", "resnext101_32x8d", "resnext101_64x4d", "wide_resnet50_2", "wide_resnet101_2",
    ),
    classifier="fc",
    split=split,
)  # fmt: skip
