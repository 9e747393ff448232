"""Labelled images: found, checked, split by content and decoded once."""

from trainer.data.dataset import Dataset, Listing, arrange, find, listed
from trainer.data.faults import BadData
from trainer.data.manifest import differences, manifest_of, split_differs
from trainer.data.resident import Images, Resident, load
from trainer.data.streaming import Streamed

__all__ = [
    "BadData", "Dataset", "Images", "Listing", "Resident", "Streamed", "arrange", "differences", "find", "listed", "load", "manifest_of",
    "split_differs",
]  # fmt: skip
