"""A small network of our own for images of 16 to 32 pixels, quick enough to be pretrained in a demo."""

from torch import Tensor, nn

from trainer.tasks.image_classification.networks.family import Family, Split

WIDTHS = (16, 32, 48, 64)  # channels behind the stem and behind each block


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


def make(name: str, classes: int, image_size: int) -> nn.Module:
    return SmallCnn(classes)


def split(network: SmallCnn) -> Split:
    stages: dict[str, nn.Module] = {"stem": network.stem}
    stages |= {f"blocks.{name}": block for name, block in network.blocks.named_children()}
    return stages, nn.Sequential(network.pool, nn.Flatten(1), nn.Dropout(0.0), network.classifier)


SMALL = Family(name="small", members=("small_cnn",), classifier="classifier", split=split, make=make, original_classes=10)
