"""Commands for a study of a script: its notes, its export, and files that have changed since its trials."""

import hashlib
import json
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from service import operations
from service.domain.export import read_export
from service.domain.parsing import parse_study
from service.domain.spec import ProgramStudy
from service.store import open_store
from tests.operations.test_scripts import STUDY, claimed, finish
from trainer.tasks.script.config import ScriptInfo, info_of


@pytest.fixture
def code(tmp_path: Path) -> Path:
    folder = tmp_path / "code"
    folder.mkdir()
    (folder / "train.py").write_text("print('val/loss=0.5')\n")
    return folder


def finished(home: Path, code: Path) -> None:
    """A study of two trials that differ in one parameter and have equal curves."""
    with closing(open_store(f"sqlite:///{home / 'thawline.db'}")) as store:
        spec = parse_study({**STUDY, "workdir": str(code), "budget": {"trials": 2}})
        study = operations.create_study(store, spec)
        assert isinstance(spec, ProgramStudy)
        operations.pass_check(store, study.id, info_of(spec.check_config()))
        operations.enqueue_trials(store, study.id, [{"lr": 0.5, "unused": name} for name in ("a", "b")])
        for _ in range(2):
            finish(store, claimed(store), 0.5, curve="0" * 32)


def test_notes_export_and_changed_files(start_server: Callable[..., Any], thaw: Callable[..., Any], code: Path, tmp_path: Path) -> None:
    server = start_server("--workers", "0")
    finished(server.home, code)
    at = ("--server", server.address)
    effect = "Parameter unused has no effect: trials 0 and 1 differ only in it, and their curves of val/loss are equal bit for bit."
    assert f"note: {effect}" in " ".join(thaw(*at, "study", "show", "mine").out.split())
    assert json.loads(thaw(*at, "study", "show", "mine", "--json").out)["study"]["notes"] == [effect]
    file, digest = tmp_path / "best.yaml", hashlib.sha256((code / "train.py").read_bytes()).hexdigest()
    for form in ("yaml", "json"):
        exported = thaw(*at, "best", "mine", "--format", form, "-o", file)
        assert (exported.code, exported.err) == (0, "")
        assert read_export(file.read_text()).facts == ScriptInfo.of({"train.py": digest})
    same = thaw("train", file, "--out", tmp_path / "trained", "--allow-scripts", code)
    assert same.code == 0 and "(equal)" in same.out
    (code / "train.py").write_text("print('val/loss=0.25')\n")
    exported = thaw(*at, "best", "mine", "-o", file)
    assert exported.code == 0
    assert f"warning: the files train.py in {code} are not those of the study's trials, so that `thaw train` refuses" in one_line(
        exported.err
    )
    refused = thaw("train", file, "--out", tmp_path / "again", "--allow-scripts", code)
    assert refused.code == 1 and "files of the script have changed since the study's check: train.py" in one_line(refused.err)
    (code / "train.py").unlink()
    assert "the files train.py" in one_line(thaw(*at, "best", "mine", "-o", file).err)
    code.rmdir()  # as on another machine
    assert thaw(*at, "best", "mine", "-o", file).err == ""


def one_line(text: str) -> str:
    return " ".join(text.split())
