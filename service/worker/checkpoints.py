"""Checkpoint files on this machine: where a trial's lie, and which of them nobody needs any more.

`<home>/checkpoints/<study>/<number>/e<attempt>/`, and in each study's folder the identity of the database that it belongs to:
databases may share a home. What a trial's row names, stays; the rest goes.
"""

import logging
import shutil
from collections.abc import Collection, Iterable, Iterator
from contextlib import suppress
from pathlib import Path

from service.domain.errors import StudyNotFound, StudyUnreadable, TrialNotFound
from service.domain.records import Lease, Trial
from service.domain.states import TrialState
from service.store import Store, queries
from trainer.protocol import Checkpoint

log = logging.getLogger(__name__)

OWNER = "database"
IDENTITY_DIGITS = 32
"""Of a database's identity. Version 0.1 marked folders by 16 digits of the URL's SHA-256, which two databases may have in common."""


class CheckpointFolder:
    """The folder of all checkpoints of one database's studies on this machine."""

    def __init__(self, root: Path, database: str) -> None:
        """`database` is its identity."""
        self._root = root
        self._owner = database

    def folder(self, lease: Lease) -> Path | None:
        """Where an attempt puts its files; the study's folder is made and marked as ours. None when the disk does not take it."""
        study = self._root / lease.study
        try:
            study.mkdir(parents=True, exist_ok=True)
            (study / OWNER).write_text(self._owner)
        except OSError as error:
            log.warning("trial %d runs without checkpoints: %s", lease.number, error)
            return None
        return self._trial(lease.study, lease.number) / _of_attempt(lease.attempt)

    def clear(self, lease: Lease, kept: Iterable[Checkpoint], told: Collection[str] = ()) -> None:
        """Remove the files of earlier attempts but the `kept` ones, and of this one, which is at work, those of the `told` paths."""
        names = {checkpoint.path for checkpoint in kept}
        folder = self._trial(lease.study, lease.number)
        for path in map(Path, set(told) - names):
            if path.is_relative_to(folder):
                _remove(path)
        _keep_only(folder, names, range(lease.attempt))

    def tidy(self, store: Store, study: str, number: int) -> None:
        """Remove every file of the trial that its row does not name, but for an attempt that is at work. Raises StoreUnavailable."""
        with suppress(TrialNotFound):  # the study was deleted: `sweep` sees to it
            self._tidy(store.read(queries.find_trial, study, number))

    def sweep(self, store: Store) -> None:
        """Remove what nobody needs: all of deleted studies, and of the others what no trial names. Raises StoreUnavailable.

        A folder with a mark of version 0.1, or a damaged one, is this database's if the study is; otherwise it is left alone.
        """
        for mark in self._root.glob(f"*/{OWNER}"):
            owner = mark.read_text(errors="replace")
            if owner == self._owner or len(owner) != IDENTITY_DIGITS:
                self._sweep_study(store, mark.parent, sure=owner == self._owner)

    def _sweep_study(self, store: Store, folder: Path, *, sure: bool) -> None:
        try:
            study = store.read(queries.find_study, folder.name)
            if study.id != folder.name:
                raise StudyNotFound(folder.name)  # another study has that name
        except StudyNotFound:
            if not sure:
                return
            log.info("removing the checkpoints of study %s, which was deleted", folder.name)
            shutil.rmtree(folder, ignore_errors=True)
            return
        except StudyUnreadable:
            return  # a version that can read it may want them
        if not sure:
            (folder / OWNER).write_text(self._owner)
        for number in _numbers(folder):
            self.tidy(store, study.id, number)
        if study.state.terminal and [path.name for path in folder.iterdir()] == [OWNER]:
            shutil.rmtree(folder, ignore_errors=True)

    def _tidy(self, trial: Trial) -> None:
        """An attempt that begins after the row was read has a folder of its own, which is not touched."""
        over = range(trial.attempt + (trial.state is not TrialState.RUNNING))
        _keep_only(self._trial(trial.study, trial.number), {checkpoint.path for checkpoint in trial.checkpoints}, over)

    def _trial(self, study: str, number: int) -> Path:
        return self._root / study / str(number)


def _of_attempt(attempt: int) -> str:
    return f"e{attempt}"


def _numbers(folder: Path) -> Iterator[int]:
    return (int(path.name) for path in folder.iterdir() if path.name.isdecimal())


def _keep_only(folder: Path, names: Collection[str], attempts: Iterable[int]) -> None:
    """Remove every other file of those attempts, half-written ones included, and the folders that are empty then."""
    for place in (folder / _of_attempt(attempt) for attempt in attempts):
        for path in _files(place):
            if str(path) not in names:
                _remove(path)
        with suppress(OSError):  # it is not there, or not empty
            place.rmdir()
    with suppress(OSError):
        folder.rmdir()


def _files(place: Path) -> list[Path]:
    """What lies there; nothing when another thread or worker has just removed the place itself."""
    try:
        return list(place.iterdir())
    except OSError:
        return []


def _remove(path: Path) -> None:
    try:
        path.unlink(missing_ok=True)
    except OSError as error:
        log.warning("%s cannot be removed: %s", path, error)
