"""How much of its device a run keeps at work."""

import time

import pytest
import torch

from trainer.devices import OfGpu, OfProcessor, utilization_of


class Clock:
    """Seconds that pass when they are told to."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def test_a_gpus_share_is_the_mean_of_what_its_driver_says_once_a_second() -> None:
    clock, said = Clock(), iter([90, 70, 20])
    use = OfGpu(lambda: next(said), clock)
    for _ in range(25):  # of a tenth of a second each
        clock.now += 0.1
        use.look()
    assert use.share() == pytest.approx(0.8)
    assert use.share() == pytest.approx(0.2), "nothing was seen since: it is asked now"


def test_a_driver_that_cannot_be_asked_ends_no_run_and_is_told_of_once(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    asked, clock = list[int](), Clock()

    def percent() -> int:
        asked.append(1)
        raise ModuleNotFoundError("nvidia-ml-py does not seem to be installed")

    use = OfGpu(percent, clock)
    for _ in range(5):
        clock.now += 1.0
        use.look()
    assert (use.share(), len(asked)) == (None, 2)  # once in passing, once when the share was wanted
    reported = "the GPU's utilisation cannot be measured: nvidia-ml-py does not seem to be installed"
    assert [record.getMessage() for record in caplog.records] == [reported]


def test_a_processors_share_is_of_the_time_that_the_threads_could_use() -> None:
    used, clock = Clock(), Clock()
    use = OfProcessor(lambda: 4, used, clock)
    used.now, clock.now = used.now + 6.0, clock.now + 2.0
    assert use.share() == pytest.approx(0.75)
    used.now, clock.now = used.now + 9.0, clock.now + 2.0
    assert use.share() == 1.0
    assert use.share() is None  # no time has passed


def test_a_busy_process_is_told_from_one_that_sleeps() -> None:
    use = OfProcessor(lambda: 1)
    time.sleep(0.3)
    assert (asleep := use.share()) is not None and asleep < 0.4
    end = time.process_time() + 0.3
    while time.process_time() < end:
        pass
    busy = use.share()
    assert busy is not None and busy > asleep


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs an NVIDIA GPU; none is here")
def test_the_driver_sees_a_gpu_at_work() -> None:
    device = torch.device("cuda", 0)
    use, matrix = utilization_of(device), torch.rand(4096, 4096, device=device)
    end = time.monotonic() + 3
    while time.monotonic() < end:
        for _ in range(10):
            matrix = torch.sin(matrix @ matrix)
        torch.cuda.synchronize(device)
        use.look()
    assert (share := use.share()) is not None and share > 0.5
