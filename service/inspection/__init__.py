"""Checks data and weights without torch, before a study is accepted."""

import threading
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Future
from pathlib import Path

from search_spaces import Fault
from service.domain.errors import InvalidInput
from service.domain.parsing import examine
from service.domain.spec import StudySpec
from service.inspection.files import data_faults, weights_faults

__all__ = ["checked_study", "inspect_study"]

ANSWER_SECONDS = 30.0  # for a check of one path, which may lie on a dead mount; longer than the limit for listing a folder
MOST_CHECKS = threading.Semaphore(64)  # concurrent checks; a check of a dead mount blocks until the mount responds
DEAD = (
    "reading this path takes more than {seconds:g} seconds, perhaps because it lies on a mount that does not respond; "
    "correct the path, or write data.location: workers"
)


def checked_study(document: object, roots: Sequence[Path] = ()) -> StudySpec:
    """The spec that the document describes. Raises InvalidInput with every fault of the document and of the files that it names.

    Files are checked if the sections that name them are sound, also when other sections have faults. They must lie in one of the `roots`,
    if there are any.
    """
    examined = examine(document)
    faults, spec = [*examined.faults], examined.spec
    if spec is not None and spec.data.location == "server":
        if "data" not in examined.stand_ins and Path(spec.data.path).is_absolute():
            without = {"batch_above_data"} if "batch_size" in examined.stand_ins else set()
            faults += [examined.with_origin(fault) for fault in _data_faults(spec, roots) if fault.code not in without]
        if not {"data", "model"} & examined.stand_ins:
            faults += _weights_faults(spec, roots)
    if faults or spec is None:
        raise InvalidInput(faults)
    return spec


def inspect_study(spec: StudySpec, roots: Sequence[Path] = ()) -> None:
    """Check the files that the spec names, which must lie in one of the `roots` if there are any. Raises InvalidInput with every fault.

    With `data.location: workers` the server checks no files; the first worker does, before any trial.
    """
    if spec.data.location == "server" and (faults := [*_data_faults(spec, roots), *_weights_faults(spec, roots)]):
        raise InvalidInput(faults)


def _data_faults(spec: StudySpec, roots: Sequence[Path]) -> list[Fault]:
    dead = Fault(("data", "path"), "slow_data", DEAD.format(seconds=ANSWER_SECONDS))
    return _within_time(lambda: data_faults(spec, roots), dead)


def _weights_faults(spec: StudySpec, roots: Sequence[Path]) -> list[Fault]:
    if spec.model.weights_file is None:
        return []
    dead = Fault(("model", "weights"), "unreadable_weights", DEAD.format(seconds=ANSWER_SECONDS))
    return _within_time(lambda: weights_faults(spec, roots), dead)


def _within_time(check: Callable[[], Iterable[Fault]], dead: Fault) -> list[Fault]:
    """The faults, or `dead` after ANSWER_SECONDS. Runs in its own thread, because a read from a dead mount cannot be interrupted."""
    if not MOST_CHECKS.acquire(blocking=False):
        return [dead]
    answer = Future[list[Fault]]()

    def work() -> None:
        try:
            answer.set_result(list(check()))
        except BaseException as error:
            answer.set_exception(error)
        finally:
            MOST_CHECKS.release()

    threading.Thread(target=work, name="inspection", daemon=True).start()
    try:
        return answer.result(ANSWER_SECONDS)
    except TimeoutError:  # or a TimeoutError of the check itself, which is an OSError
        return [dead]
