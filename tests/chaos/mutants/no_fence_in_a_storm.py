"""A write is taken from whoever sends it while the trial runs, whatever its attempt: kills and freezes at random find it too."""

from tests.chaos.mutants import no_fence

SCENARIO = "tests/chaos/test_f01_kills.py -k lose"


def plant() -> None:
    no_fence.plant()
