"""Checkpoint files on this machine: their folders, and the removal of files that are no longer needed.

The files of an attempt are in `<home>/checkpoints/<study>/<number>/e<attempt>/`. The file `database` in a study's folder contains the
identity of its database, because several databases may share a home. Files that the trial's row lists are kept, all others are removed.
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
"""Length of a database's identity. Version 0.1 wrote 16 digits of the URL's SHA-256 instead, which two databases may share."""


class CheckpointFolder:
    """The checkpoints of one database's studies on this machine."""

    def __init__(self, root: Path, database: str) -> None:
        """`database` is the identity of the database."""
        self._root = root
        self._owner = database

    def folder(self, lease: Lease) -> Path | None:
        """The folder for an attempt's files. Creates the study's folder with its `database` file. None if the disk refuses."""
        study = self._root / lease.study
        try:
            study.mkdir(parents=True, exist_ok=True)
            (study / OWNER).write_text(self._owner)
        except OSError as error:
            log.warning("trial %d runs without checkpoints: %s", lease.number, error)
            return None
        return self._trial(lease.study, lease.number) / _of_attempt(lease.attempt)

    def clear(self, lease: Lease, kept: Iterable[Checkpoint], superseded: Collection[str] = ()) -> None:
        """Remove the files of earlier attempts, and of this running attempt the `superseded` paths, except the `kept` checkpoints."""
        names = {checkpoint.path for checkpoint in kept}
        folder = self._trial(lease.study, lease.number)
        for path in map(Path, set(superseded) - names):
            if path.is_relative_to(folder):
                _remove(path)
        _keep_only(folder, names, range(lease.attempt))

    def tidy(self, store: Store, study: str, number: int) -> None:
        """Remove the trial's files that its row does not list, except those of a running attempt. Raises StoreUnavailable."""
        with suppress(TrialNotFound):  # the study was deleted; `sweep` removes its folder
            self._tidy(store.read(queries.find_trial, study, number))

    def sweep(self, store: Store) -> None:
        """Remove the folders of deleted studies, and in other folders the files that no trial lists. Raises StoreUnavailable.

        A folder whose `database` file is damaged or was written by version 0.1 belongs to this database if the study exists in it;
        otherwise it is not changed.
        """
        for owner_file in self._root.glob(f"*/{OWNER}"):
            owner = owner_file.read_text(errors="replace")
            if owner == self._owner or len(owner) != IDENTITY_DIGITS:
                self._sweep_study(store, owner_file.parent, sure=owner == self._owner)

    def _sweep_study(self, store: Store, folder: Path, *, sure: bool) -> None:
        try:
            study = store.read(queries.find_study, folder.name)
            if study.id != folder.name:
                raise StudyNotFound(folder.name)  # another study has that name
        except StudyNotFound:
            # Without a certain owner, the study may be one of another database that shares this home.
            if not sure:
                return
            log.info("removing the checkpoints of study %s, which was deleted", folder.name)
            shutil.rmtree(folder, ignore_errors=True)
            return
        except StudyUnreadable:
            return  # a newer version may be able to read the study and need the files
        if not sure:
            (folder / OWNER).write_text(self._owner)
        for number in _numbers(folder):
            self.tidy(store, study.id, number)
        if study.state.terminal and [path.name for path in folder.iterdir()] == [OWNER]:
            shutil.rmtree(folder, ignore_errors=True)

    def _tidy(self, trial: Trial) -> None:
        # Only attempts up to the one in the row: a later attempt, which starts after the row was read, has a folder of its own.
        ended = range(trial.attempt + (trial.state is not TrialState.RUNNING))
        _keep_only(self._trial(trial.study, trial.number), {checkpoint.path for checkpoint in trial.checkpoints}, ended)

    def _trial(self, study: str, number: int) -> Path:
        return self._root / study / str(number)


def _of_attempt(attempt: int) -> str:
    return f"e{attempt}"


def _numbers(folder: Path) -> Iterator[int]:
    return (int(path.name) for path in folder.iterdir() if path.name.isdecimal())


def _keep_only(folder: Path, names: Collection[str], attempts: Iterable[int]) -> None:
    """Remove all other files of the attempts, including partially written ones, and then the empty folders."""
    for subfolder in (folder / _of_attempt(attempt) for attempt in attempts):
        for path in _files(subfolder):
            if str(path) not in names:
                _remove(path)
        with suppress(OSError):  # missing or not empty
            subfolder.rmdir()
    with suppress(OSError):
        folder.rmdir()


def _files(folder: Path) -> list[Path]:
    """The folder's files; empty if it does not exist, because another thread or worker may have removed it."""
    try:
        return list(folder.iterdir())
    except OSError:
        return []


def _remove(path: Path) -> None:
    try:
        path.unlink(missing_ok=True)
    except OSError as error:
        log.warning("%s cannot be removed: %s", path, error)
