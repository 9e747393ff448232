"""The benchmark of the GPU paths: its small runs on a CPU, and how it treats parts that fail, hang or do not fit."""

import json
import math
import multiprocessing
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from bench.gpu.needs import ROOT, absent, advice, outdated
from bench.gpu.parts import Bench, NotHere, Part, perform
from bench.gpu.rows import WHOLE, Row, Rows, as_table, read

MEASURED = (
    "alike", "own dropout", "own betas", "four optimizers", "label smoothing", "all of these at once, float32",
    "all of these at once, bfloat16",
)  # fmt: skip
ROWS = {
    "works": {
        "start": set(),
        "environment": {"nvidia-smi -L", "versions", "devices of a worker", "copy", "matrix product, bfloat16"},
        "tests": {"tests/trainer/test_train.py::test_a_gpu_learns_what_a_cpu_learns"},
        "service": {"heads trained together", "the whole network", "workers", "a killed trainer"},
        "faults": {"out of memory", "a poisoned context"},
    },
    "speed": {
        "start": set(),
        "train": {f"small_cnn, 16 px, {precision}, batch {batch}" for precision in ("bfloat16", "float32") for batch in (16, 8)}
        | {"small_cnn, 16 px, epoch, batch 8"},
        "changes": {
            f"plain loop, small_cnn, batch 8: {change}" for change in ("none", "weights channels last", "cuDNN free", "one CUDA graph")
        }
        | {f"product, small_cnn, batch {batch}: steps by CUDA graphs" for batch in (16, 8)},
        "heads": {f"6 members, {kind}, batch 8" for kind in MEASURED} | {"launches, batch 8"},
        "planner": {"rates", "decision"},
        "packing": {f"small_cnn, 16 px, batch 8: {slots} slots" for slots in (1, 2)},
        "repeatability": {"small_cnn, bfloat16", "small_cnn, float32"},
    },
}  # fmt: skip
NEEDS_A_GPU = {"nvidia-smi -L", "nvidia-smi --query-gpu", "utilisation", "matrix product, tf32", "out of memory", "a poisoned context"}


@pytest.mark.slow
@pytest.mark.parametrize("run", ROWS)
def test_the_small_run_has_every_row(run: str, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "bench.gpu", run, "--tiny", "--seconds", "900", "--out", str(tmp_path)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=1000)
    rows = read(tmp_path / f"rows-{run}.jsonl")
    assert {row.what: row.values for row in rows if row.state not in ("ok", "not here")} == {}
    assert done.returncode == 0, done.stderr
    found = {part: {row.what for row in rows if row.part == part} for part in ROWS[run]}
    assert {part: wanted - found[part] for part, wanted in ROWS[run].items()} == {part: set() for part in ROWS[run]}
    assert [row.part for row in rows if row.what == WHOLE] == list(ROWS[run])
    absent_here = {row.what for row in rows if row.state == "not here"}
    assert all(what in NEEDS_A_GPU or what.endswith(("one CUDA graph", "steps by CUDA graphs", "compiled")) for what in absent_here)
    assert (tmp_path / f"table-{run}.md").read_text().strip() == as_table(rows) and as_table(rows) in done.stdout
    values = {row.what: row.values for row in rows if row.what != WHOLE}
    if run == "speed":
        assert all(row.values["images_per_second"] > 0 for row in rows if row.part in ("train", "packing") and row.what != WHOLE)
        assert values["6 members, own betas, batch 8"]["ms_a_step"] > 0
        assert values["launches, batch 8"]["alike"]["launches"] > 0
        assert values["small_cnn, float32"]["equal"]
        assert values["decision"]["epoch_seconds"] > 0
    else:
        assert values["heads trained together"]["trained_together"] > 1
        assert values["a killed trainer"]["attempts"] == 2


def sound(bench: Bench) -> None:
    bench.row("ran")


def broken(bench: Bench) -> None:
    raise ValueError("this part is broken")


def abrupt(bench: Bench) -> None:
    os._exit(9)


def endless(bench: Bench) -> None:
    child = subprocess.Popen(["sleep", "1000"])
    bench.row("waiting for", child=child.pid)
    child.wait()


