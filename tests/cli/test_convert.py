"""`thaw study convert` writes a study file, and names on standard error what it does not hold. It needs no server."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import optuna
import pytest

from search_spaces.documents import from_yaml

Thaw = Callable[..., Any]
SWEEP = "method: random\nprogram: train.py\nrun_cap: 9\nparameters: {learning_rate: {min: 0.001, max: 0.1}, units: {values: [8, 16]}}\n"


@pytest.fixture
def sweep(tmp_path: Path) -> Path:
    (tmp_path / "sweep.yaml").write_text(SWEEP)
    return tmp_path / "sweep.yaml"


def test_a_sweep_is_converted_to_a_file(thaw: Thaw, sweep: Path, tmp_path: Path) -> None:
    said = thaw("study", "convert", sweep, "-o", tmp_path / "study.yaml", "--task", "text_classification")
    assert (said.code, said.out) == (0, "")
    document = from_yaml((tmp_path / "study.yaml").read_text())
    assert (document["name"], document["task"], document["budget"]) == ("sweep", "text_classification", {"trials": 9})
    lines = said.err.splitlines()
    assert [line.partition(": ")[2].partition(":")[0] for line in lines if line.startswith("without equivalent: ")] == [
        "program",
        "parameters.units",
    ]
    assert "changed: parameters.learning_rate: it is called lr here" in lines
    assert lines[-1] == "to complete: data.path, model.name, objective.metric, objective.direction"


def test_a_sweep_is_converted_to_standard_output(thaw: Thaw, sweep: Path) -> None:
    said = thaw("study", "convert", sweep)
    assert said.code == 0
    assert from_yaml(said.out)["search_space"] == {"lr": {"type": "float", "low": 0.001, "high": 0.1}}


def test_the_source_is_not_overwritten(thaw: Thaw, sweep: Path) -> None:
    said = thaw("study", "convert", sweep, "-o", sweep)
    assert (said.code, sweep.read_text()) == (1, SWEEP)
    assert "choose another one" in said.err


def test_an_optuna_database_by_its_url(thaw: Thaw, tmp_path: Path) -> None:
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    url = f"sqlite:///{tmp_path / 'theirs.db'}"
    for name in ("first", "second"):
        study = optuna.create_study(storage=url, study_name=name, direction="maximize")
        study.optimize(lambda trial: trial.suggest_float("lr", 1e-5, 0.1, log=True), n_trials=2)
    said = thaw("study", "convert", url)
    assert said.code == 2
    assert "choose one with --study: 'first', 'second'" in said.err
    said = thaw("study", "convert", url, "--study", "second")
    assert (said.code, from_yaml(said.out)["name"]) == (0, "second")
    assert from_yaml(said.out)["search_space"] == {"lr": {"type": "float", "low": 1e-5, "high": 0.1, "log": True}}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("a" * 10_000_000, "at most 262144 bytes are accepted"),
        ("a: &a [1, 1]\nb: &b [*a, *a]\nc: [*b, *b]", "aliases (*name) are not accepted"),
        ("parameters: [1", "this is not valid YAML"),
        ("SQLite format 3\0" + "x" * 100, "this is not an SQLite database of Optuna"),
        ("\0\1\2", "this is not valid YAML"),
    ],
)
def test_a_hostile_file_is_refused(thaw: Thaw, tmp_path: Path, content: str, message: str) -> None:
    (tmp_path / "hostile.yaml").write_text(content)
    said = thaw("study", "convert", tmp_path / "hostile.yaml", "-o", tmp_path / "study.yaml")
    assert (said.code, said.out) == (2, "")
    assert message in said.err
    assert "Traceback" not in said.err and not (tmp_path / "study.yaml").exists()


def test_options_that_do_not_fit_are_refused(thaw: Thaw, sweep: Path) -> None:
    assert "no such task is installed" in thaw("study", "convert", sweep, "--task", "knitting").err
    assert "--study applies only to Optuna databases" in thaw("study", "convert", sweep, "--study", "mine").err
    assert "Only SQLite databases of Optuna can be read" in thaw("study", "convert", "postgresql://there/x").err
    assert "cannot be read" in thaw("study", "convert", sweep.with_name("nothing.yaml")).err
