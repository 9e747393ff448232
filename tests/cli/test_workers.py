"""`thaw workers list` and `thaw study show` say what a worker cannot read, and what it set aside."""

import time
from collections.abc import Callable
from contextlib import closing
from typing import Any

from service import operations
from service.domain.parsing import parse_study
from service.domain.records import UnusableDevice, Worker
from service.store import open_store
from tests.web.laboratory import study_document


def test_what_a_worker_cannot_read_is_said_for_the_worker_and_for_the_study(
    start_server: Callable[..., Any], thaw: Callable[..., Any]
) -> None:
    served = start_server("--workers", "0")
    now = time.time()
    with closing(open_store(f"sqlite:///{served.home / 'thawline.db'}")) as store:
        worker = Worker(id="box-1", host="box", pid=7, slots=1, devices=("cpu",), state="alive", started_at=now, seen_at=now)
        operations.register_worker(store, worker)
        study = operations.create_study(store, parse_study(study_document()))
        operations.report_unavailable(store, "box-1", study.id, "data", "there is no folder /data/digits")
        operations.count_set_aside(store, "box-1", 1)
    listed = thaw("--server", served.address, "workers", "list").out
    assert "box-1: claims no trials of digits, because it cannot read the data: there is no folder /data/digits" in listed
    assert "box-1: the database did not accept 1 of its results" in listed
    shown = thaw("--server", served.address, "study", "show", "digits").out
    assert (
        "No worker can read the study's data: on box, there is no folder /data/digits. The study continues when a worker can read them."
        in shown
    )


def test_devices_are_listed_by_name_and_unusable_ones_with_the_remedy(start_server: Callable[..., Any], thaw: Callable[..., Any]) -> None:
    served = start_server("--workers", "0")
    now = time.time()
    fault = UnusableDevice("cuda:GPU-2", "Tesla V100 #1, 32 GB", "CUDA error: no kernel image", "Install another torch")
    with closing(open_store(f"sqlite:///{served.home / 'thawline.db'}")) as store:
        named = Worker(
            id="box-1", host="box", pid=7, slots=2, devices=("cuda:GPU-1",) * 2, device_names=("NVIDIA H200 #0, 141 GB",) * 2,
            unusable=(fault,), state="alive", started_at=now, seen_at=now,
        )  # fmt: skip
        on_cpu = Worker(
            id="hut-1", host="hut", pid=7, slots=1, devices=("cpu",), device_names=("CPU",), unusable=(fault,), state="alive",
            started_at=now, seen_at=now,
        )  # fmt: skip
        stuck = Worker(id="den-1", host="den", pid=7, slots=0, devices=(), unusable=(fault,), state="alive", started_at=now, seen_at=now)
        for worker in (named, on_cpu, stuck):
            operations.register_worker(store, worker)
    listed = thaw("--server", served.address, "workers", "list").out
    assert listed.count("NVIDIA H200 #0, 141 GB") == 1 and "(2 slots)" in listed
    assert "box-1: cannot use Tesla V100 #1, 32 GB: CUDA error: no kernel image. Install another torch." in listed
    assert "hut-1: trains on the CPU, because it can use no GPU" in listed
    assert "box-1: trains" not in listed and "den-1: trains" not in listed
