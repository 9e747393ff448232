"""The text that scripts are put together from."""

from functools import cache
from importlib.resources import files


@cache
def part(name: str) -> str:
    """A part of that name, without the newline at its end."""
    return files(__package__).joinpath(f"{name}.py.in").read_text(encoding="utf-8").strip("\n")
