"""Metrics in the output of a script."""

import math
import re
import time
from contextlib import closing
from pathlib import Path

import pytest
import torch

from trainer.scripts.metrics import (
    EventFiles,
    FollowedFile,
    KeptReports,
    ScriptReport,
    StepCounter,
    UnreadableReport,
    json_in,
    matches_in,
    pairs_in,
    text_of,
)


@pytest.mark.parametrize(
    ("line", "step", "metrics"),
    [
        ("epoch=3 loss=0.5 val/acc=.9", 3, {"loss": 0.5, "val/acc": 0.9}),
        ("Epoch=3/10, accuracy=93.5%, loss=1e-3", 3, {"accuracy": 93.5, "loss": 0.001}),
        ("step=500 epoch=0.5 loss=2", 500, {"loss": 2.0}),
        ("step=500 epoch=2 loss=2", 2, {"loss": 2.0}),
        ("accuracy = 0.5", None, {"accuracy": 0.5}),
        ("{metricName: x, accuracy=-1.5E+2;loss=+3}", None, {"accuracy": -150.0, "loss": 3.0}),
        ("[train] a=inf b=-Infinity", None, {"a": math.inf, "b": -math.inf}),
        ("a=1e400", None, {"a": math.inf}),
    ],
)
def test_pairs(line: str, step: int | None, metrics: dict[str, float]) -> None:
    assert pairs_in(line) == ScriptReport(step, metrics)


@pytest.mark.parametrize("line", ["", "loss 0.5", "path=a/b", "lr=0.1x", "x=", "=1", "epoch=3", "a==1", "name=12abc", "a=1.2.3"])
def test_what_is_no_pair(line: str) -> None:
    assert pairs_in(line) is None


@pytest.mark.parametrize(
    "line", ["a=" * 50_000, "a" * 100_000, "a =" + " " * 100_000, "1" * 100_000 + "=1", "a=" + "1" * 100_000, "=1" * 50_000]
)
def test_long_lines_take_little_time(line: str) -> None:
    began_at = time.perf_counter()
    for _ in range(10):
        pairs_in(text_of(line.encode()))
    assert time.perf_counter() - began_at < 2


def test_regular_expressions() -> None:
    patterns = {"epoch": re.compile(r"Epoch (\d+)"), "loss": re.compile(r"loss: (\S+)"), "acc": re.compile(r"acc: ([\d.]+)?")}
    assert matches_in("Epoch 4: loss: 0.25 acc: ", patterns) == ScriptReport(4, {"loss": 0.25})
    assert matches_in("loss: high", patterns) is None
    assert matches_in("Epoch 4", patterns) is None


@pytest.mark.parametrize(
    ("line", "report"),
    [
        (b'{"step": 3, "accuracy": 0.9}', ScriptReport(3, {"accuracy": 0.9})),
        (b'{"epoch": 2, "loss": 1}', ScriptReport(2, {"loss": 1.0})),
        (b'{"step": null, "loss": 1}', ScriptReport(None, {"loss": 1.0})),
        (b'{"loss": Infinity}', ScriptReport(None, {"loss": math.inf})),
        (b"  ", None),
    ],
)
def test_json(line: bytes, report: ScriptReport | None) -> None:
    assert json_in(line, strict=True) == report


@pytest.mark.parametrize(
    ("line", "message"),
    [
        (b"[1]", "a report is a JSON object"),
        (b"{", "is not a line of JSON"),
        (b"[" * 60_000, "is not a line of JSON"),
        (b'{"a": ' + b"1" * 5_000 + b"}", "is not a line of JSON"),
        (b'{"a": true}', "the value of 'a' in a report is not a number"),
        (b'{"a": "1"}', "the value of 'a' in a report is not a number"),
        (b"1" * 70_000, "a report has more than 65,536 bytes"),
        (b"\xff", "is not a line of JSON"),
    ],
)
def test_json_that_is_refused(line: bytes, message: str) -> None:
    with pytest.raises(UnreadableReport, match=message):
        json_in(line, strict=True)


def test_a_file_for_other_purposes_may_have_other_entries() -> None:
    assert json_in(b'{"step": 1, "loss": 0.5, "time": "now", "config": {"a": 1}}', strict=False) == ScriptReport(1, {"loss": 0.5})


