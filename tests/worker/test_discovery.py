"""How a worker finds the devices of a machine, with drivers and tools that stand in for the real ones."""

import json
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from service.worker.devices import Device
from service.worker.discovery import Sources, Unanswered, ask_torch, driver_version, find_devices, select

UUIDS = ("GPU-11111111-2222-3333-4444-555555555555", "GPU-66666666-7777-8888-9999-000000000000")
SLICES = ("MIG-aaaaaaaa-0000-0000-0000-000000000001", "MIG-bbbbbbbb-0000-0000-0000-000000000002")
TWO_CARDS = f"""GPU 0: NVIDIA H100 80GB HBM3 (UUID: {UUIDS[0]})
GPU 1: NVIDIA H200 (UUID: {UUIDS[1]})
"""
FACTS = f"""0, {UUIDS[0]}, NVIDIA H100 80GB HBM3, 81559, 00000000:65:00.0
1, {UUIDS[1]}, NVIDIA H200, 143771, 00000000:E3:00.0
"""
WITH_SLICES = f"""GPU 0: NVIDIA H100 80GB HBM3 (UUID: {UUIDS[0]})
  MIG 1g.10gb     Device  0: (UUID: {SLICES[0]})
  MIG 3g.40gb     Device  2: (UUID: {SLICES[1]})
GPU 1: NVIDIA H200 (UUID: {UUIDS[1]})
"""
MISMATCH = "Failed to initialize NVML: Driver/library version mismatch\nNVML library version: 580.95"
NO_TORCH = (sys.executable, "-c", "raise SystemExit('torch must not be asked here')")


class NVMLError(Exception):
    pass


@dataclass
class Card:
    uuid: str
    name: str
    mebibytes: int | None
    bus: str = "00000000:65:00.0"
    slices: Sequence["Card | None"] | None = None  # None: the card has no MIG; an item None: no slice at that place


@dataclass
class Nvml:
    """A stand-in for the module pynvml."""

    cards: Sequence[Card] = ()
    error: str | None = None
    wait_seconds: float = 0.0
    NVMLError: type[Exception] = field(default=NVMLError)

    def __call__(self) -> "Nvml":
        return self

    def nvmlInit(self) -> None:
        time.sleep(self.wait_seconds)
        if self.error:
            raise NVMLError(self.error)

    def nvmlShutdown(self) -> None: ...

    def nvmlSystemGetDriverVersion(self) -> bytes:
        return b"580.95.05"

    def nvmlDeviceGetCount(self) -> int:
        return len(self.cards)

    def nvmlDeviceGetHandleByIndex(self, index: int) -> Card:
        return self.cards[index]

    def nvmlDeviceGetPciInfo(self, card: Card) -> Any:
        return SimpleNamespace(busId=card.bus.encode())

    def nvmlDeviceGetMigMode(self, card: Card) -> list[int]:
        if card.slices is None:
            raise NVMLError("Not Supported")
        return [1, 1]

    def nvmlDeviceGetMaxMigDeviceCount(self, card: Card) -> int:
        return len(card.slices or ())

    def nvmlDeviceGetMigDeviceHandleByIndex(self, card: Card, number: int) -> Card:
        if (piece := (card.slices or ())[number]) is None:
            raise NVMLError("Not Found")
        return piece

    def nvmlDeviceGetUUID(self, card: Card) -> str:
        return card.uuid

    def nvmlDeviceGetName(self, card: Card) -> bytes:
        return card.name.encode()  # bytes in older versions

    def nvmlDeviceGetMemoryInfo(self, card: Card) -> Any:
        if card.mebibytes is None:
            raise NVMLError("Not Supported")
        return SimpleNamespace(total=card.mebibytes * 2**20)


H100 = Card(UUIDS[0], "NVIDIA H100 80GB HBM3", 81559)
H200 = Card(UUIDS[1], "NVIDIA H200", 143771, "00000000:E3:00.0")
ABSENT = Nvml(error="NVML Shared Library Not Found")


@pytest.fixture
def machine(tmp_path: Path) -> Sources:
    """A machine without drivers."""
    for folder in ("dev", "sys", "bin"):
        (tmp_path / folder).mkdir()
    return Sources({"PATH": str(tmp_path / "bin")}, ABSENT, NO_TORCH, tmp_path / "dev", tmp_path / "sys", "Linux x86_64", ())


def with_environment(machine: Sources, **variables: str) -> Sources:
    return replace(machine, environment={**machine.environment, **variables})


def with_smi(machine: Sources, listed: str, facts: str = FACTS, code: int = 0, wait_seconds: float = 0) -> Sources:
    """The machine with a script nvidia-smi on PATH."""
    tool = Path(machine.environment["PATH"]) / "nvidia-smi"
    tool.write_text(
        f"#!{sys.executable}\nimport sys, time\ntime.sleep({wait_seconds})\n"
        f"print({listed!r} if sys.argv[1] == '-L' else {facts!r}, end='')\nsys.exit({code})\n"
    )
    tool.chmod(0o755)
    return machine


def with_torch(machine: Sources, *devices: dict[str, Any], **facts: Any) -> Sources:
    """The machine with a torch that answers so, and a device node that makes it worth asking."""
    answer = {"torch": "2.14.0", "cuda": "13.0", "hip": None, "devices": devices, "arch": [], "other": None, "error": None, **facts}
    (machine.dev / "nvidiactl").touch()
    return replace(machine, torch=(sys.executable, "-c", f"print({json.dumps(answer)!r})"))


def on_node(machine: Sources, bus: str, node: int) -> None:
    place = machine.sys / "bus" / "pci" / "devices" / bus
    place.mkdir(parents=True)
    (place / "numa_node").write_text(f"{node}\n")


def test_a_machine_without_drivers_has_no_device_and_each_step_says_why(machine: Sources) -> None:
    found = find_devices(machine)
    assert found.devices == () and found.fault is None
    assert found.tried == (
        "CUDA_VISIBLE_DEVICES is not set",
        "NVML: NVML Shared Library Not Found",
        "nvidia-smi is not found on PATH",
        f"torch was not asked: {machine.dev} has no device of an NVIDIA or AMD driver",
    )


def test_the_driver_s_library_lists_cards_with_name_memory_and_node(machine: Sources) -> None:
    on_node(machine, "0000:65:00.0", 1)
    on_node(machine, "0000:e3:00.0", -1)  # the kernel's word for unknown
    found = find_devices(replace(machine, nvml=Nvml([H100, H200])))
    assert found.devices == (
        Device(UUIDS[0], "cuda", "NVIDIA H100 80GB HBM3", "0", 81559 * 2**20, 1),
        Device(UUIDS[1], "cuda", "NVIDIA H200", "1", 143771 * 2**20, None),
    )


def test_slices_of_a_card_replace_it(machine: Sources) -> None:
    slices = (Card(SLICES[0], "NVIDIA H100 MIG 1g.10gb", 9984), None, Card(SLICES[1], "NVIDIA H100 MIG 3g.40gb", 40448))
    found = find_devices(replace(machine, nvml=Nvml([replace(H100, slices=slices), H200])))
    assert [(device.id, device.display) for device in found.devices] == [
        (SLICES[0], "NVIDIA H100 MIG 1g.10gb #0:0, 10 GB"),
        (SLICES[1], "NVIDIA H100 MIG 3g.40gb #0:2, 40 GB"),
        (UUIDS[1], "NVIDIA H200 #1, 141 GB"),
    ]


def test_a_card_that_shares_the_machine_s_memory_states_none(machine: Sources) -> None:
    found = find_devices(replace(machine, nvml=Nvml([Card(UUIDS[0], "NVIDIA GB10", None)])))
    assert [device.display for device in found.devices] == ["NVIDIA GB10 #0"]


def test_without_the_library_the_tool_is_asked(machine: Sources) -> None:
    found = find_devices(with_smi(machine, TWO_CARDS))
    assert [(device.id, device.display) for device in found.devices] == [
        (UUIDS[0], "NVIDIA H100 80GB HBM3 #0, 80 GB"),
        (UUIDS[1], "NVIDIA H200 #1, 141 GB"),
    ]
    assert "NVML: NVML Shared Library Not Found" in found.tried


