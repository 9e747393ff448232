"""A study's pruning played again, by its own pruner and by others, from what its trials reported."""

from service.search.replaying.looking_back import look_back

__all__ = ["look_back"]