def test_a_file_is_followed(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    followed = FollowedFile(path)
    assert list(followed.reports()) == []
    path.write_text('{"step": 1, "a": 1}\n{"step": 2, ')
    assert list(followed.reports()) == [ScriptReport(1, {"a": 1.0})]
    with path.open("a") as file:
        file.write('"a": 2}\nno json\n{"step": 3, "a": 3}')
    assert list(followed.reports()) == [ScriptReport(2, {"a": 2.0})] and followed.unreadable == 1
    assert list(followed.reports(end=True)) == [ScriptReport(3, {"a": 3.0})]
    path.write_text('{"step": 9, "a": 9}\n')  # written anew, and shorter
    assert list(followed.reports()) == [ScriptReport(9, {"a": 9.0})]


@pytest.mark.parametrize("new_style", [False, True], ids=["values", "tensors"])
def test_event_files_are_followed(tmp_path: Path, new_style: bool) -> None:
    from torch.utils.tensorboard import SummaryWriter

    followed = EventFiles(tmp_path / "logs")
    assert followed.reports() == []  # the folder is not there yet
    with SummaryWriter(str(tmp_path / "logs" / "run"), flush_secs=1) as writer:
        writer.add_scalar("loss", 0.5, 1, new_style=new_style)
        writer.add_histogram("weights", torch.zeros(3), 1)
        writer.add_text("note", "x", 1)
        writer.flush()
        assert followed.reports() == [ScriptReport(1, {"loss": 0.5})]
        writer.add_scalar("loss", float("nan"), 2, new_style=new_style)
        writer.add_scalar("acc", 0.25, 2, new_style=new_style)
    (report,) = followed.reports(end=True)
    assert report.step == 2 and report.metrics["acc"] == 0.25 and math.isnan(report.metrics["loss"])
    assert followed.reports() == []


def test_an_event_file_that_is_damaged_or_half_written_does_no_harm(tmp_path: Path) -> None:
    from torch.utils.tensorboard import SummaryWriter

    with SummaryWriter(str(tmp_path)) as writer:
        for step in (1, 2, 3):
            writer.add_scalar("loss", step / 4, step)
    (whole,) = tmp_path.glob("*tfevents*")
    content = whole.read_bytes()
    whole.write_bytes(content[:-20])
    followed = EventFiles(tmp_path)
    assert [report.step for report in followed.reports()] == [1, 2]
    whole.write_bytes(content)
    assert [report.step for report in followed.reports()] == [3]
    (tmp_path / "events.out.tfevents.0").write_bytes(b"no events" * 10)
    assert followed.reports(end=True) == []


def test_reports_are_kept_for_the_next_attempt(tmp_path: Path) -> None:
    path = tmp_path / "kept.json"
    for resumed, first, expected in ((False, 1, {}), (True, 3, {1: 1, 2: 1, 3: 1}), (True, 4, {1: 1, 2: 1, 3: 3, 4: 3, 5: 3})):
        with closing(KeptReports(path, resumed=resumed)) as kept:
            assert kept.earlier == {step: {"score": float(attempt), "loss": 0.5} for step, attempt in expected.items()}
            for step in range(first, first + 3):
                kept.add(step, {"score": first})
                kept.add(step, {"loss": 0.5})
        with path.open("ab") as file:
            file.write(b'\n{"step": 9, "met')  # a line that was cut off
    with closing(KeptReports(path, resumed=False)) as kept:
        assert kept.earlier == {} and path.read_bytes() == b""


def counted(*reports: tuple[int | None, dict[str, float]]) -> tuple[dict[int, dict[str, float]], StepCounter]:
    counter, done = StepCounter("score"), dict[int, dict[str, float]]()
    for step, metrics in reports:
        if (one := counter.add(ScriptReport(step, metrics))) is not None:
            done[one[0]] = dict(one[1])
    if (one := counter.close()) is not None:
        done[one[0]] = dict(one[1])
    return done, counter


def test_steps_are_counted_by_the_objective() -> None:
    lines = [(None, {"loss": 1.0}), (None, {"score": 0.1}), (None, {"loss": 0.9}), (None, {"score": 0.2, "loss": 0.8})]
    assert counted(*lines)[0] == {1: {"loss": 1.0, "score": 0.1}, 2: {"score": 0.2, "loss": 0.8}}


def test_metrics_of_a_step_on_several_lines_are_one_report() -> None:
    assert counted((4, {"loss": 1.0}), (4, {"score": 0.1}), (6, {"loss": 0.9}))[0] == {4: {"loss": 1.0, "score": 0.1}, 6: {"loss": 0.9}}


def test_steps_from_0_are_counted_from_1() -> None:
    assert counted((0, {"score": 0.1}), (1, {"score": 0.2}))[0] == {1: {"score": 0.1}, 2: {"score": 0.2}}
    assert counted((5, {"score": 0.1}), (0, {"score": 0.2}))[0] == {5: {"score": 0.1}}


def test_what_is_not_used_is_counted() -> None:
    done, counter = counted((2, {"score": 0.1}), (3, {"score": 0.2}), (2, {"score": 0.9}), (-1, {"score": 1.0}), (2**40, {"score": 1.0}))
    assert done == {2: {"score": 0.1}, 3: {"score": 0.2}}
    assert sorted(counter.ignored.values()) == [1, 2]
    done, counter = counted(*[(1, {f"m{number}": 0.0}) for number in range(100)], (1, {"score": 0.5}))
    assert len(done[1]) == 64 and done[1]["score"] == 0.5
    assert sum(counter.ignored.values()) == 37
