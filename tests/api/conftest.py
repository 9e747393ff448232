"""A served server with a worker, and the data of the demo."""

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.serving import served

THAW = Path(sys.executable).parent / "thaw"


@pytest.fixture(scope="session")
def demo_data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with digits and a pretrained network, as the demo has them."""
    folder = tmp_path_factory.mktemp("demo")
    command = [sys.executable, "-P", "-m", "trainer.tasks.image_classification.demo", str(folder)]
    subprocess.run(command, check=True, capture_output=True, timeout=600)
    return folder


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of a server with a worker."""
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("THAW_DATABASE_URL", raising=False)
        with served(THAW, tmp_path_factory.mktemp("served") / "home", workers=1) as address:
            yield address
