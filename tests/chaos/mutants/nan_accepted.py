"""Numbers that are none, and characters that belong in no text, get in: nobody looks for them."""

from collections.abc import Iterator
from typing import Any

from search_spaces import Fault
from search_spaces.faults import Path

SCENARIO = "tests/chaos/test_f16_api.py::test_hostile_bodies_change_nothing_wherever_they_are_posted[sqlite]"


def plant() -> None:
    from service.domain import parsing
    from service.web import requests

    def unchecked(value: Any) -> Any:
        return value

    def nothing(value: Any, path: Path = ()) -> Iterator[Fault]:
        return iter(())

    requests.plain = unchecked  # type: ignore[attr-defined]
    parsing.impurities = nothing  # type: ignore[attr-defined]
