"""ShuffleNet v2 (Ma et al. 2018): stem, units, last 1x1 convolution."""

from torch import nn
from torchvision.models.shufflenetv2 import ShuffleNetV2

from trainer.models.layers import GlobalMean
from trainer.tasks.image_classification.networks.family import Family, Split


def split(network: ShuffleNetV2) -> Split:
    stages: dict[str, nn.Module] = {"stem": nn.Sequential(network.conv1, network.maxpool)}
    for group in ("stage2", "stage3", "stage4"):
        stages |= {f"{group}.{name}": unit for name, unit in getattr(network, group).named_children()}
    stages["conv5"] = network.conv5
    return stages, nn.Sequential(GlobalMean(), nn.Dropout(0.0), network.fc)


SHUFFLENET = Family(
    name="shufflenet_v2",
    members=("shufflenet_v2_x0_5", "shufflenet_v2_x1_0", "shufflenet_v2_x1_5", "shufflenet_v2_x2_0"),
    classifier="fc",
    split=split,
)
