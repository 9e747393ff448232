"""Weights files without torch: what a file holds, and which of its tensors are a model's. Server and trainer read by the same rules."""

from trainer.weight_files.outline import MOST_WEIGHTS_BYTES, Outline, read_outline
from trainer.weight_files.pickles import UnfitTensors, UnreadableWeights, conversion

__all__ = ["MOST_WEIGHTS_BYTES", "Outline", "UnfitTensors", "UnreadableWeights", "conversion", "read_outline"]
