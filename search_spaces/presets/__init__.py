"""The search spaces that ship with Thawline; each file's header says what it is for, what it costs, what to expect."""

from functools import cache
from importlib.resources import files
from typing import Any

from pydantic import Field

from search_spaces.documents import from_yaml
from search_spaces.parameters import Frozen, Scalar


class Preset(Frozen):
    """A search space with values for what it leaves fixed. `search_space` is as written: a study may still change it."""

    name: str
    summary: str
    cost: str
    expect: str
    search_space: dict[str, Any]
    fixed: dict[str, Scalar] = Field(default_factory=dict)


@cache
def names() -> tuple[str, ...]:
    """The presets' names, sorted."""
    found = (entry.name for entry in files(__package__).iterdir())
    return tuple(sorted(name.removesuffix(".yaml") for name in found if name.endswith(".yaml")))


@cache
def load(name: str) -> Preset:
    """The preset of that name. Raises KeyError when none ships."""
    if name not in names():
        raise KeyError(name)
    text = files(__package__).joinpath(f"{name}.yaml").read_text(encoding="utf-8")
    return Preset.model_validate({"name": name, **from_yaml(text)})
