"""A worker's files in THAW_HOME: checkpoints of trials, and a spool of outcomes that the store has not accepted yet."""

import json
import logging
import os
import shutil
from collections.abc import Collection, Iterable, Iterator
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import BinaryIO

from pydantic import TypeAdapter, ValidationError

from service.domain.errors import StudyNotFound, StudyUnreadable, TrialNotFound
from service.domain.records import Lease, Trial
from service.domain.states import TrialState
from service.operations import Write
from service.store import Store, queries
from trainer import files
from trainer.protocol import Checkpoint
from trainer.tasks.script.config import CHECKPOINTS

log = logging.getLogger(__name__)

OWNER = "database"
IDENTITY_DIGITS = 32
"""Length of a database's identity. Version 0.1 wrote 16 digits of the URL's SHA-256 instead, which two databases may share."""


class CheckpointFolder:
    """The checkpoints of one database's studies on this machine, and the removal of files that are no longer needed.

    The files of an attempt are in `<root>/<study>/<number>/e<attempt>/`. A script's own checkpoints are in a folder beside them, until its
    trial has ended. The file `database` in a study's folder contains the identity of
    its database, because several databases may share a home. Files that the trial's row lists are kept, all others are removed.
    """

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
        folder = self._trial(trial.study, trial.number)
        if trial.state.terminal and (folder / CHECKPOINTS).exists():
            shutil.rmtree(folder / CHECKPOINTS, ignore_errors=True)
        _keep_only(folder, {checkpoint.path for checkpoint in trial.checkpoints}, ended)

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
        if path.is_dir() and not path.is_symlink():  # of a script
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)
    except OSError as error:
        log.warning("%s cannot be removed: %s", path, error)


WRITES: TypeAdapter[Write] = TypeAdapter(Write)
SET_ASIDE = "set-aside"


class Spool:
    """A folder with a file per undelivered outcome, named by trial and attempt. Never raises OSError.

    `<root>/<database>/` belongs to the database with that identity, because several databases may share a home. Its subfolder
    `set-aside/` contains results that the database did not accept. Version 0.1 wrote its files to `root` and did not record the database:
    such a file is delivered if its study is in this database, and otherwise neither moved nor removed.
    """

    def __init__(self, root: Path, database: str) -> None:
        self._root = root
        self._folder = root / database
        self._aside = self._folder / SET_ASIDE
        self._refused = set[Path]()  # files that could not be written, each logged once
        self._logged = set[Path]()  # files that cannot be used, each logged once

    def keep(self, write: Write) -> bool:
        """Write the file atomically, with fsync. Returns False if that fails; the write is then in memory only.

        An attempt has only one outcome, so an existing file is not written again.
        """
        path = self._folder / _name(write.lease)
        if os.path.exists(path) and path not in self._refused:
            return True
        try:
            files.write(path, partial(_dump, write))
        except OSError as error:
            if path not in self._refused:
                log.error(
                    "the result of trial %d is kept in memory only, because writing it to the spool failed: %s", write.lease.number, error
                )
                self._refused.add(path)
            return False
        self._refused.discard(path)
        return True

    def forget(self, lease: Lease) -> None:
        """Remove the attempt's files, because the database has accepted its outcome or a later attempt holds the trial."""
        for path in self._paths(lease):
            self._refused.discard(path)
            try:
                path.unlink(missing_ok=True)
            except NotADirectoryError:
                continue
            except OSError as error:
                log.warning("%s cannot be removed: %s", path, error)  # delivering the outcome again has no effect

    def set_aside(self, write: Write, reason: str) -> None:
        """Move a write that the database did not accept to `set-aside/`, and log the path. A file of version 0.1 is not moved."""
        own, unmarked, aside = self._paths(write.lease)
        result = f"the result of trial {write.lease.number}, attempt {write.lease.attempt}, of study {write.lease.study}"
        if not os.path.exists(own) and os.path.exists(unmarked):
            self._log_once(unmarked, f"{result} stays in {unmarked}: {reason}")
            return
        try:
            if os.path.exists(own):
                _move(own, aside)
            elif not os.path.exists(aside):
                files.write(aside, partial(_dump, write))
        except OSError as error:
            log.error("the database did not accept %s (%s), and moving it aside failed: %s", result, reason, error)
        else:
            self._log_once(aside, f"{result} was moved to {aside}, because the database did not accept it: {reason}")

    def count_set_aside(self) -> int:
        """The number of files in `set-aside/`, including those that cannot be parsed."""
        return sum(1 for _ in self._aside.glob("*.json"))

    def kept(self, *, again: bool = False) -> Iterator[Write]:
        """The outcomes that earlier workers could not deliver; with `again`, also those in `set-aside/`.

        A file that cannot be parsed is moved to `set-aside/`.
        """
        folders = (self._folder, self._root, self._aside) if again else (self._folder, self._root)
        for path in [path for folder in folders for path in sorted(folder.glob("*.json"))]:
            try:
                yield WRITES.validate_json(path.read_bytes())
            except FileNotFoundError:
                continue  # another worker has delivered it
            except OSError as error:
                log.error("the spooled result %s cannot be read: %s", path, error)
            except ValidationError as error:
                self._set_file_aside(path, error)

    def _set_file_aside(self, path: Path, error: ValidationError) -> None:
        """Move a file that cannot be parsed to `set-aside/`. A file of version 0.1 stays, because it may belong to another database."""
        target = self._aside / path.name if path.parent == self._folder else path
        try:
            if target != path:
                _move(path, target)
        except OSError as failed:
            target = path
            log.warning("%s cannot be moved aside: %s", path, failed)
        self._log_once(target, f"this version cannot read the spooled result {target}, which is not removed: {error}")

    def _log_once(self, path: Path, message: str) -> None:
        if path not in self._logged:
            self._logged.add(path)
            log.warning("%s", message)

    def _paths(self, lease: Lease) -> tuple[Path, Path, Path]:
        """The paths where the attempt's outcome may be: the normal one, that of version 0.1, and that in `set-aside/`."""
        name = _name(lease)
        return self._folder / name, self._root / name, self._aside / name


def _name(lease: Lease) -> str:
    return f"{lease.study}-{lease.number}-e{lease.attempt}.json"


def _dump(write: Write, file: BinaryIO) -> None:
    # Not with pydantic's JSON, which writes NaN as null.
    file.write(json.dumps(WRITES.dump_python(write, mode="python")).encode())


def _move(path: Path, target: Path) -> None:
    target.parent.mkdir(exist_ok=True)
    path.replace(target)
    files.flush_folder(target.parent)
