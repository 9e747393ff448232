"""The trained model as a safetensors file that says what its outputs mean."""

from collections.abc import Mapping
from pathlib import Path

import safetensors.torch
from torch import nn

from trainer import files
from trainer.configuration import TrainConfig
from trainer.protocol import Exported

FORMAT = "thawline/1"


def export(network: nn.Module, config: TrainConfig, described: Mapping[str, str], path: Path) -> Exported:
    """Write the network's state dict, atomically; the metadata holds `format`, what the task adds, and `config` as JSON."""
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in network.state_dict().items()}
    metadata = {"format": FORMAT, **described, "config": config.model_dump_json()}
    content = safetensors.torch.save(tensors, metadata)
    return Exported(path=str(path), sha256=files.write(path, lambda file: file.write(content)))
