"""EfficientNet v1 (Tan and Le 2019) and v2 (Tan and Le 2021): stem, MBConv blocks, last 1x1 convolution."""

from torch import nn
from torchvision.models.efficientnet import EfficientNet

from trainer.tasks.image_classification.networks.family import Family, Split


def split(network: EfficientNet) -> Split:
    stem, *groups, last = network.features.named_children()
    stages: dict[str, nn.Module] = {f"features.{stem[0]}": stem[1]}
    for group, blocks in groups:
        stages |= {f"features.{group}.{name}": block for name, block in blocks.named_children()}
    stages[f"features.{last[0]}"] = last[1]
    return stages, nn.Sequential(network.avgpool, nn.Flatten(1), network.classifier)


EFFICIENTNET = Family(
    name="efficientnet",
    members=(*(f"efficientnet_b{size}" for size in range(8)), *(f"efficientnet_v2_{size}" for size in "sml")),
    classifier="classifier.1",
    split=split,
)
