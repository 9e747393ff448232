"""Families of torchvision's networks as ordered stages and a head."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import Tensor, nn
from torchvision.models import get_model
from torchvision.models.convnext import ConvNeXt
from torchvision.models.efficientnet import EfficientNet
from torchvision.models.mobilenetv2 import MobileNetV2
from torchvision.models.mobilenetv3 import MobileNetV3
from torchvision.models.resnet import ResNet
from torchvision.models.shufflenetv2 import ShuffleNetV2
from torchvision.models.squeezenet import Fire, SqueezeNet
from torchvision.models.swin_transformer import SwinTransformer, SwinTransformerBlock
from torchvision.models.vgg import VGG as Network
from torchvision.models.vision_transformer import EncoderBlock, VisionTransformer, interpolate_embeddings

from trainer.adapters.adapt import Block
from trainer.models import ClassToken, GlobalMean, StagedModel
from trainer.tasks.images.networks.attention import SelfAttention, WindowAttention

StateDict = dict[str, Tensor]
NetworkParts = tuple[dict[str, nn.Module], nn.Module]
"""Stages by name in the order of the forward pass, and the head. Run in sequence they equal the network's forward pass."""


def from_torchvision(name: str, classes: int, image_size: int) -> nn.Module:
    """The network with random initial values. `image_size` is unused: most networks take images of any size."""
    return cast(nn.Module, get_model(name, weights=None, num_classes=classes))


def as_it_is(state: StateDict, network: nn.Module) -> StateDict:
    """The state dict unchanged, which is the case for most families."""
    return state


def no_block(path: str, stage: nn.Module) -> Block | None:
    """For networks that adapters do not change."""
    return None


@dataclass(frozen=True, slots=True, kw_only=True)
class Family:
    """Networks that are split into stages in the same way."""

    name: str
    members: tuple[str, ...]
    classifier: str
    """Path of the last layer in the network; it is replaced by a new one for the task's classes."""
    split: Callable[[Any], NetworkParts]
    make: Callable[[str, int, int], nn.Module] = from_torchvision
    """Name, number of classes, image size in pixels → network."""
    adapt: Callable[[StateDict, Any], StateDict] = as_it_is
    """A file's state dict and the network → the state dict that the network can load."""
    resizable: tuple[str, ...] = ()
    """Tensors that depend on the image size; `adapt` interpolates them."""
    original_classes: int = 1000
    block: Callable[[str, nn.Module], Block | None] = no_block
    """Path of a stage and its module in the network → the layers that adapters change."""

    def blocks(self, model: StagedModel) -> list[Block | None]:
        """The layers that adapters change, by stage; None for a stage without attention and MLP."""
        modules = dict(model.network.named_modules())
        return [self.block(name, modules[name]) if name in modules else None for name in model.stage_names]

    @property
    def classifier_tensors(self) -> tuple[str, ...]:
        return f"{self.classifier}.weight", f"{self.classifier}.bias"


def attach(layers: nn.Sequential, starts: Callable[[nn.Module], bool], path: str) -> dict[str, nn.Module]:
    """Cut a sequence into stages. A layer for which `starts` is true begins a stage; the layers that follow belong to it."""
    groups: dict[str, list[nn.Module]] = {}
    for name, layer in layers.named_children():
        if not groups or starts(layer):
            groups[f"{path}.{name}"] = []
        groups[next(reversed(groups))].append(layer)
    return {name: group[0] if len(group) == 1 else nn.Sequential(*group) for name, group in groups.items()}


def pyramid(features: nn.Sequential) -> dict[str, nn.Module]:
    """Stages of a network of a stem and groups of blocks: one for each block. A downsampling layer between two groups belongs to the block
    behind it.
    """
    (stem_name, stem), *rest = features.named_children()
    stages: dict[str, nn.Module] = {f"features.{stem_name}": stem}
    between: tuple[nn.Module, ...] = ()
    for index, (group, layers) in enumerate(rest):
        if index % 2:
            between = (layers,)
            continue
        for name, block in layers.named_children():
            stages[f"features.{group}.{name}"] = nn.Sequential(*between, block) if between else block
            between = ()
    return stages


