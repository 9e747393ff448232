"""The packages that the benchmark needs, by pyproject.toml. The source tree need not be installed."""

import tomllib
from functools import cache
from importlib import metadata
from pathlib import Path

from packaging.requirements import Requirement

ROOT = Path(__file__).resolve().parents[2]
TESTS = ("pytest>=8.4",)


@cache
def missing(extra: str) -> list[str]:
    """Requirements that are not installed: of the trainer, of its tests, or of the whole service (""), with all that they require."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    trainer = [*project["optional-dependencies"]["trainer"], *(one for one in project["dependencies"] if one.startswith("pydantic"))]
    wanted = {"trainer": trainer, "tests": [*trainer, *TESTS], "": [*project["dependencies"], *trainer]}[extra]
    found, seen = list[str](), set[str]()
    for text in wanted:
        _check(Requirement(text), found, seen)
    return sorted(found)


def _check(wanted: Requirement, found: list[str], seen: set[str]) -> None:
    if str(wanted) in seen:
        return
    seen.add(str(wanted))
    try:
        installed = metadata.distribution(wanted.name)
    except metadata.PackageNotFoundError:
        found.append(str(wanted))
        return
    if not wanted.specifier.contains(installed.version, prereleases=True):
        found.append(f"{wanted} (installed: {installed.version})")
        return
    for text in installed.requires or ():
        further = Requirement(text)
        extras = wanted.extras or {""}
        if further.marker is None or any(further.marker.evaluate({"extra": extra}) for extra in extras):
            _check(further, found, seen)


def advice(lacking: list[str]) -> str:
    """How to install the packages on a machine that reaches no package index."""
    names = " ".join(f"'{one.partition(' (')[0]}'" for one in lacking)
    return (
        f"Missing packages: {', '.join(lacking)}\n"
        "On a machine with a package index, download their wheels:\n"
        f"    python -m pip download --only-binary=:all: --python-version 3.12 --platform manylinux_2_28_x86_64 \\\n"
        f"        -c constraints.txt -d wheels {names}\n"
        f"Here, install them:\n    python -m pip install --no-index --find-links wheels {names}"
    )
