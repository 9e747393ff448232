"""Numbers that are none, and characters that belong in no text, get in: nobody looks for them."""

from collections.abc import Iterator
from typing import Any

from search_spaces import Fault

SCENARIO = "tests/chaos/test_f16_api.py::test_hostile_bodies_change_nothing_wherever_they_are_posted[sqlite]"


def plant() -> None:
    from service.domain import parsing
    from service.web import body

    def unchecked(value: Any) -> Any:
        return value

    def nothing(_value: Any, _path: object = ()) -> Iterator[Fault]:
        return iter(())

    body.plain = unchecked
    parsing.impurities = nothing
