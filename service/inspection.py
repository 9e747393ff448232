"""Checks data and weights files without torch, before a study is accepted."""

import errno
import math
import os
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future
from functools import partial
from itertools import islice
from pathlib import Path

from search_spaces import Fault
from service.domain.errors import InvalidInput
from service.domain.parsing import examine
from service.domain.spec import StudySpec, TrainingStudy
from service.single_flight import SingleFlightCache
from trainer.configuration import DataConfig, Part, split_sizes
from trainer.data.examples import Look, UnfitData, shown
from trainer.files import UnfitFile, open_regular
from trainer.tasks.base import Counted
from trainer.tasks.registry import spec_of
from trainer.weight_files import MOST_WEIGHTS_BYTES, read_outline
from trainer.weight_files.pickles import UnfitTensors, UnreadableWeights


def is_outside(path: Path, roots: Sequence[Path]) -> bool:
    """Whether the path, with symbolic links resolved, lies in none of the roots. False if there are no roots."""
    if not roots:
        return False
    try:
        found = path.resolve()
        return not any(found.is_relative_to(root.resolve()) for root in roots)
    except (OSError, RuntimeError):  # a cycle of symbolic links
        return True


def outside(roots: Sequence[Path]) -> str:
    """The error message for such a path. It is the same for paths that exist and paths that do not."""
    listed = ", ".join(map(str, roots))
    return f"this lies outside the folders that THAW_DATA_ROOTS allows ({listed}); move it, or add its folder to THAW_DATA_ROOTS"


WEIGHTS_PLACE = ("model", "weights")
MISSING = (errno.ENOENT, errno.ENOTDIR, errno.ENAMETOOLONG)


def weights_faults(spec: TrainingStudy, roots: Sequence[Path] = ()) -> Iterator[Fault]:
    """Faults of the weights file: missing, not a regular file, unreadable, or made for another network."""
    if (text := spec.model.weights_file) is None:
        return
    path = Path(text)
    if is_outside(path, roots):
        yield Fault(WEIGHTS_PLACE, "outside_data_roots", outside(roots))
        return
    try:
        with open_regular(path, MOST_WEIGHTS_BYTES) as file:
            spec_of(spec.task).describe(spec.model.name).refuse_weights(read_outline(file, path.name), path.name)
    except UnfitFile as error:
        yield Fault(WEIGHTS_PLACE, "unreadable_weights", f"this cannot be used: {error.strerror}; give a regular file")
    except OSError as error:
        yield _unopened(error)
    except UnreadableWeights as error:
        yield Fault(WEIGHTS_PLACE, "unreadable_weights", f"this cannot be used: {error}")
    except UnfitTensors as error:
        message = f"the file's tensors do not fit {spec.model.name}: {error}; give weights of this model, or correct model.name"
        yield Fault(WEIGHTS_PLACE, "unfit_weights", message)


def _unopened(error: OSError) -> Fault:
    if error.errno in MISSING:
        return Fault(
            WEIGHTS_PLACE,
            "missing_weights",
            "the file that model.weights names does not exist on the server; correct model.weights, "
            "or write data.location: workers if only the workers can see it",
        )
    return Fault(WEIGHTS_PLACE, "unreadable_weights", f"this cannot be read ({error.strerror}); repair the disk or change the permissions")


PLACE = ("data", "path")
LISTED = 5
KEPT_SECONDS = 5.0  # a listing is reused for so long, unless the modification time of the path or of a folder in it changes
MOST_STRATA = 100_000  # in all cached listings together
MOST_CHANGES = 1_000  # folders whose modification times are compared
LOOK_SECONDS = 20.0  # limit for one listing: a request waits for it, and the path may be `/`
NAMES = "`thaw data inspect FILE` on the server's machine shows the names"
WORKERS = "or write data.location: workers if only the workers can see it"
ELSEWHERE = ("missing_data", "unreadable_data", "missing_files")  # faults that another machine may not have


