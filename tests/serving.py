"""`thaw serve` as a process of its own, for tests that come from outside."""

import os
import re
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

ADDRESS = re.compile(r"http://127\.0\.0\.1:\d+")
END_SECONDS = 120


@contextmanager
def served(thaw: Path, home: Path, workers: int) -> Iterator[str]:
    """The address of a server on a free port with so many workers; it must end well when told to."""
    environment = {**os.environ, "THAW_HOME": str(home), "PYTHONUNBUFFERED": "1"}
    command: list[str | Path] = [thaw, "serve", "--port", "0", "--workers", str(workers)]
    with subprocess.Popen(command, env=environment, cwd=home.parent, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as server:
        assert server.stdout is not None
        seen: list[str] = []
        for line in server.stdout:
            seen.append(line)
            if address := ADDRESS.search(line):
                break
        else:
            raise AssertionError(f"the server ended without an address:\n{''.join(seen)}")
        try:
            yield address.group()
        finally:
            server.terminate()
        assert server.wait(END_SECONDS) == 0
