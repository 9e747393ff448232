"""The Python lines of docs/python.md, run as written by any interpreter."""

import os
import re
import subprocess
from pathlib import Path

PAGE = Path(__file__).resolve().parents[2] / "docs" / "python.md"


def blocks() -> list[str]:
    """The page's blocks of Python, in their order."""
    return re.findall(r"^```python\n(.*?)^```$", PAGE.read_text(), re.DOTALL | re.MULTILINE)


def run(python: Path, code: list[str], folder: Path, server: str) -> str:
    """What the blocks print, run as one script in the folder of the demo's data."""
    environment = {name: text for name, text in os.environ.items() if not name.startswith(("THAW_", "PYTHON"))} | {"THAW_SERVER": server}
    script = folder / "page.py"
    script.write_text("\n".join(code))
    done = subprocess.run([python, "-P", script], capture_output=True, text=True, env=environment, cwd=folder, timeout=900, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout
