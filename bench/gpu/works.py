"""Run 1: whether the product works on this card."""

import contextlib
import os
import platform
import subprocess
import sys
import time
from collections.abc import Mapping
from functools import partial

import torch

from bench.gpu import testing
from bench.gpu.material import cache, call_seconds, config, outcome
from bench.gpu.needs import ROOT, absent, outdated, requirements
from bench.gpu.parts import Bench, NotHere, Part, Unexpected
from service.settings import Settings
from service.worker.devices import Slot, cores
from service.worker.discovery import find_devices
from service.worker.process import TrainerDied, TrainerProcess
from trainer import devices
from trainer.loop import train
from trainer.protocol import Failed, Finished, Run

POISON = """
import torch
from trainer.tasks.images.task import ImageTask
first = ImageTask.loss
def loss(self, *arguments, **options):
    zeros = torch.zeros(4, device="cuda:0")
    zeros[torch.tensor([2**30], device="cuda:0")].sum().item()  # fails in the kernel, after which the context is unusable
    return first(self, *arguments, **options)
ImageTask.loss = loss
from trainer.__main__ import main
main()
"""
END_SECONDS = 25.0  # in which a trainer whose context is poisoned must end


def environment(bench: Bench) -> None:
    """Driver, versions, card and what the service finds, and what the card can reach."""
    for what in ("-L", "--query-gpu=driver_version,mig.mode.current,compute_mode,clocks.max.sm,memory.total"):
        bench.case(f"nvidia-smi {what.partition('=')[0]}", partial(_smi, what))
    bench.case("versions", lambda: _versions(bench))
    bench.case("devices of a worker", _devices)
    bench.case("utilisation", lambda: _utilisation(bench))
    bench.case("copy", lambda: _copy(bench))
    for dtype, tf32 in ((torch.bfloat16, False), (torch.float16, False), (torch.float32, False), (torch.float32, True)):
        name = "tf32" if tf32 else str(dtype).removeprefix("torch.")
        bench.case(f"matrix product, {name}", partial(_product, bench, dtype, tf32))


def _smi(option: str) -> Mapping[str, object]:
    try:
        done = subprocess.run(
            ["nvidia-smi", option, *(["--format=csv"] if "=" in option else [])], capture_output=True, text=True, timeout=60
        )
    except FileNotFoundError:
        raise NotHere("nvidia-smi is not on the PATH") from None
    if done.returncode:
        raise Unexpected(done.stdout + done.stderr)
    return {"printed": done.stdout.strip()}


def _versions(bench: Bench) -> Mapping[str, object]:
    wanted = requirements("service")
    found: dict[str, object] = {
        "python": platform.python_version(), "cores": cores(), "missing": absent(wanted), "outdated": outdated(wanted),
        **devices.environment(bench.device, config(bench, "small_cnn", 16, 60)),
    }  # fmt: skip
    if bench.on_gpu:
        facts = torch.cuda.get_device_properties(bench.device)
        found |= {"memory": facts.total_memory, "capability": [facts.major, facts.minor], "processors": facts.multi_processor_count}
        found["architectures"] = torch.cuda.get_arch_list()
    return found


def _devices() -> Mapping[str, object]:
    found = find_devices()
    return {"devices": [device.display for device in found.devices], "tried": found.tried, "fault": found.fault}


def _utilisation(bench: Bench) -> Mapping[str, object]:
    if not bench.on_gpu:
        raise NotHere("the device is no GPU")
    started_at = time.perf_counter()
    percent = torch.cuda.utilization(bench.device)
    return {"percent": percent, "seconds_a_query": time.perf_counter() - started_at}


def _copy(bench: Bench) -> Mapping[str, object]:
    source = torch.ones(bench.sized(2**28, 2**20), device=bench.device)
    target = torch.empty_like(source)
    seconds, _ = call_seconds(lambda: target.copy_(source), bench.device, bench.sized(1, 0) / 4)
    return {"gigabytes_per_second": 2 * source.nbytes / seconds / 1e9}


