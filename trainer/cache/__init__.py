"""A cache of tensors as memory-mapped files, shared by all runs and processes of the machine."""

from trainer.cache.cache import Cache, Draft
from trainer.cache.entry import JSON, CacheKey

__all__ = ["JSON", "Cache", "Draft", "CacheKey"]
