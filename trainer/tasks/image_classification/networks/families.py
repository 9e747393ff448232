"""The families that the trainer knows, and which of them a model belongs to."""

from trainer.tasks.image_classification.networks.convnext import CONVNEXT
from trainer.tasks.image_classification.networks.efficientnet import EFFICIENTNET
from trainer.tasks.image_classification.networks.mobilenet import MOBILENET_V2, MOBILENET_V3
from trainer.tasks.image_classification.networks.resnet import RESNET
from trainer.tasks.image_classification.networks.shufflenet import SHUFFLENET
from trainer.tasks.image_classification.networks.small import SMALL
from trainer.tasks.image_classification.networks.squeezenet import SQUEEZENET
from trainer.tasks.image_classification.networks.swin import SWIN
from trainer.tasks.image_classification.networks.vgg import VGG
from trainer.tasks.image_classification.networks.vit import VIT

FAMILIES = (CONVNEXT, EFFICIENTNET, MOBILENET_V2, MOBILENET_V3, RESNET, SHUFFLENET, SMALL, SQUEEZENET, SWIN, VGG, VIT)

BY_MODEL = {member: family for family in FAMILIES for member in family.members}
"""Every model name with its family."""
