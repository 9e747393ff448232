"""How a machine's devices become slots."""

from pathlib import Path

from service.settings import Settings
from service.worker.devices import Slot, gpus, lay_out, listed_gpus

SETTINGS = Settings(home=Path("/home/u/.thaw"))
TWO_GPUS = """GPU 0: NVIDIA H100 80GB HBM3 (UUID: GPU-11111111-2222-3333-4444-555555555555)
GPU 1: NVIDIA H100 80GB HBM3 (UUID: GPU-66666666-7777-8888-9999-000000000000)
"""


def test_each_gpu_is_a_slot_and_sees_its_own_device() -> None:
    slots = lay_out(listed_gpus(TWO_GPUS), available_cores=9)
    assert [slot.environment({"PATH": "p"})["CUDA_VISIBLE_DEVICES"] for slot in slots] == [
        "GPU-11111111-2222-3333-4444-555555555555",
        "GPU-66666666-7777-8888-9999-000000000000",
    ]
    assert {slot.threads for slot in slots} == {4}
    assert "cuda:0" in slots[1].command(SETTINGS)


def test_more_slots_than_gpus_share_them_in_turn() -> None:
    assert [slot.gpu for slot in lay_out(("a", "b"), 8, count=3)] == ["a", "b", "a"]


def test_slots_that_share_a_gpu_divide_its_memory_for_caches() -> None:
    commands = [slot.command(SETTINGS) for slot in lay_out(("a", "b"), 8, count=3)]
    shares = [command[command.index("--device-share") + 1] if "--device-share" in command else None for command in commands]
    assert shares == ["1/2", None, "1/2"]
    assert not any("--device-share" in slot.command(SETTINGS) for slot in lay_out((), 4))


def test_a_machine_without_gpu_has_a_slot_a_core_up_to_four() -> None:
    assert lay_out((), available_cores=2) == (Slot(0, None, 1, 2), Slot(1, None, 1, 2))
    assert [slot.threads for slot in lay_out((), available_cores=9)] == [2, 2, 2, 2]


def test_what_is_done_once_for_many_trials_has_all_cores() -> None:
    assert {slot.most_threads for slot in lay_out((), 6, count=3)} == {6}


def test_slots_on_a_cpu_divide_its_cores_and_each_has_one_at_least() -> None:
    assert [slot.threads for slot in lay_out((), 4, count=2)] == [2, 2]
    assert [slot.threads for slot in lay_out((), 2, count=4)] == [1, 1, 1, 1]


def test_the_devices_that_the_worker_is_given_are_the_ones_it_uses() -> None:
    assert gpus({"CUDA_VISIBLE_DEVICES": "2, 3"}) == ("2", "3")
    assert gpus({"CUDA_VISIBLE_DEVICES": ""}) == ()
    assert gpus({"CUDA_VISIBLE_DEVICES": "-1"}) == ()


def test_a_driver_that_does_not_answer_lists_no_gpu() -> None:
    assert listed_gpus("NVIDIA-SMI has failed because it couldn't communicate with the NVIDIA driver.") == ()


def test_all_slots_share_the_home_s_cache() -> None:
    commands = [slot.command(SETTINGS) for slot in lay_out((), 4, count=2)]
    assert [command[-4:] for command in commands] == [("--cache", "/home/u/.thaw/cache", "--cache-bytes", "20000000000")] * 2


def test_a_cache_of_no_bytes_is_no_cache() -> None:
    [slot] = lay_out((), 1)
    assert "--cache" not in slot.command(SETTINGS.model_copy(update={"cache_bytes": 0}))


def test_trainers_are_told_how_much_of_the_disk_stays_free() -> None:
    [slot] = lay_out((), 1)
    command = slot.command(SETTINGS.model_copy(update={"disk_floor_bytes": 77}))
    assert command[command.index("--disk-floor-bytes") + 1] == "77"


def test_a_trainer_does_not_get_the_secrets_of_the_control_plane() -> None:
    (slot,) = lay_out((), 1)
    inherited = {"PATH": "p", "THAW_TOKEN": "t" * 16, "THAW_DATABASE_URL": "postgresql://me:secret@host/db", "THAW_HOME": "/h"}
    assert slot.environment(inherited) == {"PATH": "p", "THAW_HOME": "/h", "CUDA_VISIBLE_DEVICES": ""}
