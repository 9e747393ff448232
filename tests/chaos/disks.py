"""A disk that can be filled and freed while our processes work on it: told by a file, or a real one in memory."""

import errno
import os
import subprocess
from pathlib import Path

from sqlalchemy import text

from service.store import Store
from tests.chaos.faults import toy_full_disk
from tests.chaos.launch import FAULTS
from tests.chaos.toy import TOY_FAULTS

FLOOR_BYTES = 500_000
BLOCK_BYTES = 4_096
TABLES = ("event", "metric", "log")
REFUSAL = (
    "CREATE TABLE full_disk ()",
    """
    CREATE FUNCTION grow() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
        IF EXISTS (SELECT FROM full_disk) THEN RAISE EXCEPTION 'could not extend file' USING ERRCODE = '53100'; END IF;
        RETURN NULL;
    END $$
    """,
    *(f"CREATE TRIGGER grow AFTER INSERT ON {table} FOR EACH STATEMENT EXECUTE FUNCTION grow()" for table in TABLES),
)


class ToldDisk:
    """Whose state our processes read from a file. PostgreSQL refuses inserts as it does on a full disk, by triggers."""

    def __init__(self, folder: Path, store: Store) -> None:
        self._flag, self._store = folder / "disk", store
        self._tell_postgresql(*REFUSAL)

    @property
    def variables(self) -> dict[str, str]:
        """Of our processes."""
        return {
            "THAW_DISK_FLOOR_BYTES": str(FLOOR_BYTES), toy_full_disk.FLAG: str(self._flag),
            FAULTS: "tests.chaos.faults.full_disk", TOY_FAULTS: "tests.chaos.faults.toy_full_disk",
        }  # fmt: skip

    def leave_little(self) -> None:
        """Less than the floor."""
        self._say("low")

    def fill(self) -> None:
        """To the last byte."""
        self._say("full")
        self._tell_postgresql("INSERT INTO full_disk DEFAULT VALUES")

    def free(self) -> None:
        """There is room again."""
        self._tell_postgresql("DELETE FROM full_disk")
        self._flag.unlink()

    def _say(self, state: str) -> None:
        partial = self._flag.with_suffix(".new")
        partial.write_text(state)
        partial.replace(self._flag)

    def _tell_postgresql(self, *statements: str) -> None:
        if not self._store.embedded:
            with self._store.writing() as tx:
                for statement in statements:
                    tx.execute(text(statement))


class RealDisk:
    """A file system in memory that this test alone has, filled with a file of its own."""

    def __init__(self, mounted: Path) -> None:
        self._mounted, self._ballast = mounted, mounted / "ballast"

    @property
    def variables(self) -> dict[str, str]:
        """Of our processes."""
        home = {"THAW_HOME": str(self._mounted / "home"), toy_full_disk.FLAG: str(self._mounted / "no-such-file")}
        return {"THAW_DISK_FLOOR_BYTES": str(FLOOR_BYTES), FAULTS: "tests.chaos.faults.full_disk", **home}

    def leave_little(self) -> None:
        """Less than the floor."""
        status = os.statvfs(self._mounted)
        self._grow(status.f_bavail * status.f_frsize - FLOOR_BYTES // 2)

    def fill(self) -> None:
        """To the last block."""
        try:
            while True:
                self._grow(BLOCK_BYTES)
        except OSError as error:
            assert error.errno == errno.ENOSPC

    def free(self) -> None:
        """There is room again."""
        self._ballast.unlink()

    def _grow(self, more: int) -> None:
        with self._ballast.open("ab") as file:
            file.write(bytes(more))
            file.flush()


def mount(folder: Path, megabytes: int) -> str | None:
    """Mount a file system in memory there; why not, where this is not allowed."""
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", f"size={megabytes}m", "tmpfs", str(folder)]
    try:
        subprocess.run(command, check=True, capture_output=True, text=True)
    except FileNotFoundError:
        return "mount is not installed"
    except subprocess.CalledProcessError as error:
        return str(error.stderr).strip()
    return None


def unmount(folder: Path) -> None:
    """Undo `mount`."""
    subprocess.run(["umount", "--lazy", str(folder)], check=True)
