"""By what a stored output is known: everything that its numbers follow from."""

import hashlib

import torch
from torch import Tensor

from trainer.cache import Key
from trainer.features.chain import Chain
from trainer.preparation import PreparedRun

VERSION = 1  # to be raised when other numbers come out of the same stages, or lie otherwise in the entry


def digest_of(run: PreparedRun, rows: Tensor) -> str:
    """SHA-256 over the contents of those rows, in their order."""
    return hashlib.sha256(run.examples.keys[rows].numpy().tobytes()).hexdigest()


def key_of(run: PreparedRun, chain: Chain, depth: int, contents: str, view: int | None) -> Key:
    """The key of the output of the first `depth` stages for the examples of that digest; `view` None when they are unchanged.

    Rounding belongs to the numbers: so do the device, the threads of a CPU, and the versions.
    """
    return Key(
        "features",
        {
            "version": VERSION,
            "model": run.config.model.name,
            "stages": chain.names[:depth],
            "precision": run.config.precision,
            "view": view,
            "torch": torch.__version__,
            "device": [run.device.type, chain.device_name],
            "threads": torch.get_num_threads() if run.device.type == "cpu" else None,
            **run.task.cache_key(run.config, run.info, contents, augmented=view is not None),
        },
    )
