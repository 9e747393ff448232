"""Tensors that several runs and processes need, made once and kept as files that are mapped into memory."""

from trainer.cache.cache import Cache
from trainer.cache.draft import Draft
from trainer.cache.key import JSON, Key

__all__ = ["JSON", "Cache", "Draft", "Key"]
