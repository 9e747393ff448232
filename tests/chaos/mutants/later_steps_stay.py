"""What an attempt reported after the checkpoint that the next one goes on from stays among the trial's metrics."""

from typing import Any

SCENARIO = "tests/chaos/test_f15_model.py -k sqlite"


def plant() -> None:
    from service.store.unit_of_work import Measurements

    def kept(*_: Any) -> None:
        pass

    Measurements.forget_above = kept  # type: ignore[assignment,method-assign]