def _product(bench: Bench, dtype: torch.dtype, tf32: bool) -> Mapping[str, object]:
    if tf32 and not bench.on_gpu:
        raise NotHere("the device is no GPU")
    side = bench.sized(8192, 128)
    torch.backends.cuda.matmul.allow_tf32 = tf32
    one, other = (torch.randn(side, side, device=bench.device).to(dtype) for _ in range(2))
    seconds, _ = call_seconds(lambda: one @ other, bench.device, bench.sized(1, 0) / 4)
    torch.backends.cuda.matmul.allow_tf32 = False
    return {"teraflops": 2 * side**3 / seconds / 1e12}


def service(bench: Bench) -> None:
    """Studies through server, worker and trainer."""
    from bench.gpu import serving  # imports httpx2, which only this part needs

    serving.perform(bench)


def faults(bench: Bench) -> None:
    """Faults of a card. The killed trainer is a case of the service."""
    bench.case("out of memory", lambda: _exhausted(bench), 20)
    bench.case("a poisoned context", lambda: _poisoned(bench), 25)


def _exhausted(bench: Bench) -> Mapping[str, object]:
    """A batch too large for any card ends the run as `out_of_memory`, and the next run trains."""
    if not bench.on_gpu:
        raise NotHere("the device has no memory of its own")
    found = outcome(
        train(config(bench, "resnet50", 1024, 256, batch_size=192, precision="float32"), device=bench.device, cache=cache(bench))
    )
    if not isinstance(found.end, Failed) or found.end.reason != "out_of_memory":
        raise Unexpected(f"the run ended as {found.end.model_dump_json()[:500]}")
    held = torch.cuda.memory_allocated(bench.device)
    again = outcome(train(config(bench, "small_cnn", 32, 256, batch_size=32, epochs=1), device=bench.device, cache=cache(bench)))
    return {"detail": found.end.detail, "allocated_afterwards": held, "next_run": again.finished.kind}


def _poisoned(bench: Bench) -> Mapping[str, object]:
    """A trainer whose CUDA context is unusable reports the failure and ends, so that no further trial gets it."""
    if not bench.on_gpu:
        raise NotHere("the device is no GPU")
    process = trainer_process(bench, start=(sys.executable, "-P", "-c", POISON))
    reports = list[object]()
    try:
        await_ready(process, bench)
        process.send(Run(config=config(bench, "small_cnn", 32, 256, batch_size=32, epochs=2)))
        until = time.monotonic() + min(END_SECONDS, bench.seconds_left)
        with contextlib.suppress(TrainerDied):
            while time.monotonic() < until and not process.ready:
                if isinstance(message := process.read(0.5), Failed | Finished):
                    reports.append(message)
            if process.ready:
                time.sleep(1)
        died = not process.alive
    finally:
        process.close(grace_seconds=2)
    values = {"reports": [str(report)[:300] for report in reports], "exit_code": process.exit_code}
    if not died:
        raise Unexpected(f"the process waits for further orders after its context became unusable: {values}")
    if not any(isinstance(report, Failed) for report in reports):
        raise Unexpected(f"the process ended without reporting the failure of its run: {values}")
    return values


def trainer_process(bench: Bench, slot: Slot | None = None, start: tuple[str, ...] | None = None) -> TrainerProcess:
    """The trainer of a slot, by default of one on the device. `start` replaces the part of its command before the options."""
    if slot is None:
        found = find_devices().devices if bench.on_gpu else ()
        if bench.on_gpu and not found:
            raise Unexpected("the product finds no GPU")
        slot = Slot(0, found[0] if found else None, cores())
    command = slot.command(Settings(home=bench.folder / "home"))
    if start is not None:
        command = (*start, *command[command.index("--device") :])
    return TrainerProcess(command, slot.environment({**os.environ, "PYTHONPATH": str(ROOT)}))


def await_ready(process: TrainerProcess, bench: Bench) -> None:
    """Wait until the process takes orders. Raises TrainerDied, Unexpected."""
    while not process.ready:
        process.read(0.2)
        if bench.seconds_left < 1:
            raise Unexpected("a trainer was not ready in time")


PARTS = (
    Part("environment", environment, seconds=12, least_seconds=5),
    Part("tests", testing.perform, seconds=60, least_seconds=15, needs="tests"),
    Part("service", service, seconds=50, least_seconds=20, needs="service"),
    Part("faults", faults, seconds=35, least_seconds=15),
)
