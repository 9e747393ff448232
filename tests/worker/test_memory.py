"""How much memory devices have, as the machine's tools say it."""

from service.worker.devices import listed_memory, memory_of

ANSWER = """\
0, GPU-11111111-2222-3333-4444-555555555555, 81559
1, GPU-66666666-7777-8888-9999-000000000000, 143771
"""


def test_gpus_are_known_by_their_index_and_their_uuid() -> None:
    known = listed_memory(ANSWER)
    assert known["0"] == known["GPU-11111111-2222-3333-4444-555555555555"] == 81559 * 2**20
    assert known["1"] == 143771 * 2**20
    assert listed_memory("No devices were found") == {}


def test_a_slot_on_the_cpu_has_the_memory_of_the_machine() -> None:
    (own,) = memory_of([None])
    assert own is not None and own > 2**27


def test_a_gpu_that_nobody_knows_is_told_as_unknown() -> None:
    assert memory_of(["no-such-gpu", None])[0] is None