def test_a_missing_module_is_no_obstacle(machine: Sources) -> None:
    def missing() -> Any:
        raise ImportError

    found = find_devices(with_smi(replace(machine, nvml=missing), TWO_CARDS))
    assert len(found.devices) == 2 and "NVML was not asked: nvidia-ml-py is not found" in found.tried


def test_the_tool_s_list_of_slices_is_read(machine: Sources) -> None:
    found = find_devices(with_smi(machine, WITH_SLICES))
    assert [(device.id, device.index, device.memory) for device in found.devices] == [
        (SLICES[0], "0:0", 10 * 2**30),
        (SLICES[1], "0:2", 40 * 2**30),
        (UUIDS[1], "1", 143771 * 2**20),
    ]


def test_a_card_with_mig_and_no_slice_is_a_fault_and_not_a_whole_card(machine: Sources) -> None:
    without_slices = replace(with_smi(machine, TWO_CARDS), nvml=Nvml([replace(H100, slices=(None, None))]))
    found = find_devices(without_slices)
    assert found.devices == () and found.fault is not None and "nvidia-smi mig -cgi" in found.fault.remedy
    assert found.fault.detail == "NVIDIA H100 80GB HBM3 #0 has MIG enabled, but no slice"
    assert found.tried[1:] == ("NVML lists no device", "torch was not asked: no card can be used")
    both = find_devices(replace(without_slices, nvml=Nvml([replace(H100, slices=(None,)), H200])))
    assert [device.id for device in both.devices] == [UUIDS[1]] and both.fault is None


def test_the_tool_is_found_beside_path_as_in_wsl(machine: Sources) -> None:
    folder = machine.environment["PATH"]
    found = find_devices(replace(with_environment(with_smi(machine, TWO_CARDS), PATH="/nowhere"), tool_folders=(folder,)))
    assert len(found.devices) == 2


@pytest.mark.parametrize("nvml", [ABSENT, Nvml(error="Driver/library version mismatch")])
def test_a_driver_that_does_not_fit_its_library_is_a_fault_with_a_remedy(machine: Sources, nvml: Nvml) -> None:
    found = find_devices(with_smi(replace(machine, nvml=nvml), MISMATCH, code=18))
    assert found.devices == () and found.fault is not None
    assert "version mismatch" in found.fault.detail and found.fault.remedy.startswith("Reboot")
    assert any("nvidia-smi failed with exit code 18" in step for step in found.tried)
    assert "torch was not asked: the driver does not work" in found.tried


def test_a_driver_that_hangs_is_left_after_its_time_and_asked_no_other_way(machine: Sources, caplog: pytest.LogCaptureFixture) -> None:
    hanging = replace(with_smi(machine, TWO_CARDS), nvml=Nvml([H100], wait_seconds=30), query_seconds=0.4, slow_seconds=0.1)
    began_at = time.monotonic()
    found = find_devices(hanging)
    assert time.monotonic() - began_at < 20
    assert found.devices == () and found.fault is not None and found.fault.detail == "NVML did not answer within 0.4 s"
    assert "NVML has not answered for 0.1 s; waiting up to 0.4 s" in caplog.text


def test_the_driver_s_version_is_asked_for_no_longer_than_its_time(machine: Sources) -> None:
    assert driver_version(replace(machine, nvml=Nvml())) == "580.95.05"
    with pytest.raises(Unanswered, match="NVML Shared Library Not Found"):
        driver_version(machine)
    with pytest.raises(Unanswered, match=r"NVML did not answer within 0\.2 s"):
        driver_version(replace(machine, nvml=Nvml(wait_seconds=30), query_seconds=0.2, slow_seconds=0.2))


def test_a_slow_driver_is_awaited(machine: Sources, caplog: pytest.LogCaptureFixture) -> None:
    found = find_devices(replace(machine, nvml=Nvml([H100], wait_seconds=0.3), slow_seconds=0.1))
    assert len(found.devices) == 1 and found.fault is None and "NVML has not answered" in caplog.text


