"""A worker with one GPU of a given memory, and a toy trainer whose larger trials run out of it. Installed in both processes."""

import os
import sys
from typing import Any

BYTES = "THAW_CHAOS_CARD_BYTES"
SMALL, LARGE = 8 * 10**9, 24 * 10**9
LARGEST_RATE = 0.5  # a trial with a greater learning rate fits only the large card


def install() -> None:
    if "tests.chaos.launch" in sys.modules:
        in_worker()
    else:
        in_toy()


def in_worker() -> None:
    from service.worker import devices
    from service.worker.devices import Device, Slot

    def one_card(*_: Any, **__: Any) -> tuple[Slot, ...]:
        size = int(os.environ[BYTES])
        return (Slot(0, Device(f"GPU-{size}", "cuda", "Card", "0", size), 1),)

    devices.lay_out = one_card


def in_toy() -> None:
    toy: Any = sys.modules["__main__"]
    run, size = toy.run, int(os.environ[BYTES])

    def bounded(order: dict[str, Any], *more: Any) -> None:
        if order["config"]["lr"] <= LARGEST_RATE or size >= LARGE:
            run(order, *more)
            return
        toy.tell("prepared", facts=toy.FACTS, parameters=2, trainable=1, environment={"device": "toy", "threads": "1"})
        toy.tell("failed", reason="out_of_memory", detail="2.00 GiB could not be allocated on the GPU", step=0, device_bytes=size)

    toy.run = bounded
