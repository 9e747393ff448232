"""The search spaces that ship with Thawline, a folder for each task; each file states its purpose, its cost and what to expect."""

from collections.abc import Mapping
from functools import cache
from importlib.resources import files
from typing import Any

from pydantic import Field

from search_spaces.documents import from_yaml
from search_spaces.parameters import FrozenModel, Scalar


class Preset(FrozenModel):
    """A search space with values for what it leaves fixed. `search_space` is as written: a study may still change it."""

    name: str
    task: str = Field(description="the task whose studies can select it")
    summary: str
    cost: str
    expect: str
    search_space: dict[str, Any]
    fixed: dict[str, Scalar] = Field(default_factory=dict)


@cache
def _texts() -> Mapping[str, Mapping[str, str]]:
    """The files by task and name."""
    tasks = [entry for entry in files(__package__).iterdir() if entry.is_dir()]
    return {
        task.name: {
            entry.name.removesuffix(".yaml"): entry.read_text(encoding="utf-8")
            for entry in sorted(task.iterdir(), key=lambda entry: entry.name)
            if entry.name.endswith(".yaml")
        }
        for task in sorted(tasks, key=lambda task: task.name)
    }


def names(task: str | None = None) -> tuple[str, ...]:
    """The names of a task's presets, or of all, sorted. No two tasks have one of the same name."""
    return tuple(sorted(name for of, texts in _texts().items() if task is None or of == task for name in texts))


@cache
def load(name: str) -> Preset:
    """The preset of that name. Raises KeyError when none ships."""
    task = next((task for task, texts in _texts().items() if name in texts), None)
    if task is None:
        raise KeyError(name)
    return Preset.model_validate({"name": name, "task": task, **from_yaml(_texts()[task][name])})
