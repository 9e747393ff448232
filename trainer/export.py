"""The trained model as a safetensors file that says what its outputs mean."""

import json
from collections.abc import Sequence
from pathlib import Path

import safetensors.torch
from torch import nn

from trainer import files
from trainer.contract import Exported, TrainConfig

FORMAT = "thawline/1"


def export(network: nn.Module, config: TrainConfig, classes: Sequence[str], path: Path) -> Exported:
    """Write the network's state dict, atomically; the metadata holds `classes` and `config` as JSON, and `format`."""
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in network.state_dict().items()}
    metadata = {"format": FORMAT, "classes": json.dumps(list(classes)), "config": config.model_dump_json()}
    content = safetensors.torch.save(tensors, metadata)
    return Exported(path=str(path), sha256=files.write(path, lambda file: file.write(content)))
