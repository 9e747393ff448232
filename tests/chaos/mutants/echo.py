"""A fault repeats the value that it is about."""

from collections.abc import Iterator
from typing import Any

from search_spaces import Fault

SCENARIO = "tests/chaos/test_f16_api.py::test_a_wrong_value_at_any_place_is_not_repeated[sqlite]"


def plant() -> None:
    from service.domain import parsing
    from service.domain.fault_messages import faults_of

    def repeating(item: Any) -> Iterator[Fault]:
        for fault in faults_of(item):
            yield Fault(fault.path, fault.code, f"{fault.message}; it was {item['input']}")

    parsing.faults_of = repeating  # type: ignore[attr-defined]
