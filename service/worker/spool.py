"""Results on the worker's own disk: a trial's last word lies here until the store has taken it."""

import json
import logging
import os
from collections.abc import Iterator
from pathlib import Path

from pydantic import TypeAdapter, ValidationError

from service.domain.records import Lease
from service.operations import Write

log = logging.getLogger(__name__)
WRITES: TypeAdapter[Write] = TypeAdapter(Write)


class Spool:
    """A folder with one file for each last word, named by trial and attempt."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def keep(self, write: Write) -> None:
        """Put the write on the disk, whole and flushed. An attempt has one last word: what lies there already is it."""
        if (path := self._path(write.lease)).exists():
            return
        self._folder.mkdir(parents=True, exist_ok=True)
        partial = path.with_suffix(".tmp")
        with partial.open("w", encoding="utf-8") as file:
            json.dump(WRITES.dump_python(write, mode="python"), file)  # not pydantic's JSON: that turns NaN into null
            file.flush()
            os.fsync(file.fileno())
        partial.replace(path)

    def forget(self, lease: Lease) -> None:
        """The store has it, or will never take it."""
        self._path(lease).unlink(missing_ok=True)

    def kept(self) -> Iterator[Write]:
        """What earlier workers could not deliver. A file that cannot be read is set aside, not lost."""
        for path in sorted(self._folder.glob("*.json")):
            try:
                yield WRITES.validate_json(path.read_bytes())
            except FileNotFoundError:
                continue  # another worker delivered it just now
            except ValidationError as error:
                log.error("the spooled result %s cannot be read: %s", path.name, error)
                path.rename(path.with_suffix(".unreadable"))

    def _path(self, lease: Lease) -> Path:
        return self._folder / f"{lease.study}-{lease.number}-e{lease.attempt}.json"
