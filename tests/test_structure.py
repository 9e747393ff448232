"""What CONTRIBUTING.md asks of the product's modules: a public class name exists once, and no module is longer than 500 lines.

The classes of the public package have the names that users expect (Client, Study), which modules inside may have too.
"""

import ast
from collections import defaultdict
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
INSIDE = sorted(file for package in ("service", "trainer", "search_spaces", "migrations") for file in (ROOT / package).rglob("*.py"))
MODULES = [*sorted((ROOT / "thawline").rglob("*.py")), *INSIDE]
LONGEST = 500  # lines


def test_a_public_class_name_exists_once() -> None:
    places = defaultdict[str, list[str]](list)
    for file in INSIDE:
        for node in ast.parse(file.read_text()).body:
            if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
                places[node.name].append(str(file.relative_to(ROOT)))
    assert {name: files for name, files in places.items() if len(files) > 1} == {}


@pytest.mark.parametrize("file", MODULES, ids=lambda file: str(file.relative_to(ROOT)))
def test_no_module_is_too_long(file: Path) -> None:
    assert len(file.read_text().splitlines()) <= LONGEST
