"""The families that the trainer knows, and which of them a model belongs to."""

from trainer.models.resnet import RESNET
from trainer.models.small import SMALL
from trainer.models.squeezenet import SQUEEZENET

FAMILIES = (RESNET, SQUEEZENET, SMALL)

BY_MODEL = {member: family for family in FAMILIES for member in family.members}
"""Every model name with its family."""
