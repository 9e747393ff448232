"""`thaw doctor`: checks this machine, and computes on each of its devices as a worker does before it takes trials."""

import os
import platform
import shutil
import time
from collections.abc import Iterator
from contextlib import closing, suppress
from dataclasses import asdict, dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

import httpx2

from service.cli.console import Failure, console, print_json, table
from service.cli.processes import NO_TORCH, has_torch
from service.client import Client, Refused, Unreachable, without_user
from service.domain.errors import ThawlineError
from service.domain.states import WorkerState
from service.settings import Settings
from service.worker.devices import Slot, SlotLayout, cores, layout_of, machine_memory
from service.worker.discovery import Sources, Unanswered, ask_torch, driver_version, find_devices
from service.worker.process import TrainerDied, TrainerProcess
from trainer.configuration import counted
from trainer.protocol import DeviceUnusable, TrainerReady
from trainer.remedies import remedy

START_SECONDS = 180.0  # of a trainer, which imports torch and computes on its device
READ_SECONDS = 0.2
SERVER_SECONDS = 5.0  # in which the server must answer
PACKAGES = ("optuna", "sqlalchemy", "fastapi", "torchvision", "transformers", "peft", "onnxruntime")
VERSION_SECONDS = 10.0  # of the driver; the search for devices has waited for it already
REACHABLE = "is reachable"
SECRET = ("token", "webhooks", "webhook_secret", "mlflow_uri")  # settings whose value is not printed


@dataclass(frozen=True, slots=True)
class DoctorLine:
    """A line of the report. `fault` is what is wrong, and what to do about it."""

    subject: str
    value: str
    fault: str | None = None


def examine(settings: Settings, *, as_json: bool) -> None:
    """Print the report. Raises Failure if something is wrong."""
    findings = [*_software(), *_devices(settings), *_storage(settings), _server(settings), *_settings_that_deviate(settings)]
    if as_json:
        print_json({"sound": all(one.fault is None for one in findings), "checks": [asdict(one) for one in findings]})
    else:
        rows = [("" if one.fault is None else "WRONG", one.subject, one.value) for one in findings]
        console().print(table(("", "checked", "found"), rows))
        for one in findings:
            if one.fault is not None:
                console().print(f"\n{one.subject}: {one.fault.rstrip('.')}.")
    if wrong := sum(one.fault is not None for one in findings):
        raise Failure(f"{counted(wrong, 'check')} failed.")


def _software() -> Iterator[DoctorLine]:
    yield DoctorLine("Python", platform.python_version())
    with suppress(metadata.PackageNotFoundError):
        yield DoctorLine("Thawline", metadata.version("thawline"))
    yield DoctorLine("packages", ", ".join(f"{name} {version}" for name in PACKAGES if (version := _version(name)) is not None))
    if not has_torch():
        yield DoctorLine("torch", f"not installed: this installation runs servers, and no workers. {NO_TORCH}")
        return
    try:
        answer = ask_torch()
    except Unanswered as error:
        yield DoctorLine("torch", "cannot be imported", f"{error}. {remedy(str(error))}")
        return
    build = f"for CUDA {answer['cuda']}" if answer["cuda"] else f"for ROCm {answer['hip']}" if answer["hip"] else "for the CPU only"
    yield DoctorLine("torch", f"{answer['torch']}, built {build}")


