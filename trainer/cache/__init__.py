"""Tensors that several runs and processes need, made once and kept as files that are mapped into memory."""

from trainer.cache.cache import Cache, Draft
from trainer.cache.entry import JSON, Key

__all__ = ["JSON", "Cache", "Draft", "Key"]
