"""A real server in a process of its own."""

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

PROGRAM = """\
import sys
from service.settings import Settings
from service.web.serve import serve

serve(Settings.from_environment(), port=0)
"""


@dataclass
class Served:
    """A server and where it is."""

    process: subprocess.Popen[str]
    address: str

    def end(self, seconds: float = 60) -> int:
        """The exit code after SIGTERM. Raises TimeoutExpired."""
        self.process.terminate()
        return self.process.wait(seconds)


@contextmanager
def running(home: Path, **variables: str) -> Iterator[Served]:
    """A server on the store in that folder, on a free port of the loopback address, which answers; it ends with the block."""
    environment = {**os.environ, "THAW_HOME": str(home), "THAW_HEARTBEAT_SECONDS": "1", **variables}
    with subprocess.Popen([sys.executable, "-c", PROGRAM], env=environment, stderr=subprocess.PIPE, text=True) as process:
        try:
            assert process.stderr is not None
            line = process.stderr.readline()
            found = re.search(r"http://\S+", line)
            assert found, line + process.stderr.read()
            yield Served(process, found.group())
        finally:
            process.kill()
