"""Reads the content of weights files without torch: format, tensor names and shapes. Used by the server and the trainer."""

from trainer.weight_files.outline import MOST_WEIGHTS_BYTES, Outline, read_outline
from trainer.weight_files.pickles import UnfitTensors, UnreadableWeights, conversion

__all__ = ["MOST_WEIGHTS_BYTES", "Outline", "UnfitTensors", "UnreadableWeights", "conversion", "read_outline"]