def _version(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


def _devices(settings: Settings) -> Iterator[DoctorLine]:
    found = find_devices()
    yield DoctorLine("NVIDIA driver", _driver_version())
    yield DoctorLine("processor", f"{counted(cores(), 'core')}, {_size(machine_memory() or 0)} of memory")
    if found.fault is not None:
        yield DoctorLine(found.fault.name, "cannot be used", f"{found.fault.detail}. {found.fault.remedy}")
    if not found.devices:
        yield DoctorLine("GPU", "none: " + "; ".join(found.tried))
    if has_torch():
        yield from _proofs(layout_of(found.devices, cores()), settings.model_copy(update={"cache_bytes": 0}))


def _driver_version() -> str:
    try:
        return driver_version(Sources(query_seconds=VERSION_SECONDS, slow_seconds=VERSION_SECONDS))
    except Unanswered as error:
        return "none found" if "not found" in str(error).lower() else str(error)


def _proofs(layout: SlotLayout, settings: Settings) -> Iterator[DoctorLine]:
    """Start a trainer on each device, all at once, and report what each one sends first."""
    firsts = dict[str, Slot]()  # by device
    for slot in layout.slots:
        firsts.setdefault(slot.label, slot)
    started = [(slot, TrainerProcess(slot.command(settings), slot.environment(os.environ))) for slot in firsts.values()]
    began_at = time.monotonic()
    try:
        for slot, process in started:
            yield _proof(slot, process, began_at)
    finally:
        for _, process in started:
            process.close(0)


def _proof(slot: Slot, process: TrainerProcess, began_at: float) -> DoctorLine:
    """What the trainer reports. A DeviceUnusable about a slow test may be followed by TrainerReady; after any other the trainer ends."""
    subject, fault = slot.display, f"its trainer was not ready after {START_SECONDS:g} s"
    reported = False
    try:
        while time.monotonic() - began_at < START_SECONDS:
            match process.read(READ_SECONDS):
                case TrainerReady() as ready:
                    computed = "" if ready.proof_seconds is None else f"computes as the CPU does, tested in {ready.proof_seconds:.1f} s; "
                    return DoctorLine(subject, f"{computed}trainer ready after {time.monotonic() - began_at:.1f} s")
                case DeviceUnusable() as unusable:
                    fault, reported = f"{unusable.detail}. {unusable.remedy}", True
                case _:
                    pass
    except TrainerDied as died:
        if not reported:
            fault = f"{died.death.detail}. {remedy(died.death.detail)}"
    return DoctorLine(subject, "cannot be used", fault)


def _storage(settings: Settings) -> Iterator[DoctorLine]:
    yield _home(settings)
    yield _cache(settings)
    database = _database(settings)
    yield database
    if database.fault is None and database.value.endswith(REACHABLE):
        yield from _sinks(settings)


def _home(settings: Settings) -> DoctorLine:
    folder = settings.home
    while not os.path.exists(folder):  # unlike Path.exists, False also for a place that this user may not look up
        folder = folder.parent
    free = shutil.disk_usage(folder).free
    value = f"{settings.home}: {_size(free)} free"
    if not os.path.isdir(folder) or not os.access(folder, os.W_OK):
        return DoctorLine("THAW_HOME", value, f"{folder} cannot be written; change its owner, or set THAW_HOME")
    if free < settings.disk_floor_bytes:
        return DoctorLine(
            "THAW_HOME", value, f"less than THAW_DISK_FLOOR_BYTES ({_size(settings.disk_floor_bytes)}) is free, so that nothing is written"
        )
    return DoctorLine("THAW_HOME", value)


def _cache(settings: Settings) -> DoctorLine:
    folder = settings.home / "cache"
    if settings.cache_bytes == 0:
        return DoctorLine("cache", "off, because THAW_CACHE_BYTES is 0")
    if not os.path.exists(folder):
        return DoctorLine("cache", f"{folder} is empty, at most {_size(settings.cache_bytes)}")
    used = 0
    for file in folder.glob("*/*"):
        with suppress(OSError):  # removed meanwhile
            used += file.stat().st_size
    fault = None if os.access(folder, os.R_OK | os.W_OK | os.X_OK) else f"{folder} cannot be written; change its owner, or remove it"
    return DoctorLine("cache", f"{folder}: {_size(used)} used, at most {_size(settings.cache_bytes)}", fault)


def _server(settings: Settings) -> DoctorLine:
    """Whether the server answers with the token. A server at the default address need not run: workers use none."""
    address = without_user(settings.server)
    try:
        with Client(settings.server, settings.token, seconds=SERVER_SECONDS) as client:
            alive = sum(worker.state is WorkerState.ALIVE for worker in client.workers())
    except Unreachable:
        if settings.server == Settings().server:
            return DoctorLine("server", f"none at {address}")
        return DoctorLine("server", f"none at {address}", "start it with `thaw serve` there, or correct THAW_SERVER or --server")
    except Refused as refusal:
        remedy_of = "set THAW_TOKEN to the server's token" if refusal.status == httpx2.codes.UNAUTHORIZED else "see the server's log"
        return DoctorLine("server", f"{address} refuses", f"{refusal.detail.rstrip('.')}; {remedy_of}")
    except ThawlineError as error:
        return DoctorLine("server", f"{address} is of another version", str(error))
    return DoctorLine("server", f"{address} answers, with {counted(alive, 'worker')}")


def _database(settings: Settings) -> DoctorLine:
    from service.store import without_password
    from service.store.migrate import check

    url = without_password(settings.database_url)
    file = settings.database_url.removeprefix("sqlite:///")
    if file != settings.database_url and not Path(file).exists():
        return DoctorLine("database", f"{url} does not exist yet; the first server or worker creates it")
    try:
        is_current = check(settings.database_url)
    except ThawlineError as error:
        return DoctorLine("database", url, f"{error}")
    return DoctorLine("database", f"{url} {REACHABLE}", None if is_current else "its schema is older; run `thaw db upgrade`")


def _sinks(settings: Settings) -> Iterator[DoctorLine]:
    """What webhooks and other sinks have delivered, as servers stored it."""
    from service.store import open_store, queries

    with closing(open_store(settings.database_url, read_only=True)) as store:
        found = store.read(queries.sinks)
    for one in found:
        last = "nothing delivered yet" if one.delivered_at is None else f"last delivery {_ago(one.delivered_at)}"
        skipped = f", {one.skipped} refused and skipped" if one.skipped else ""
        value = f"{one.delivered} events delivered{skipped}, {one.backlog} to come; {last}"
        failed = (
            f"{one.failures} {'failure' if one.failures == 1 else 'failures'} since; the last {_ago(one.failed_at)}: {one.error}"
            if one.failures and one.failed_at
            else None
        )
        yield DoctorLine(one.name, value, failed)


def _ago(moment: float) -> str:
    return f"{max(0.0, time.time() - moment):.0f} s ago"


def _settings_that_deviate(settings: Settings) -> Iterator[DoctorLine]:
    default = Settings()
    for name in sorted(type(settings).model_fields.keys() - {"home"}):
        value = getattr(settings, name)
        if value != getattr(default, name) and not (name == "database_url" and value.endswith(f"{settings.home / 'thawline.db'}")):
            yield DoctorLine(f"THAW_{name.upper()}", _written(name, value))


def _written(name: str, value: Any) -> str:
    """The value of a setting, without secrets."""
    from service.store import without_password

    match name:
        case _ if name in SECRET:
            return "set"
        case "database_url":
            return without_password(value)
        case "server":
            return without_user(value)
        case _:
            return ", ".join(map(str, value)) if isinstance(value, tuple) else str(value)


def _size(amount: float) -> str:
    return f"{amount / 1e9:.1f} GB"
