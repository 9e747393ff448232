"""Samplers and pruners that Optuna calls experimental, made without its warning: what we rely on is tested here."""

import inspect
from typing import Any, TypeVar

Made = TypeVar("Made")


def quietly(kind: type[Made], *args: Any, **options: Any) -> Made:
    """An instance of a type whose initialiser Optuna has wrapped in a warning. Filters of `warnings` would not be thread-safe."""
    made = kind.__new__(kind)
    inspect.unwrap(kind.__init__)(made, *args, **options)
    return made
