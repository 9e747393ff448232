"""Results on the worker's disk: the end of a trial is kept here until the database has accepted it."""

import json
import logging
import os
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import BinaryIO

from pydantic import TypeAdapter, ValidationError

from service.domain.records import Lease
from service.operations import Write
from trainer import files

log = logging.getLogger(__name__)
WRITES: TypeAdapter[Write] = TypeAdapter(Write)
SET_ASIDE = "set-aside"


class Spool:
    """A folder with one file for each end of a trial, named by trial and attempt. Never raises OSError.

    `<root>/<database>/` belongs to the database of that identity, since databases may share a home. `set-aside/` in it holds the
    results that the database did not accept. Files directly in `root` were written by version 0.1, which did not record the database:
    they are delivered if their study is in this database, and otherwise neither moved nor removed.
    """

    def __init__(self, root: Path, database: str) -> None:
        self._root = root
        self._folder = root / database
        self._aside = self._folder / SET_ASIDE
        self._refused = set[Path]()  # files that could not be written, each logged once
        self._complained = set[Path]()  # files that cannot be used, each logged once

    def keep(self, write: Write) -> bool:
        """Write it to the disk atomically, with fsync. False if that fails: the write is then in memory only.

        An attempt has one end, so an existing file already holds it.
        """
        path = self._folder / _name(write.lease)
        if os.path.exists(path) and path not in self._refused:
            return True
        try:
            files.write(path, partial(_dump, write))
        except OSError as error:
            if path not in self._refused:
                log.error("the result of trial %d is kept in memory only, because it cannot be spooled: %s", write.lease.number, error)
                self._refused.add(path)
            return False
        self._refused.discard(path)
        return True

    def forget(self, lease: Lease) -> None:
        """Remove the attempt's files: this database has accepted its end, or a later attempt owns the trial."""
        for path in self._places(lease):
            self._refused.discard(path)
            try:
                path.unlink(missing_ok=True)
            except NotADirectoryError:
                continue
            except OSError as error:
                log.warning("%s cannot be removed: %s", path, error)  # it will be delivered again, which has no effect

    def set_aside(self, write: Write, why: str) -> None:
        """Keep a write that the database does not accept, and log its path. A file of version 0.1 is not moved."""
        own, unmarked, aside = self._places(write.lease)
        what = f"the result of trial {write.lease.number}, attempt {write.lease.attempt}, of study {write.lease.study}"
        if not os.path.exists(own) and os.path.exists(unmarked):
            self._complain(unmarked, f"{what} stays in {unmarked} for the database that it belongs to: {why}")
            return
        try:
            if os.path.exists(own):
                _move(own, aside)
            elif not os.path.exists(aside):
                files.write(aside, partial(_dump, write))
        except OSError as error:
            log.error("%s cannot be set aside (%s), and the database does not accept it: %s", what, error, why)
        else:
            self._complain(aside, f"{what} is set aside in {aside}: {why}")

    def count_set_aside(self) -> int:
        """The number of results that are set aside, including files that cannot be parsed."""
        return sum(1 for _ in self._aside.glob("*.json"))

    def kept(self, *, again: bool = False) -> Iterator[Write]:
        """The ends of trials that earlier workers could not deliver; with `again` also those that were set aside.

        A file that cannot be read is set aside, not lost.
        """
        folders = (self._folder, self._root, self._aside) if again else (self._folder, self._root)
        for path in [path for folder in folders for path in sorted(folder.glob("*.json"))]:
            try:
                yield WRITES.validate_json(path.read_bytes())
            except FileNotFoundError:
                continue  # another worker delivered it meanwhile
            except OSError as error:
                log.error("the spooled result %s cannot be read now: %s", path, error)
            except ValidationError as error:
                self._set_file_aside(path, error)

    def _set_file_aside(self, path: Path, error: ValidationError) -> None:
        """Move an unreadable file out of the way; one of version 0.1 may belong to another database and stays."""
        place = self._aside / path.name if path.parent == self._folder else path
        try:
            if place != path:
                _move(path, place)
        except OSError as failed:
            place = path
            log.warning("%s cannot be set aside: %s", path, failed)
        self._complain(place, f"the spooled result {place} cannot be read by this version and is left there: {error}")

    def _complain(self, path: Path, what: str) -> None:
        if path not in self._complained:
            self._complained.add(path)
            log.warning("%s", what)

    def _places(self, lease: Lease) -> tuple[Path, Path, Path]:
        """The paths that may hold the attempt's end: the usual one, that of version 0.1, and the one in `set-aside/`."""
        name = _name(lease)
        return self._folder / name, self._root / name, self._aside / name


def _name(lease: Lease) -> str:
    return f"{lease.study}-{lease.number}-e{lease.attempt}.json"


def _dump(write: Write, file: BinaryIO) -> None:
    file.write(json.dumps(WRITES.dump_python(write, mode="python")).encode())  # not pydantic's JSON, which turns NaN into null


def _move(path: Path, place: Path) -> None:
    place.parent.mkdir(exist_ok=True)
    path.replace(place)
    files.flush_folder(place.parent)
