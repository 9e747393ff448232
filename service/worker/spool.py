"""Results on the worker's own disk: a trial's last word lies here until the store has taken it."""

import json
import logging
import os
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from pydantic import TypeAdapter, ValidationError

from service.domain.records import Lease
from service.operations import Write

log = logging.getLogger(__name__)
WRITES: TypeAdapter[Write] = TypeAdapter(Write)


class Spool:
    """A folder with one file for each last word, named by trial and attempt. Trouble with the disk never raises."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._refused = set[Path]()  # what the disk did not take, told once each

    def keep(self, write: Write) -> bool:
        """Put the write on the disk, whole and flushed; False when the disk does not take it, and then it is in memory alone.

        An attempt has one last word: what lies there already is it.
        """
        path = self._path(write.lease)
        try:
            if not path.exists():
                self._put(path, write)
        except OSError as error:
            if path not in self._refused:
                log.error("the result of trial %d waits in memory, for it cannot be spooled: %s", write.lease.number, error)
                self._refused.add(path)
            return False
        return True

    def forget(self, lease: Lease) -> None:
        """The store has it, or will never take it."""
        path = self._path(lease)
        self._refused.discard(path)
        try:
            path.unlink(missing_ok=True)
        except OSError as error:
            log.warning("%s cannot be removed: %s", path, error)  # it is written again, and that changes nothing

    def kept(self) -> Iterator[Write]:
        """What earlier workers could not deliver. A file that cannot be read is set aside, not lost."""
        for path in sorted(self._folder.glob("*.json")):
            try:
                yield WRITES.validate_json(path.read_bytes())
            except FileNotFoundError:
                continue  # another worker delivered it just now
            except OSError as error:
                log.error("the spooled result %s cannot be read now: %s", path.name, error)
            except ValidationError as error:
                log.error("the spooled result %s cannot be read: %s", path.name, error)
                with suppress(OSError):
                    path.rename(path.with_suffix(".unreadable"))

    def _put(self, path: Path, write: Write) -> None:
        self._folder.mkdir(parents=True, exist_ok=True)
        partial = path.with_suffix(".tmp")
        try:
            with partial.open("w", encoding="utf-8") as file:
                json.dump(WRITES.dump_python(write, mode="python"), file)  # not pydantic's JSON: that turns NaN into null
                file.flush()
                os.fsync(file.fileno())
            partial.replace(path)
        except OSError:
            with suppress(OSError):
                partial.unlink(missing_ok=True)
            raise

    def _path(self, lease: Lease) -> Path:
        return self._folder / f"{lease.study}-{lease.number}-e{lease.attempt}.json"
