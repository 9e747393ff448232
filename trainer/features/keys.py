"""By what a stored output is known: everything that its numbers follow from."""

import hashlib

import PIL
import torch
import torchvision
from torch import Tensor

from trainer.cache import Key
from trainer.data import decoding
from trainer.features.chain import Chain
from trainer.task import Task

VERSION = 1  # to be raised when other numbers come out of the same stages, or lie otherwise in the entry


def digest_of(task: Task, rows: Tensor) -> str:
    """SHA-256 over the contents of those rows, in their order."""
    return hashlib.sha256(task.images.keys[rows].numpy().tobytes()).hexdigest()


def key_of(task: Task, chain: Chain, depth: int, images: str, view: int | None) -> Key:
    """The key of the output of the first `depth` stages for the images of that digest; `view` None when they are unchanged.

    Rounding belongs to the numbers: so do the device, the threads of a CPU, and the versions.
    """
    config = task.config
    unpretrained = {"seed": config.seed, "classes": len(task.facts.classes)}  # from which all values are drawn, in the network's order
    return Key(
        "features",
        {
            "version": VERSION,
            "model": config.model.name,
            "weights": task.facts.weights_sha256 or unpretrained,
            "stages": chain.names[:depth],
            "image_size": config.image_size,
            "mean": config.model.mean,
            "std": config.model.std,
            "precision": config.precision,
            "images": images,
            "decoding": [decoding.VERSION, PIL.__version__],
            "augmentation": config.augmentation if view is not None else "none",
            "view": view,
            "torch": torch.__version__,
            "torchvision": torchvision.__version__,
            "device": [task.device.type, chain.device_name],
            "threads": torch.get_num_threads() if task.device.type == "cpu" else None,
        },
    )
