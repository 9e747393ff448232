"""A served server with a worker, and the data of the demo."""

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.serving import served

THAW = Path(sys.executable).parent / "thaw"


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of a server with a worker."""
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("THAW_DATABASE_URL", raising=False)
        with served(THAW, tmp_path_factory.mktemp("served") / "home", workers=1) as address:
            yield address
