"""A device's memory as a stand-in; `tests.trainer.conftest.card` gives it to the processor."""

from dataclasses import dataclass

from trainer import memory

MB = 10**6


@dataclass
class Card:
    """Memory in which only DeviceCaches and other processes hold something."""

    total: int = 100 * MB
    others: int = 0
    emptied: int = 0
    peaks: tuple[int, int] = (0, 0)

    def usage(self) -> memory.Usage:
        held = sum(cache.total_bytes for cache in memory._caches)
        return memory.Usage(self.total - self.others - held, self.total, held, held)

    def start_peak(self) -> None:
        self.peaks = (0, 0)

    def peak(self) -> tuple[int, int]:
        return self.peaks

    def empty_cache(self) -> None:
        self.emptied += 1