def data_faults(spec: TrainingStudy, roots: Sequence[Path] = ()) -> Iterator[Fault]:
    """The faults of the data. With `roots`, all of it must lie in one of them.

    Without roots a study can name any path of this machine, so messages contain no names of folders and labels unless the files in it
    show that the folder is a data set.
    """
    try:
        permit = _permit(roots)
        for name, path in spec.data.path_fields.items():
            if is_outside(Path(path), roots):
                yield Fault(("data", name), "outside_data_roots", outside(roots))
                return
        count = partial(spec_of(spec.task).count, spec.data, Look(tick=_clock(), permit=permit))
        found = COUNTS.get_or_compute(_key_of(spec, roots), count)
    except UnfitData as error:
        message = str(error) if roots else _without_paths(error.unnamed, spec)
        if not roots and error.unnamed != str(error) and error.code not in ELSEWHERE:
            message += f"; {NAMES}"
        yield Fault(error.place, error.code, f"{message}, {WORKERS}" if error.code in ELSEWHERE else message)
        return
    if spec.confirm is not None and spec.data.test == 0 and "test" not in found.given:
        yield Fault(("data", "test"), "nothing_to_confirm_on", "the data has no test part; add one, or set data.test, for example to 0.2")
        return
    faults = list(count_faults(spec.task, spec.data, found))
    yield from faults or _batch_faults(spec, found)


COUNTS: SingleFlightCache[tuple[str, tuple[int, ...], int], Counted] = SingleFlightCache(
    MOST_STRATA, lambda counted: len(counted.counts) + 1
)
"""Counts by task, data config and roots, the modification times of the path and its folders, and a time slot of KEPT_SECONDS."""


def _key_of(spec: TrainingStudy, roots: Sequence[Path]) -> tuple[str, tuple[int, ...], int]:
    config = f"{spec.task} {spec.data.model_dump_json()} {[*map(str, roots)]}"
    # The time slot limits the age of a cached listing if changes do not affect any of the modification times.
    return config, tuple(change for path in spec.data.paths for change in _changes(Path(path))), int(time.monotonic() / KEPT_SECONDS)


def _changes(path: Path) -> Iterator[int]:
    """The modification times of the path and of the folders in it, in nanoseconds."""
    try:
        yield path.stat().st_mtime_ns
        if path.is_dir():
            with os.scandir(path) as entries:
                for entry in islice(entries, MOST_CHANGES):
                    yield entry.stat().st_mtime_ns if entry.is_dir() else 0
    except OSError:
        return


def _permit(roots: Sequence[Path]) -> Callable[[Path], None]:
    """Raises UnfitData for a path outside the roots: the folder itself, a link in it, or a file that a table names."""

    def permit(path: Path) -> None:
        if is_outside(path, roots):
            raise UnfitData("outside_data_roots", outside(roots))

    return permit


def _without_paths(text: str, spec: TrainingStudy) -> str:
    """The text without the paths of the study. The fault's pointer shows which path is meant."""
    for path in spec.data.paths:
        if len(path) > 1:
            text = text.replace(shown(path), "the path")
    return text


def _clock() -> Callable[[], None]:
    """A function that raises UnfitData once LOOK_SECONDS have passed."""
    deadline = time.monotonic() + LOOK_SECONDS

    def tick() -> None:
        if time.monotonic() > deadline:
            raise UnfitData("slow_data", f"listing this folder takes more than {LOOK_SECONDS:g} seconds; correct the path, {WORKERS}")

    return tick


def sizes(data: DataConfig, found: Counted, counts: Counter[Part | None]) -> tuple[int, int, int]:
    """The number of a stratum's files for training, and of those drawn from them for validation and test."""
    return split_sizes(counts["train"] if found.given else counts[None], data, found.given)


def count_faults(task: str, data: DataConfig, found: Counted) -> Iterator[Fault]:
    """Faults of strata that are too small for the split."""
    counts = found.counts
    short = sorted(name for name, own in counts.items() if sizes(data, found, own)[0] < 1)
    named = [name for name in short if counts[name].total()]
    if short:
        empty = len(short) - len(named)
        names = [*named[:LISTED], *(["more"] if len(named) > LISTED else []), *([f"{empty} folders without any"] if empty else [])]
        examples = f"{spec_of(task).example}s"
        few = f"too few {examples} for the split in: {', '.join(names)}; add {examples}, or drop the {found.stratum}"
        yield Fault(PLACE, f"{found.stratum}_too_small", few)


