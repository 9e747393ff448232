"""Stored outputs of frozen stages, computed once and read by every run that freezes the same stages."""

from trainer.features.inputs import inputs_for, stored_outputs
from trainer.features.source import Direct, Inputs

__all__ = ["Direct", "Inputs", "inputs_for", "stored_outputs"]
