"""The families that the trainer knows, and which of them a model belongs to."""

from trainer.models.convnext import CONVNEXT
from trainer.models.efficientnet import EFFICIENTNET
from trainer.models.mobilenet import MOBILENET_V2, MOBILENET_V3
from trainer.models.resnet import RESNET
from trainer.models.shufflenet import SHUFFLENET
from trainer.models.small import SMALL
from trainer.models.squeezenet import SQUEEZENET
from trainer.models.swin import SWIN
from trainer.models.vgg import VGG
from trainer.models.vit import VIT

FAMILIES = (CONVNEXT, EFFICIENTNET, MOBILENET_V2, MOBILENET_V3, RESNET, SHUFFLENET, SMALL, SQUEEZENET, SWIN, VGG, VIT)

BY_MODEL = {member: family for family in FAMILIES for member in family.members}
"""Every model name with its family."""
