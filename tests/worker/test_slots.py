"""How a machine's devices become slots."""

from pathlib import Path

import pytest

from service.domain.errors import InvalidInput
from service.settings import Settings
from service.worker.devices import Device, Slot, lay_out, layout_of, machine_memory, node_cpus

SETTINGS = Settings(home=Path("/home/u/.thaw"))
FIRST = Device("GPU-11111111-2222-3333-4444-555555555555", "cuda", "NVIDIA H100 80GB HBM3", "0", 81559 * 2**20, 0)
SECOND = Device("GPU-66666666-7777-8888-9999-000000000000", "cuda", "NVIDIA H200", "1", 143771 * 2**20, 1)


def test_each_gpu_is_a_slot_and_sees_its_own_device() -> None:
    slots = lay_out([FIRST, SECOND], available_cores=9)
    assert [slot.environment({"PATH": "p"})["CUDA_VISIBLE_DEVICES"] for slot in slots] == [FIRST.id, SECOND.id]
    assert {slot.threads for slot in slots} == {4}
    assert "cuda:0" in slots[1].command(SETTINGS)


def test_more_slots_than_gpus_share_them_in_turn() -> None:
    assert [slot.gpu for slot in lay_out((FIRST, SECOND), 8, count=3)] == [FIRST, SECOND, FIRST]


def test_devices_have_readable_names_with_the_size_that_vendors_state() -> None:
    assert [slot.display for slot in lay_out((FIRST, SECOND), 8)] == ["NVIDIA H100 80GB HBM3 #0, 80 GB", "NVIDIA H200 #1, 141 GB"]
    assert Device("MIG-1", "cuda", "NVIDIA H100 MIG 1g.10gb", "0:2", 9984 * 2**20).display == "NVIDIA H100 MIG 1g.10gb #0:2, 10 GB"
    assert Device("3", "cuda", "GPU", "3").display == "GPU #3"
    assert [slot.display for slot in lay_out((), 1)] == ["CPU"]


def test_slots_are_registered_under_kind_and_id() -> None:
    assert [slot.label for slot in lay_out((FIRST,), 8)] == [f"cuda:{FIRST.id}"]
    assert [slot.label for slot in lay_out((Device("1", "rocm", "AMD Instinct MI300X", "1"),), 8)] == ["rocm:1"]
    assert [slot.label for slot in lay_out((), 1)] == ["cpu"]


def test_slots_that_share_a_gpu_divide_its_memory_for_caches() -> None:
    commands = [slot.command(SETTINGS) for slot in lay_out((FIRST, SECOND), 8, count=3)]
    shares = [command[command.index("--device-share") + 1] if "--device-share" in command else None for command in commands]
    assert shares == ["1/2", None, "1/2"]
    assert not any("--device-share" in slot.command(SETTINGS) for slot in lay_out((), 4))


def test_slots_of_several_workers_on_a_gpu_divide_its_memory_for_caches() -> None:
    slots = layout_of([FIRST], 8, count=2, workers=3).slots
    assert [slot.command(SETTINGS)[slot.command(SETTINGS).index("--device-share") + 1] for slot in slots] == ["1/6", "1/6"]
    assert layout_of([FIRST], 8, workers=3).fallback[0].sharing == 1 == layout_of((), 8, workers=3).slots[0].sharing


def test_only_gpus_perform_steps_by_graphs_and_only_where_it_is_asked_for() -> None:
    for text, option in (("1", "on"), ("true", "on"), ("on", "on"), ("auto", "auto")):
        asked = Settings.from_environment({"THAW_STEP_GRAPHS": text})
        on_gpu, on_cpu = (slot.command(asked) for slot in (*lay_out((FIRST,), 8), *lay_out((), 1)))
        assert on_gpu[on_gpu.index("--step-graphs") + 1] == option and "--step-graphs" not in on_cpu
    for settings in (SETTINGS, Settings.from_environment({"THAW_STEP_GRAPHS": "0"})):
        assert not any("--step-graphs" in slot.command(settings) for slot in lay_out((FIRST,), 8))
    with pytest.raises(InvalidInput, match="THAW_STEP_GRAPHS"):
        Settings.from_environment({"THAW_STEP_GRAPHS": "sometimes"})


def test_texts_and_pictures_of_the_data_stay_on_a_worker_that_is_told_so() -> None:
    for text, option in ((None, "12"), ("5", "5")):
        settings = Settings.from_environment({} if text is None else {"THAW_REPORT_EXAMPLES": text})
        for slot in (*lay_out((FIRST,), 8), *lay_out((), 1)):
            command = slot.command(settings)
            assert command[command.index("--report-examples") + 1] == option
    silent = Settings.from_environment({"THAW_REPORT_EXAMPLES": "0"})
    assert not any("--report-examples" in slot.command(silent) for slot in lay_out((), 1))
    with pytest.raises(InvalidInput, match="THAW_REPORT_EXAMPLES"):
        Settings.from_environment({"THAW_REPORT_EXAMPLES": "21"})