def test_a_tool_s_output_that_is_no_text_is_read_as_far_as_it_is(machine: Sources) -> None:
    tool = Path(with_smi(machine, TWO_CARDS).environment["PATH"]) / "nvidia-smi"
    tool.write_text(f"#!{sys.executable}\nimport os\nos.write(1, {TWO_CARDS!r}.encode().replace(b'H200', b'H200\\xae'))\n")
    assert [device.name for device in find_devices(machine).devices] == ["NVIDIA H100 80GB HBM3", "NVIDIA H200\ufffd"]


def test_a_tool_that_hangs_is_ended(machine: Sources) -> None:
    found = find_devices(replace(with_smi(machine, TWO_CARDS, wait_seconds=60), query_seconds=1.0, slow_seconds=0.5))
    assert found.devices == () and found.fault is not None and "nvidia-smi did not answer" in found.fault.detail


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("1, 0", [("1", "NVIDIA H200 #1, 141 GB"), ("0", "NVIDIA H100 80GB HBM3 #0, 80 GB")]),
        ("0,-1,1", [("0", "NVIDIA H100 80GB HBM3 #0, 80 GB")]),
        ("0,nonsense,1", [("0", "NVIDIA H100 80GB HBM3 #0, 80 GB")]),
        ("0,7,1", [("0", "NVIDIA H100 80GB HBM3 #0, 80 GB")]),
        (UUIDS[1], [(UUIDS[1], "NVIDIA H200 #1, 141 GB")]),
        ("GPU-6666", [(UUIDS[1], "NVIDIA H200 #1, 141 GB")]),
        ("", []),
        ("-1", []),
        ("NoDevFiles", []),
        ("0,0", []),
    ],
)
def test_the_environment_names_devices_up_to_the_first_entry_that_is_none(
    machine: Sources, value: str, expected: list[tuple[str, str]]
) -> None:
    found = find_devices(with_environment(replace(machine, nvml=Nvml([H100, H200])), CUDA_VISIBLE_DEVICES=value))
    assert [(device.id, device.display) for device in found.devices] == expected


def test_an_index_of_a_card_with_slices_is_its_first_slice(machine: Sources) -> None:
    sliced = replace(H100, slices=[Card(SLICES[0], "NVIDIA H100 MIG 1g.10gb", 9984)])
    found = find_devices(with_environment(replace(machine, nvml=Nvml([sliced])), CUDA_VISIBLE_DEVICES="0"))
    assert [device.id for device in found.devices] == [SLICES[0]]


def test_devices_that_the_environment_names_are_used_without_a_driver_s_list(machine: Sources) -> None:
    found = find_devices(with_environment(machine, CUDA_VISIBLE_DEVICES=f"2,{SLICES[0]}"))
    assert [(device.id, device.label, device.display) for device in found.devices] == [
        ("2", "cuda:2", "GPU #2"),
        (SLICES[0], f"cuda:{SLICES[0]}", "GPU"),
    ]


def test_torch_is_asked_where_the_driver_gives_no_list(machine: Sources) -> None:
    on_node(machine, "0000:01:00.0", 0)
    orin = {"name": "Orin", "memory": 64 * 2**30, "bus": "00000000:01:00.0"}
    found = find_devices(with_torch(machine, orin))
    assert found.devices == (Device("0", "cuda", "Orin", "0", 64 * 2**30, 0),)


def test_a_torch_without_cuda_beside_a_card_is_a_fault(machine: Sources) -> None:
    found = find_devices(with_torch(machine, cuda=None))
    assert found.devices == () and found.fault is not None
    assert found.fault.detail == "torch 2.14.0: it is built without CUDA" and "index for CUDA" in found.fault.remedy


def test_torch_s_error_about_the_driver_is_a_fault_with_both_versions(machine: Sources) -> None:
    error = "RuntimeError: The NVIDIA driver on your system is too old (found version 12040)."
    found = find_devices(with_torch(machine, error=error))
    assert found.fault is not None and "supports CUDA 12.4" in found.fault.remedy and "CUDA 13.0" in found.fault.remedy