def _batch_faults(spec: TrainingStudy, found: Counted) -> Iterator[Fault]:
    examples = f"{spec_of(spec.task).example}s"
    training = sum(sizes(spec.data, found, own)[0] for own in found.counts.values())
    for place, size in spec.extremes("batch_size"):
        if size > training:
            largest = 2 ** int(math.log2(max(training, 1)))
            if place == ("fixed", "batch_size") and "batch_size" not in spec.fixed:
                why = f"batch_size is not given, and its default of {size} is larger than the {training} training {examples}"
                yield Fault(place, "batch_above_data", f"{why}; write `batch_size: {largest}` under fixed, or less")
            else:
                why = f"a batch is larger than the {training} training {examples}"
                yield Fault(place, "batch_above_data", f"{why}; lower it to {largest} or less")


__all__ = ["checked_study", "inspect_study"]

ANSWER_SECONDS = 30.0  # for a check of one path, which may lie on a dead mount; longer than the limit for listing a folder
MOST_CHECKS = threading.Semaphore(64)  # concurrent checks; a check of a dead mount blocks until the mount responds
DEAD = (
    "reading this path takes more than {seconds:g} seconds, perhaps because it lies on a mount that does not respond; "
    "correct the path, or write data.location: workers"
)


def checked_study(document: object, roots: Sequence[Path] = ()) -> StudySpec:
    """The spec of the new study that the document describes, with the precision that new studies have if it gives none.

    Raises InvalidInput with every fault of the document and of the files that it names. Files are checked if the sections that name them
    are sound, also when other sections have faults. They must lie in one of the `roots`, if there are any.
    """
    examined = examine(document)
    faults, spec = [*examined.faults], examined.spec
    if isinstance(spec, TrainingStudy) and spec.data.location == "server":
        if "data" not in examined.stand_ins and all(Path(path).is_absolute() for path in spec.data.paths):
            without = {"batch_above_data"} if "batch_size" in examined.stand_ins else set()
            faults += [examined.with_origin(fault) for fault in _data_faults(spec, roots) if fault.code not in without]
        if not {"data", "model"} & examined.stand_ins:
            faults += _weights_faults(spec, roots)
    section = document.get("model") if isinstance(document, dict) else None
    if isinstance(section, dict) and (outer := _folder_faults(section.get("name"), roots)):
        faults = [*outer, *(fault for fault in faults if fault.path[:1] != ("model",) and fault.code not in OF_MODEL)]
    if faults or spec is None:
        raise InvalidInput(faults)
    return spec.with_precision()


def inspect_study(spec: StudySpec, roots: Sequence[Path] = ()) -> None:
    """Check the files that the spec names, which must lie in one of the `roots` if there are any. Raises InvalidInput with every fault.

    With `data.location: workers`, and for a program, the server checks no files; the first worker does, before any trial.
    """
    if not isinstance(spec, TrainingStudy):
        return
    folder = _folder_faults(spec.model.name, roots)
    if spec.data.location == "server" and (faults := [*_data_faults(spec, roots), *folder, *_weights_faults(spec, roots)]):
        raise InvalidInput(faults)


OF_MODEL = ("too_many_stages", "text_too_long", "unfit_method")
"""Faults of other sections that state facts about the model."""


def _folder_faults(name: object, roots: Sequence[Path]) -> list[Fault]:
    """The fault of a model that is a folder outside the roots. Nothing else may be said about such a folder."""
    if not isinstance(name, str) or not Path(name).is_absolute() or not is_outside(Path(name), roots):
        return []
    return [Fault(("model", "name"), "outside_data_roots", outside(roots))]


def _data_faults(spec: TrainingStudy, roots: Sequence[Path]) -> list[Fault]:
    dead = Fault(("data", "path"), "slow_data", DEAD.format(seconds=ANSWER_SECONDS))
    return _within_time(lambda: data_faults(spec, roots), dead)


def _weights_faults(spec: TrainingStudy, roots: Sequence[Path]) -> list[Fault]:
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
