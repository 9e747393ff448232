"""The packages that the benchmark needs, by pyproject.toml. The source tree need not be installed."""

import tomllib
from collections.abc import Iterable, Sequence
from importlib import metadata
from pathlib import Path
from typing import Literal

from packaging.requirements import Requirement

ROOT = Path(__file__).resolve().parents[2]
Needs = Literal["trainer", "tests", "service"]


def requirements(needs: Needs) -> list[str]:
    """What the trainer, its tests, or the whole service require."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    service, trainer = project["dependencies"], project["optional-dependencies"]["trainer"]
    trainer = [*trainer, *(one for one in service if one.startswith("pydantic"))]
    match needs:
        case "trainer":
            return trainer
        case "tests":
            return [*trainer, "pytest"]
        case "service":
            return sorted({*service, *trainer})


def absent(wanted: Iterable[str]) -> list[str]:
    """The requirements whose package is not installed."""
    return [text for text in wanted if _version(Requirement(text)) is None]


def outdated(wanted: Iterable[str]) -> list[str]:
    """The requirements whose package is installed in a version that they do not allow. It may do nevertheless."""
    parsed = [(Requirement(text), _version(Requirement(text))) for text in wanted]
    return [f"{one}, installed {found}" for one, found in parsed if found and not one.specifier.contains(found, prereleases=True)]


def _version(wanted: Requirement) -> str | None:
    try:
        return metadata.version(wanted.name)
    except metadata.PackageNotFoundError:
        return None


def advice(lacking: Sequence[str]) -> str:
    """How to install the packages on a machine that reaches no package index."""
    names = " ".join(f"'{one}'" for one in lacking)
    return (
        f"Missing packages: {', '.join(lacking)}\n"
        "On a machine with a package index, in this folder, download their wheels:\n"
        "    python -m pip download --only-binary=:all: --python-version 3.12 --platform manylinux_2_28_x86_64 \\\n"
        f"        --platform manylinux2014_x86_64 -c constraints.txt -d wheels {names}\n"
        f"Here, install them:\n    python -m pip install --no-index --find-links wheels {names}"
    )