def split_convnext(network: ConvNeXt) -> NetworkParts:
    norm, flatten, last = network.classifier
    return pyramid(network.features), nn.Sequential(network.avgpool, norm, flatten, nn.Dropout(0.0), last)


CONVNEXT = Family(
    name="convnext",
    members=("convnext_tiny", "convnext_small", "convnext_base", "convnext_large"),
    classifier="classifier.2",
    split=split_convnext,
)


def split_efficientnet(network: EfficientNet) -> NetworkParts:
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
    split=split_efficientnet,
)


def split_mobilenet(network: MobileNetV2 | MobileNetV3) -> NetworkParts:
    stages = attach(network.features, lambda layer: True, "features")
    return stages, nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(1), network.classifier)


MOBILENET_V2 = Family(name="mobilenet_v2", members=("mobilenet_v2",), classifier="classifier.1", split=split_mobilenet)
MOBILENET_V3 = Family(
    name="mobilenet_v3", members=("mobilenet_v3_small", "mobilenet_v3_large"), classifier="classifier.3", split=split_mobilenet
)


def split_resnet(network: ResNet) -> NetworkParts:
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
    split=split_resnet,
)  # fmt: skip


def split_shufflenet(network: ShuffleNetV2) -> NetworkParts:
    stages: dict[str, nn.Module] = {"stem": nn.Sequential(network.conv1, network.maxpool)}
    for group in ("stage2", "stage3", "stage4"):
        stages |= {f"{group}.{name}": unit for name, unit in getattr(network, group).named_children()}
    stages["conv5"] = network.conv5
    return stages, nn.Sequential(GlobalMean(), nn.Dropout(0.0), network.fc)


SHUFFLENET = Family(
    name="shufflenet_v2",
    members=("shufflenet_v2_x0_5", "shufflenet_v2_x1_0", "shufflenet_v2_x1_5", "shufflenet_v2_x2_0"),
    classifier="fc",
    split=split_shufflenet,
)


WIDTHS = (16, 32, 48, 64)  # output channels of the stem and of each block


def _block(inputs: int, outputs: int, *pools: nn.Module) -> nn.Sequential:
    convolution = nn.Conv2d(inputs, outputs, kernel_size=3, padding=1, bias=False)
    return nn.Sequential(convolution, nn.BatchNorm2d(outputs), nn.ReLU(inplace=True), *pools)


class SmallCnn(nn.Module):
    """A stem, three blocks of convolution, BatchNorm and ReLU, a global mean and a linear layer: about 47,000 parameters."""

    def __init__(self, classes: int) -> None:
        super().__init__()
        stem, first, second, third = WIDTHS
        self.stem = _block(3, stem)
        self.blocks = nn.Sequential(_block(stem, first, nn.MaxPool2d(2)), _block(first, second, nn.MaxPool2d(2)), _block(second, third))
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.classifier = nn.Linear(third, classes)

    def forward(self, images: Tensor) -> Tensor:
        features = self.blocks(self.stem(images))  # [N, 64, S/4, S/4]
        logits: Tensor = self.classifier(self.pool(features).flatten(1))  # [N, C]
        return logits


def make_small(name: str, classes: int, image_size: int) -> nn.Module:
    return SmallCnn(classes)


def split_small(network: SmallCnn) -> NetworkParts:
    stages: dict[str, nn.Module] = {"stem": network.stem}
    stages |= {f"blocks.{name}": block for name, block in network.blocks.named_children()}
    return stages, nn.Sequential(network.pool, nn.Flatten(1), nn.Dropout(0.0), network.classifier)


SMALL = Family(name="small", members=("small_cnn",), classifier="classifier", split=split_small, make=make_small, original_classes=10)


def split_squeezenet(network: SqueezeNet) -> NetworkParts:
    stages = attach(network.features, lambda layer: isinstance(layer, Fire), "features")
    head = nn.Sequential(network.classifier, nn.Flatten(1))  # dropout, 1x1 convolution, ReLU, pool: [N, 512, H, W] → [N, C]
    return stages, head


SQUEEZENET = Family(name="squeezenet", members=("squeezenet1_0", "squeezenet1_1"), classifier="classifier.1", split=split_squeezenet)


def split_swin(network: SwinTransformer) -> NetworkParts:
    head = nn.Sequential(network.norm, network.permute, network.avgpool, network.flatten, nn.Dropout(0.0), network.head)
    return pyramid(network.features), head  # features [N, H, W, D]


