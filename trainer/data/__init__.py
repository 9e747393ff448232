"""Labelled images: found, checked, split by content and decoded once."""

from trainer.data.dataset import Dataset, find
from trainer.data.faults import BadData
from trainer.data.resident import Images, Resident, load
from trainer.data.streaming import Streamed

__all__ = ["BadData", "Dataset", "Images", "Resident", "Streamed", "find", "load"]
