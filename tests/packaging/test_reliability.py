"""The table of invariants says no more than there is: every scenario and mutant that it names exists, and none is missing from it."""

import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs/reliability.md").read_text()
CHAOS = ROOT / "tests/chaos"


def test_every_mutant_is_in_the_table_and_the_table_names_no_other() -> None:
    mutants = {file.stem for file in (CHAOS / "mutants").glob("*.py")} - {"__init__"}
    cells = [line.rsplit("|", 2)[1] for line in PAGE.splitlines() if re.match(r"\| [IT]\d", line)]
    assert {name for cell in cells for name in re.findall(r"`(\w+)`", cell)} == mutants


def test_invariants_and_scenarios_have_numbers_of_their_own() -> None:
    invariants = [int(number) for number in re.findall(r"^\| I(\d+) \|", PAGE, re.MULTILINE)]
    assert invariants == sorted(set(invariants))
    files = [file for file in CHAOS.glob("test_f*_*.py") if file.name[6:8].isdigit()]
    headings = {(file.name[6:8], re.match(r'"""F(\d+)\b', file.read_text())) for file in files}
    assert not [number for number, heading in headings if heading is None or int(heading[1]) != int(number)]
    named = {int(number) for file in CHAOS.rglob("*.py") for number in re.findall(r"\bI(\d+)\b", file.read_text())}
    assert named <= set(invariants)


def test_every_scenario_that_the_page_names_exists() -> None:
    scenarios = {int(file.name[6:8]) for file in CHAOS.glob("test_f*_*.py") if file.name[6:8].isdigit()}
    assert {int(number) for number in re.findall(r"\bF(\d+)\b", PAGE)} == scenarios


def test_every_file_that_the_page_names_exists() -> None:
    names = re.findall(r"`(?:tests/)?([\w/]+\.py)`", PAGE)
    files = {str(file.relative_to(ROOT / "tests")) for file in (ROOT / "tests").rglob("*.py")}
    assert names
    assert not [name for name in names if not any(file == name or file.endswith(f"/{name}") for file in files)]
