"""A reaper takes a trial away by what it saw at its look, although a heartbeat came between look and sweep."""

from tests.chaos.mutants import no_heartbeat_guard

SCENARIO = "tests/chaos/test_f17_simulation.py -k promise"
plant = no_heartbeat_guard.plant
