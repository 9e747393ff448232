"""`thaw workers list` and `thaw study show` say what a worker cannot read, and what it set aside."""

import time
from collections.abc import Callable
from contextlib import closing
from typing import Any

from service import operations
from service.domain.parsing import parse_study
from service.domain.records import Worker
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