def test_a_torch_that_fails_or_writes_nonsense_is_reported(machine: Sources) -> None:
    (machine.dev / "nvidiactl").touch()
    broken = find_devices(replace(machine, torch=(sys.executable, "-c", "raise ImportError('libcudart.so.13: cannot open shared object')")))
    assert broken.fault is not None and "libcudart.so.13" in broken.fault.detail and "LD_LIBRARY_PATH" in broken.fault.remedy
    silent = find_devices(replace(machine, torch=(sys.executable, "-c", "print('hello')")))
    assert silent.fault is not None and "unreadable answer" in silent.fault.detail


@pytest.mark.parametrize(
    ("variables", "expected"),
    [
        ({}, ["0", "1", "2"]),
        ({"HIP_VISIBLE_DEVICES": "4,5,6"}, ["4", "5", "6"]),
        ({"HIP_VISIBLE_DEVICES": ""}, []),
        ({"CUDA_VISIBLE_DEVICES": "1,2,3"}, ["1", "2", "3"]),
        ({"ROCR_VISIBLE_DEVICES": "5,6,7"}, ["0", "1", "2"]),
    ],
)
def test_amd_s_cards_are_found_by_torch(machine: Sources, variables: dict[str, str], expected: list[str]) -> None:
    cards = [{"name": "AMD Instinct MI300X", "memory": 192 * 2**30, "bus": None}] * 3
    amd = with_environment(with_torch(machine, *cards, cuda=None, hip="7.0"), **variables)
    (machine.dev / "nvidiactl").unlink()
    (machine.dev / "kfd").touch()
    devices = find_devices(amd).devices
    assert [device.label for device in devices] == [f"rocm:{name}" for name in expected]
    assert all(device.display == f"AMD Instinct MI300X #{device.id}, 192 GB" for device in devices)


@pytest.mark.parametrize(("kind", "name"), [("mps", "Apple MPS"), ("xpu", "Intel XPU")])
def test_a_device_that_training_does_not_support_is_said_and_not_used(machine: Sources, kind: str, name: str) -> None:
    found = find_devices(with_torch(machine, cuda=None, other=kind))
    assert found.devices == ()
    assert any(step.startswith(f"training on {name} is not supported by this version") for step in found.tried)


def test_the_real_torch_answers() -> None:
    """The program that asks torch runs, here without a device."""
    answer = ask_torch(Sources(environment={"PATH": "", "CUDA_VISIBLE_DEVICES": ""}))
    assert answer["torch"] and answer["devices"] == [] and answer["other"] is None


def test_apple_s_mps_is_said_and_not_used(machine: Sources) -> None:
    found = find_devices(replace(machine, system="Darwin arm64"))
    assert found.devices == () and any(step.startswith("training on Apple MPS is not supported") for step in found.tried)


CARDS = (
    Device(UUIDS[0], "cuda", "NVIDIA H100", "0"),
    Device(UUIDS[1], "cuda", "NVIDIA H200", "1"),
    Device(SLICES[0], "cuda", "MIG", "2:0"),
)


@pytest.mark.parametrize(
    ("wanted", "expected"),
    [("1", [1]), ("1, 0", [1, 0]), (UUIDS[0], [0]), ("GPU-6666", [1]), ("2", [2]), ("2:0", [2]), (SLICES[0], [2]), ("0,0", [0])],
)
def test_devices_are_selected_by_index_or_id(wanted: str, expected: list[int]) -> None:
    assert select(CARDS, wanted) == tuple(CARDS[place] for place in expected)


def test_an_unknown_device_is_refused_with_those_that_are_there() -> None:
    with pytest.raises(ValueError, match=rf"there is no GPU 5 here; found: NVIDIA H100 #0 \({UUIDS[0]}\); NVIDIA H200 #1"):
        select(CARDS, "0,5")
    with pytest.raises(ValueError, match="found: none"):
        select((), "0")
    with pytest.raises(ValueError, match="no GPU is named"):
        select(CARDS, ",")
