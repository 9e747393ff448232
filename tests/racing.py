"""Many processes that do the same thing at the same time."""

from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from multiprocessing.synchronize import Barrier
from typing import Any

from tests.forking import forkserver

_start: Barrier | None = None


def race(target: Callable[..., Any], *args: Any, processes: int, seconds: float = 240) -> list[Any]:
    """What `target(*args)` gives in each of so many processes that start it together; one that raises or takes longer fails it."""
    context = forkserver()
    barrier = context.Barrier(processes)
    with ProcessPoolExecutor(processes, mp_context=context, initializer=_remember, initargs=(barrier,)) as pool:
        futures = [pool.submit(_wait_and_do, target, args) for _ in range(processes)]
        return [future.result(timeout=seconds) for future in futures]


def _remember(start: Barrier) -> None:
    global _start
    _start = start


def _wait_and_do(target: Callable[..., Any], args: tuple[Any, ...]) -> Any:
    assert _start is not None
    _start.wait(timeout=240)
    return target(*args)
