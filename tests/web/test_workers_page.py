"""The workers in a real browser: what they run, how long they are silent, and the button that drains one."""

import re
import time
from dataclasses import replace

import pytest
from playwright.sync_api import Page, expect

from service import operations
from service.domain.records import UnusableDevice, Worker
from service.store import queries
from tests.web.laboratory import Laboratory

pytestmark = pytest.mark.browser

GPU = "cuda:GPU-8f2e1c3a-1111-2222-3333-444455556666"


def registered(lab: Laboratory, name: str, seconds_ago: float = 0.0) -> Worker:
    now = time.time()
    worker = Worker(
        id=name, host=f"host of {name}", pid=7, slots=2, devices=(GPU, GPU), memory=(85 * 10**9,) * 2, state="alive",
        started_at=now - 7200, seen_at=now - seconds_ago,
    )  # fmt: skip
    operations.register_worker(lab.store, worker)
    return worker


def test_a_worker_is_shown_with_what_it_has_and_runs_and_is_drained(page: Page, live_lab: Laboratory) -> None:
    worker = registered(live_lab, "worker-1")
    live_lab.study("worked-on")
    claim = live_lab.claim_from("worked-on")
    page.goto("/workers")
    card = page.locator("#workers > li").filter(has_text="host of worker-1")
    expect(card).to_contain_text("GPU 8f2e1c3a · 85 GB")
    expect(card).to_contain_text("2 h 0 min")
    expect(card.get_by_role("link", name=f"trial {claim.lease.number} of worked-on")).to_have_attribute(
        "href", f"/studies/worked-on/trials/{claim.lease.number}"
    )
    card.get_by_role("button", name="Drain").click()
    dialog = page.get_by_role("dialog", name="Drain host of worker-1?")
    dialog.get_by_role("button", name="Cancel").click()
    assert live_lab.store.read(queries.find_worker, "worker-1").state == "alive"
    card.get_by_role("button", name="Drain").click()
    dialog.get_by_role("button", name="Drain the worker").click()
    expect(card).to_contain_text("draining")
    expect(card).to_contain_text("Claims no more trials")
    expect(card.get_by_role("button", name="Drain")).to_have_count(0)
    assert live_lab.store.read(queries.find_worker, "worker-1").state == "draining"
    operations.retire_worker(live_lab.store, worker.id)
    expect(card).to_have_count(0)


def test_devices_are_shown_by_name_and_unusable_ones_with_the_remedy(page: Page, live_lab: Laboratory) -> None:
    worker = registered(live_lab, "worker-1")
    old = UnusableDevice(
        "cuda:GPU-2", "Tesla V100 #1, 32 GB", "AcceleratorError: CUDA error: no kernel image is available for execution on the device",
        "Install torch from PyTorch's index for another CUDA",
    )  # fmt: skip
    named = replace(worker, device_names=("NVIDIA H200 #0, 141 GB",) * 2, unusable=(old,))
    operations.change_devices(live_lab.store, named)
    page.goto("/workers")
    card = page.locator("#workers > li").filter(has_text="host of worker-1")
    expect(card.locator(".facts > div").filter(has_text="Devices").locator("dd")).to_have_text("NVIDIA H200 #0, 141 GB · 2 slots")
    expect(card).to_contain_text("Cannot use Tesla V100 #1, 32 GB: AcceleratorError: CUDA error: no kernel image")
    expect(card).to_contain_text("Install torch from PyTorch's index for another CUDA")
    expect(card).not_to_contain_text("Trials train on the CPU")
    on_cpu = replace(worker, devices=("cpu", "cpu"), memory=(16 * 10**9,) * 2, device_names=("CPU", "CPU"), unusable=(old,))
    operations.change_devices(live_lab.store, on_cpu)
    expect(card).to_contain_text("CPU · 16 GB")
    expect(card).to_contain_text("Trials train on the CPU, because no GPU can be used.")
    operations.change_devices(live_lab.store, replace(worker, slots=0, devices=(), memory=(), unusable=(old,)))
    expect(card).to_contain_text("none that can be used")
    expect(card).to_contain_text("Claims no trials until a device can be used.")
    operations.drain_worker(live_lab.store, worker.id)
    operations.change_devices(live_lab.store, named)
    assert live_lab.store.read(queries.find_worker, worker.id).state == "draining"


def test_a_silent_worker_is_told_from_an_alive_one_and_gone_ones_are_folded_away(page: Page, live_lab: Laboratory) -> None:
    registered(live_lab, "mute", seconds_ago=300)
    operations.register_worker(live_lab.store, replace(registered(live_lab, "left"), state="gone"))
    registered(live_lab, "forgotten", seconds_ago=90_000)
    page.goto("/workers")
    card = page.locator("#workers > li").filter(has_text="host of mute")
    expect(card).to_contain_text("silent")
    expect(card.locator(".heartbeat")).to_have_text("5 min 2 s ago")  # it goes on between two readings
    past = page.locator("#gone")
    expect(past).to_be_hidden()
    page.locator("#past-title").click()
    for name in ("left", "forgotten"):
        expect(past).to_contain_text(f"host of {name}")
    expect(page).to_have_url(re.compile(r"\?gone$"))  # the browser reports the opened list in an event of its own, after the click
    page.reload()
    expect(past).to_be_visible()


def test_a_worker_says_which_studies_it_leaves_alone_and_what_it_set_aside(page: Page, live_lab: Laboratory) -> None:
    registered(live_lab, "blind")
    study = live_lab.study("unseen", checked=False)
    page.goto("/studies/unseen")
    expect(page.locator("#notice")).to_be_hidden()
    operations.report_unavailable(live_lab.store, "blind", study.id, "data", "there is no folder /mnt/digits")
    operations.count_set_aside(live_lab.store, "blind", 2)
    expect(page.locator("#facts")).to_contain_text("blind cannot read the data: there is no folder /mnt/digits")
    page.goto("/workers")
    card = page.locator("#workers > li").filter(has_text="host of blind")
    expect(card).to_contain_text("Claims no trials of unseen, because it cannot read the data: there is no folder /mnt/digits")
    expect(card.get_by_role("link", name="unseen")).to_have_attribute("href", "/studies/unseen")
    expect(card).to_contain_text("The database did not accept 2 results of earlier trials.")
    operations.report_available(live_lab.store, "blind", study.id)
    expect(card).not_to_contain_text("Leaves unseen alone")
