"""The workflow parses and runs what is there; the licence is the one that the metadata names."""

import json
import os
import re
import shutil
import subprocess
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.conftest import BROWSERS, SKIP_NOTHING, WITHOUT_DATA

ROOT = Path(__file__).resolve().parents[2]
WORKFLOW: dict[Any, Any] = yaml.safe_load((ROOT / ".github/workflows/ci.yml").read_text())
RUN = (ROOT / ".ci/run").read_text()
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


def test_the_workflow_runs_the_script_on_each_version_from_the_lowest() -> None:
    [job] = WORKFLOW["jobs"].values()
    versions = job["strategy"]["matrix"]["python"]
    assert versions == ["3.11", "3.12", "3.13"]
    assert PROJECT["requires-python"] == f">={versions[0]}"
    assert [step["run"] for step in job["steps"] if "run" in step] == ["bash .ci/run"]
    assert [step["uses"].split("@")[0] for step in job["steps"] if "uses" in step] == ["actions/checkout", "actions/setup-python"]
    assert job["steps"][1]["with"] == {"python-version": "${{ matrix.python }}"}


def test_the_workflow_may_only_read() -> None:
    assert WORKFLOW["permissions"] == {"contents": "read"}
    assert not [job for job in WORKFLOW["jobs"].values() if "permissions" in job]


def test_the_variables_of_workflow_and_script_are_the_ones_that_the_tests_read() -> None:
    [job] = WORKFLOW["jobs"].values()
    assert {name for step in job["steps"] for name in step.get("env", {})} == {WITHOUT_DATA}
    assert re.findall(r"^export (THAW_\w+)=1", RUN, re.MULTILINE) == [SKIP_NOTHING]


def test_the_script_looks_for_the_browsers_of_the_tests_and_makes_a_target_that_exists() -> None:
    assert f"has_one_of {' '.join(BROWSERS)} " in RUN
    [target] = re.findall(r"^make (\w+)$", RUN, re.MULTILINE)
    assert re.search(rf"^{target}:", (ROOT / "Makefile").read_text(), re.MULTILINE)


def test_the_licence_is_the_one_that_the_metadata_names() -> None:
    assert (PROJECT["license"], PROJECT["license-files"]) == ("Apache-2.0", ["LICENSE"])
    text = (ROOT / "LICENSE").read_text()
    assert text.split()[:6] == ["Apache", "License", "Version", "2.0,", "January", "2004"]
    assert "END OF TERMS AND CONDITIONS" in text


def test_the_links_of_contributing_and_security_lead_to_files() -> None:
    for name in ("CONTRIBUTING.md", "SECURITY.md"):
        links = re.findall(r"\]\(([^)]+)\)", (ROOT / name).read_text())
        assert links and not [link for link in links if not (ROOT / link).exists()]


@pytest.mark.parametrize(("variables", "code"), [({}, 0), ({SKIP_NOTHING: "1"}, 1)], ids=["by hand", "in CI"])
def test_a_missing_node_is_stated_and_fails_where_nothing_may_be_skipped(tmp_path: Path, variables: dict[str, str], code: int) -> None:
    for name in ("bash", "dirname"):
        os.symlink(str(shutil.which(name)), tmp_path / name)
    done = subprocess.run(
        ["bash", str(ROOT / ".ci/js/check")], env={"PATH": str(tmp_path), **variables}, capture_output=True, text=True, timeout=60
    )
    assert (done.returncode, done.stdout, done.stderr) == (code, "Node is not here; JavaScript is not checked\n", "")


def test_the_packages_that_check_javascript_are_pinned() -> None:
    wanted = json.loads((ROOT / ".ci/js/package.json").read_text())["devDependencies"]
    locked = json.loads((ROOT / ".ci/js/package-lock.json").read_text())["packages"]
    assert {"typescript", "eslint"} <= set(wanted)
    assert {name: locked[f"node_modules/{name}"]["version"] for name in wanted} == wanted
    assert all(one.keys() >= {"version", "integrity"} and "resolved" not in one for name, one in locked.items() if name)


def test_the_directories_of_the_fast_tests_exist() -> None:
    [listed] = re.findall(r"^UNIT := \$\(addprefix (\S+),(.*)\)$", (ROOT / "Makefile").read_text(), re.MULTILINE)
    folders = [ROOT / listed[0] / name for name in listed[1].split()]
    assert len(folders) >= 5 and all(any(folder.glob("test_*.py")) for folder in folders)


def test_all_tests_together_measure_coverage_and_have_a_floor() -> None:
    coverage = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["coverage"]
    assert (coverage["run"]["source"], coverage["report"]["fail_under"]) == (["thawline", "service", "trainer"], 90)
    [whole] = re.findall(r"^tests: .*\n\t(.*)$", (ROOT / "Makefile").read_text(), re.MULTILINE)
    assert "--cov" in whole.split() and not [word for word in whole.split() if "fail-under" in word]