def test_a_machine_without_gpu_has_a_slot_a_core_up_to_four() -> None:
    assert lay_out((), available_cores=2) == (Slot(0, None, 1, 2), Slot(1, None, 1, 2))
    assert [slot.threads for slot in lay_out((), available_cores=9)] == [2, 2, 2, 2]


def test_what_is_done_once_for_many_trials_has_all_cores() -> None:
    assert {slot.most_threads for slot in lay_out((), 6, count=3)} == {6}


def test_slots_on_a_cpu_divide_its_cores_and_each_has_one_at_least() -> None:
    assert [slot.threads for slot in lay_out((), 4, count=2)] == [2, 2]
    assert [slot.threads for slot in lay_out((), 2, count=4)] == [1, 1, 1, 1]


def test_a_slot_on_a_gpu_is_bound_to_the_cpus_of_its_node_and_has_no_more_threads() -> None:
    nodes: dict[int | None, tuple[int, ...]] = {0: (0, 1), 1: tuple(range(2, 12))}
    first, second = lay_out((FIRST, SECOND), 12, cpus_of=lambda node: nodes.get(node, ()))
    assert (first.cpus, first.threads, first.most_threads) == ((0, 1), 2, 2)
    assert (second.threads, second.most_threads) == (6, 10)
    command = first.command(SETTINGS)
    assert command[command.index("--cpus") + 1] == "0,1"
    assert "--cpus" not in lay_out((), 12)[0].command(SETTINGS)


def nodes_of(root: Path, *lists: str) -> Path:
    for number, cpus in enumerate(lists):
        node = root / "devices" / "system" / "node" / f"node{number}"
        node.mkdir(parents=True)
        (node / "cpulist").write_text(f"{cpus}\n")
    return root


def test_the_cpus_of_a_node_are_those_that_the_process_may_use(tmp_path: Path) -> None:
    root = nodes_of(tmp_path, "0-3,8-11", "4-7,12-15")
    assert node_cpus(0, root, lambda: set(range(16))) == (0, 1, 2, 3, 8, 9, 10, 11)
    assert node_cpus(1, root, lambda: {0, 5, 13}) == (5, 13)
    assert node_cpus(None, root, lambda: set(range(16))) == node_cpus(7, root, lambda: set(range(16))) == ()


def test_a_machine_with_one_node_binds_nothing(tmp_path: Path) -> None:
    assert node_cpus(0, nodes_of(tmp_path, "0-3"), lambda: set(range(4))) == ()
    assert node_cpus(0, tmp_path / "none", lambda: set(range(4))) == ()


@pytest.mark.parametrize(
    ("inherited", "expected"),
    [
        ({}, {"PYTORCH_ALLOC_CONF": "expandable_segments:True"}),
        ({"PYTORCH_ALLOC_CONF": "max_split_size_mb:64"}, {"PYTORCH_ALLOC_CONF": "max_split_size_mb:64"}),
        ({"PYTORCH_CUDA_ALLOC_CONF": "backend:cudaMallocAsync"}, {"PYTORCH_CUDA_ALLOC_CONF": "backend:cudaMallocAsync"}),
    ],
)
def test_the_allocator_extends_its_segments_unless_the_user_chose_otherwise(inherited: dict[str, str], expected: dict[str, str]) -> None:
    (slot,) = lay_out((FIRST,), 1)
    fixed = {"CUDA_DEVICE_ORDER": "PCI_BUS_ID", "CUDA_VISIBLE_DEVICES": FIRST.id}
    assert slot.environment({"CUDA_DEVICE_ORDER": "FASTEST_FIRST", **inherited}) == fixed | expected


def test_a_slot_on_an_amd_card_is_selected_by_the_variable_of_hip() -> None:
    (slot,) = lay_out((Device("2", "rocm", "AMD Instinct MI300X", "2"),), 1)
    inherited = {"CUDA_VISIBLE_DEVICES": "2,3", "HIP_VISIBLE_DEVICES": "2,3", "ROCR_VISIBLE_DEVICES": "0,1,2,3"}
    assert slot.environment(inherited) == {"HIP_VISIBLE_DEVICES": "2", "ROCR_VISIBLE_DEVICES": "0,1,2,3"}
    assert "cuda:0" in slot.command(SETTINGS)  # torch's name for AMD's devices, too


def test_a_slot_on_the_cpu_has_the_memory_of_the_machine() -> None:
    (slot,) = lay_out((), 1)
    assert slot.memory == machine_memory() and (slot.memory or 0) > 2**27


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
