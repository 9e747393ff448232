"""Swin Transformer v1 (Liu et al. 2021) and v2 (Liu et al. 2022): stem and blocks; a patch merging belongs to the next block."""

from torch import nn
from torchvision.models.swin_transformer import SwinTransformer

from trainer.tasks.image_classification.networks.family import Family, Split, pyramid


def split(network: SwinTransformer) -> Split:
    head = nn.Sequential(network.norm, network.permute, network.avgpool, network.flatten, nn.Dropout(0.0), network.head)
    return pyramid(network.features), head  # features [N, H, W, D]


SWIN = Family(
    name="swin",
    members=("swin_t", "swin_s", "swin_b", "swin_v2_t", "swin_v2_s", "swin_v2_b"),
    classifier="head",
    split=split,
)