def of_cases(bench: Bench) -> None:
    def fails() -> dict[str, object]:
        raise ValueError("this case is broken")

    def is_not_here() -> dict[str, object]:
        raise NotHere("it needs a GPU")

    bench.case("first", fails)
    bench.case("second", is_not_here)
    bench.case("third", lambda: {"value": 1.0})
    bench.case("fourth", lambda: {}, 1e6)


def performed(folder: Path, *parts: Part, seconds: float = 60.0, tiny: bool = False) -> list[Row]:
    bench = Bench(Rows(folder / "rows.jsonl", time.monotonic()), folder, folder, tiny, "cpu")
    perform(parts, bench, time.monotonic() + seconds, multiprocessing.get_context("spawn"))
    return [row for row in read(folder / "rows.jsonl") if row.part != "start"]


def test_a_part_that_fails_or_dies_does_not_end_the_others(tmp_path: Path) -> None:
    rows = performed(tmp_path, *(Part(work.__name__, work, 20, 0) for work in (broken, abrupt, sound)), seconds=200)
    assert [(row.part, row.what, row.state) for row in rows] == [
        ("broken", WHOLE, "failed"), ("abrupt", WHOLE, "failed"), ("sound", "ran", "ok"), ("sound", WHOLE, "ok"),
    ]  # fmt: skip
    assert "this part is broken" in rows[0].values["error"] and rows[1].values["exit_code"] == 9


def test_a_part_over_its_limit_is_stopped_and_named_with_what_it_started(tmp_path: Path) -> None:
    rows = performed(tmp_path, Part("endless", endless, 3, 0), Part("sound", sound, 150, 0), seconds=157)
    assert [(row.part, row.what, row.state) for row in rows] == [
        ("endless", "waiting for", "ok"), ("endless", WHOLE, "stopped"), ("sound", "ran", "ok"), ("sound", WHOLE, "ok"),
    ]  # fmt: skip
    assert rows[1].values["limit_seconds"] < 10
    state = Path(f"/proc/{rows[0].values['child']}/stat")
    assert not state.exists() or state.read_text().rpartition(")")[2].split()[0] == "Z"


def test_a_part_that_does_not_fit_is_left_out_and_named(tmp_path: Path) -> None:
    rows = performed(tmp_path, Part("long", sound, 500, 400), Part("sound", sound, 1, 0), seconds=100)
    assert [(row.part, row.what, row.state) for row in rows] == [
        ("long", WHOLE, "left out"), ("sound", "ran", "ok"), ("sound", WHOLE, "ok"),
    ]  # fmt: skip
    assert rows[0].values["needs_seconds"] == 400


def test_a_case_that_fails_does_not_end_its_part(tmp_path: Path) -> None:
    rows = performed(tmp_path, Part("cases", of_cases, 50, 0))
    assert [(row.what, row.state) for row in rows] == [
        ("first", "failed"), ("second", "not here"), ("third", "ok"), ("fourth", "left out"), (WHOLE, "ok"),
    ]  # fmt: skip
    assert rows[0].values["error"] == "ValueError: this case is broken" and rows[2].values["value"] == 1


def test_missing_packages_are_named_with_how_to_bring_them() -> None:
    assert absent(["pytest>=1", "thawline-no-such-package>=3"]) == ["thawline-no-such-package>=3"]
    (found,) = outdated(["pytest>=1", "packaging>=9999", "thawline-no-such-package>=3"])
    assert found.startswith("packaging>=9999, installed ")
    assert "pip download" in advice(["alembic>=1.16"]) and "'alembic>=1.16'" in advice(["alembic>=1.16"])


def test_every_row_is_one_line_of_json_and_another_line_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "rows.jsonl"
    Rows(file, time.monotonic()).add("part", "what", text="two\nlines | here", number=math.nan, nested={"of": [1.23456, None]})
    (line,) = file.read_text().splitlines()
    assert json.loads(line)["values"] == {"text": "two\nlines | here", "number": "nan", "nested": {"of": [1.235, None]}}
    assert "two lines / here" in as_table(read(file)).splitlines()[-1]
    file.write_text('{"at": 1.0, "part": "part", "what": "what", "state": "unknown", "values": {}}\n')
    with pytest.raises(ValueError, match="other types"):
        read(file)
