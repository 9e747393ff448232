"""Numbers that are none get in: the documents' own check for them is gone."""

from typing import Any

SCENARIO = "tests/chaos/test_f16_api.py::test_hostile_bodies_change_nothing_wherever_they_are_posted[sqlite]"


def plant() -> None:
    from service.web import body

    def unchecked(value: Any) -> Any:
        return value

    body.plain = unchecked
