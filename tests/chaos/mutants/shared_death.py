"""A worker dies with its trainer, as it would if trials ran in its own process."""

import os

SCENARIO = "tests/chaos/test_f11_outcomes.py -k whatever"


def plant() -> None:
    from service.worker.process import Death, TrainerProcess

    def die(self: TrainerProcess) -> Death:
        os._exit(1)

    TrainerProcess._death = die  # type: ignore[method-assign]