def swin_block(path: str, stage: nn.Module) -> Block | None:
    """A block of Swin, version 1 or 2; the stem is none."""
    if not isinstance(stage, SwinTransformerBlock):
        return None
    return Block(
        attention=(f"{path}.attn.attention.qkv", f"{path}.attn.attention.proj"),
        mlp=(f"{path}.mlp.0", f"{path}.mlp.3"),
        outputs=dict.fromkeys((f"{path}.attn", f"{path}.mlp"), stage.norm1.normalized_shape[0]),
        exposed={f"{path}.attn": WindowAttention},
    )


SWIN = Family(
    name="swin",
    members=("swin_t", "swin_s", "swin_b", "swin_v2_t", "swin_v2_s", "swin_v2_b"),
    classifier="head",
    split=split_swin,
    block=swin_block,
)


def split_vgg(network: Network) -> NetworkParts:
    stages = attach(network.features, lambda layer: isinstance(layer, nn.Conv2d), "features")
    return stages, nn.Sequential(network.avgpool, nn.Flatten(1), network.classifier)  # [N, 512, H, W] → [N, 25088] → [N, C]


VGG = Family(
    name="vgg",
    members=("vgg11", "vgg11_bn", "vgg13", "vgg13_bn", "vgg16", "vgg16_bn", "vgg19", "vgg19_bn"),
    classifier="classifier.6",
    split=split_vgg,
)


POSITIONS = "encoder.pos_embedding"  # [1, 1 + patches, D]


class PatchEmbedding(nn.Module):
    """Images [N, 3, S, S] → tokens [N, 1 + patches, D]: the class token, then the patches, with positions added."""

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


def make_vit(name: str, classes: int, image_size: int) -> nn.Module:
    """The network for that image size. Raises AssertionError if it is not a multiple of the patch size."""
    return cast(nn.Module, get_model(name, weights=None, num_classes=classes, image_size=image_size))


def split_vit(network: VisionTransformer) -> NetworkParts:
    stages: dict[str, nn.Module] = {"embedding": PatchEmbedding(network)}
    stages |= {f"encoder.layers.{name}": layer for name, layer in network.encoder.layers.named_children()}
    # LayerNorm acts on each token separately, so the head needs the class token only.
    return stages, nn.Sequential(ClassToken(), network.encoder.ln, nn.Dropout(0.0), network.heads)


def adapt(state: StateDict, network: VisionTransformer) -> StateDict:
    """Interpolate the positions if the file is for another image size."""
    positions = state.get(POSITIONS)
    if positions is not None and _is_square_grid(positions):
        state = dict(interpolate_embeddings(network.image_size, network.patch_size, {**state, POSITIONS: positions.float()}))
    return state


def _is_square_grid(positions: Tensor) -> bool:
    if positions.ndim != 3 or positions.shape[0] != 1:
        return False
    patches = positions.shape[1] - 1
    return patches > 0 and math.isqrt(patches) ** 2 == patches


def vit_block(path: str, stage: nn.Module) -> Block | None:
    """A block of the encoder."""
    if not isinstance(stage, EncoderBlock):
        return None
    return Block(
        attention=(f"{path}.self_attention.in_proj", f"{path}.self_attention.out_proj"),
        mlp=(f"{path}.mlp.0", f"{path}.mlp.3"),
        outputs=dict.fromkeys((f"{path}.self_attention", f"{path}.mlp"), stage.self_attention.embed_dim),
        exposed={f"{path}.self_attention": SelfAttention},
    )


VIT = Family(
    name="vit",
    members=("vit_b_16", "vit_b_32", "vit_l_16", "vit_l_32", "vit_h_14"),
    classifier="heads.head",
    split=split_vit,
    make=make_vit,
    adapt=adapt,
    resizable=(POSITIONS,),
    block=vit_block,
)


FAMILIES = (CONVNEXT, EFFICIENTNET, MOBILENET_V2, MOBILENET_V3, RESNET, SHUFFLENET, SMALL, SQUEEZENET, SWIN, VGG, VIT)

BY_MODEL = {member: family for family in FAMILIES for member in family.members}
"""The family of every model name."""
