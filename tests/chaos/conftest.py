"""The lab of a scenario, on each database; with THAW_CHAOS_MUTANT the product is broken on purpose, here as in the processes."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.chaos.lab import Lab, planted
from tests.chaos.launch import plant

MakeLab = Callable[..., Lab]


@pytest.fixture(autouse=True, scope="session")
def _mutant() -> None:
    plant(planted())


@pytest.fixture
def make_lab(database_url: str, tmp_path: Path) -> Iterator[MakeLab]:
    """Makes labs on the test's database; they are closed at its end."""
    made: list[Lab] = []

    def make(**options: Any) -> Lab:
        made.append(Lab(tmp_path / f"lab-{len(made)}", database_url, **options))
        return made[-1]

    yield make
    for lab in made:
        lab.close()


@pytest.fixture
def lab(make_lab: MakeLab) -> Lab:
    """A lab with the usual clocks: a lease of 2 s, a heartbeat each 0.25 s."""
    return make_lab()
