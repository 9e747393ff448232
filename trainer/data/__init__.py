"""Labelled images: found, checked, split by content and decoded once."""

from trainer.data.dataset import Dataset, find
from trainer.data.faults import BadData
from trainer.data.resident import Resident, load

__all__ = ["BadData", "Dataset", "Resident", "find", "load"]
