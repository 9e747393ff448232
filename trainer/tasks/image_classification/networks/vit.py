"""Vision Transformer (Dosovitskiy et al. 2020): patch embedding with class token and positions, then the encoder's layers."""

import math
from typing import cast

import torch
from torch import Tensor, nn
from torchvision.models import get_model
from torchvision.models.vision_transformer import VisionTransformer, interpolate_embeddings

from trainer.models.layers import ClassToken
from trainer.tasks.image_classification.networks.family import Family, Split, State

POSITIONS = "encoder.pos_embedding"  # [1, 1 + patches, D]


class PatchEmbedding(nn.Module):
    """Images [N, 3, S, S] → tokens [N, 1 + patches, D], the class token first, positions added."""

    def __init__(self, network: VisionTransformer) -> None:
        super().__init__()
        self.projection = network.conv_proj
        self.class_token = network.class_token
        self.positions = network.encoder.pos_embedding
        self.dropout = network.encoder.dropout

    def forward(self, images: Tensor) -> Tensor:
        patches = self.projection(images).flatten(2).transpose(1, 2)  # [N, patches, D]
        tokens = torch.cat([self.class_token.expand(len(images), -1, -1), patches], dim=1)
        embedded: Tensor = self.dropout(tokens + self.positions)
        return embedded


def make(name: str, classes: int, image_size: int) -> nn.Module:
    """Raises AssertionError when the image size is no multiple of the patch."""
    return cast(nn.Module, get_model(name, weights=None, num_classes=classes, image_size=image_size))


def split(network: VisionTransformer) -> Split:
    stages: dict[str, nn.Module] = {"embedding": PatchEmbedding(network)}
    stages |= {f"encoder.layers.{name}": layer for name, layer in network.encoder.layers.named_children()}
    return stages, nn.Sequential(ClassToken(), network.encoder.ln, nn.Dropout(0.0), network.heads)  # LayerNorm is of each token


def adapt(state: State, network: VisionTransformer) -> State:
    """Positions of another image size are interpolated to the network's."""
    positions = state.get(POSITIONS)
    if positions is not None and _is_square_grid(positions):
        state = dict(interpolate_embeddings(network.image_size, network.patch_size, {**state, POSITIONS: positions.float()}))
    return state


def _is_square_grid(positions: Tensor) -> bool:
    if positions.ndim != 3 or positions.shape[0] != 1:
        return False
    patches = positions.shape[1] - 1
    return patches > 0 and math.isqrt(patches) ** 2 == patches


VIT = Family(
    name="vit",
    members=("vit_b_16", "vit_b_32", "vit_l_16", "vit_l_32", "vit_h_14"),
    classifier="heads.head",
    split=split,
    make=make,
    adapt=adapt,
    resizable=(POSITIONS,),
)
