"""The output of frozen stages, computed once and read by every run, trial and process that freezes as many."""

from trainer.features.inputs import inputs_for, stored_outputs
from trainer.features.source import Direct, Inputs

__all__ = ["Direct", "Inputs", "inputs_for", "stored_outputs"]
