"""The planner's clocks: work is timed, not launches."""

from collections.abc import Callable

import pytest
import torch

from trainer.features.planner import DeviceClock, HostClock, clock_of

LAUNCH = 0.01  # seconds of the host


class Device:
    """An asynchronous device: work begins once it is launched and what was queued before is done."""

    def __init__(self) -> None:
        self.host, self.free_at = 0.0, 0.0

    def run(self, seconds: float) -> None:
        self.host += LAUNCH
        self.free_at = max(self.free_at, self.host) + seconds

    def event(self) -> "Point":
        return Point(self)


class Point:
    def __init__(self, device: Device) -> None:
        self.device, self.at = device, -1.0

    def record(self) -> None:
        self.at = max(self.device.free_at, self.device.host)

    def synchronize(self) -> None:
        self.device.host = max(self.device.host, self.at)

    def elapsed_time(self, end: "Point", /) -> float:
        return (end.at - self.at) * 1000


def timed(clock: DeviceClock | HostClock, pieces: list[Callable[[], None]]) -> list[float]:
    clock.start()
    for piece in pieces:
        piece()
        clock.mark()
    return clock.seconds()


@pytest.mark.parametrize("work", [0.1, 0.001])
def test_work_is_timed_and_not_its_launches(work: float) -> None:
    """Also where a launch takes longer than the work."""
    device = Device()
    clock = DeviceClock(device.event, lambda: device.run(0.2))

    def twice() -> None:
        device.run(work)
        device.run(work)

    pieces = [lambda: device.run(work), twice, lambda: device.run(3 * work)]
    for _ in range(2):
        assert timed(clock, pieces) == pytest.approx([work, 2 * work, 3 * work])
    launches = timed(HostClock(lambda: device.host), pieces)
    assert launches == pytest.approx([LAUNCH, 2 * LAUNCH, LAUNCH]), "what the host's clock shows of the same work"


def test_what_the_host_computes_before_a_launch_counts() -> None:
    device = Device()

    def decoded() -> None:
        device.host += 0.5
        device.run(0.01)

    found = timed(DeviceClock(device.event, lambda: device.run(0.2)), [decoded, lambda: device.run(0.1)])
    assert found == pytest.approx([0.5 - 0.2 + LAUNCH + 0.01, 0.1])


def test_reading_the_seconds_waits_for_the_device() -> None:
    device = Device()
    timed(DeviceClock(device.event, lambda: device.run(0.2)), [lambda: device.run(5.0)])
    assert device.host >= 5.2


def test_a_cpu_is_timed_by_the_host_s_clock() -> None:
    assert isinstance(clock_of(torch.device("cpu")), HostClock)


@pytest.mark.gpu
def test_a_gpu_is_timed_by_its_queue() -> None:
    gpu = torch.device("cuda:0")
    clock, matrix = clock_of(gpu), torch.ones((4096, 4096), device=gpu)
    assert isinstance(clock, DeviceClock)
    for _ in range(2):  # the first call prepares kernels
        clock.start()
        for count in (1, 8):
            for _ in range(count):
                matrix @ matrix
            clock.mark()
        one, eight = clock.seconds()
    assert one > 0 and eight == pytest.approx(8 * one, rel=0.5)
