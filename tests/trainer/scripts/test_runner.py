"""Scripts that behave: reports, decisions, attempts, and what is read from files."""

import json
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

import thawline
from tests.trainer.scripts.conftest import GOOD, Runner
from thawline import script
from trainer.protocol import EpochMetrics, Finished, PruningDecision, Run

ROOT = Path(__file__).resolve().parents[3]
IMPORT = f"import sys\nsys.path.insert(0, {str(ROOT)!r})\nimport thawline\n"


def test_a_script_is_run_with_its_inputs(runner: Runner) -> None:
    source = (
        "import json, os, sys\nprint('epoch=1', 'score=%r' % json.load(open(os.environ['THAW_PARAMS']))['lr'])\n"
        "print(json.dumps([sys.argv[1:], os.getcwd(), os.environ['THAW_SEED'], os.environ['OMP_NUM_THREADS']]))\n"
    )
    answered = runner.run(source, seed=5, score_test=True)
    assert [line.kind for line in answered.lines] == ["prepared", "measured", "finished"]
    assert answered.end.metrics == {"score": 0.1} and answered.end.test.metrics == {"score": 0.1}
    assert json.loads(answered.log.splitlines()[1]) == [["--lr=0.1"], str(runner.workdir), "5", "1"]
    assert answered.end.peak_memory > 10**6


def test_a_check_gives_the_digests(runner: Runner) -> None:
    (runner.workdir / "lib.py").write_text("")
    checked = runner.check(runner.config(GOOD, files=["*.py"]))
    assert sorted(checked.facts.files) == ["lib.py", "train.py"]
    assert runner.check(runner.config(files=["*.txt"])).reason == "bad_data"


unhurried = pytest.mark.parametrize("runner", [("--grace-seconds", "60")], indirect=True)
"""For scripts that must have the time to end by themselves, also on busy cores."""


@unhurried
def test_a_pruned_script_that_asks_is_answered(runner: Runner) -> None:
    source = IMPORT + (
        "for step in range(1, 100):\n    if thawline.report(step=step, score=step / 10, loss=1):\n"
        "        print('asked to stop at', step)\n        break\n"
    )
    answered = runner.run(source, decision_steps=[2, 4, 6], decide=lambda step: step < 4)
    assert answered.end.kind == "stopped" and answered.end.step == 4
    assert answered.reports[4] == {"score": 0.4, "loss": 1.0} and sorted(answered.reports) == [1, 2, 3, 4]
    assert "asked to stop at 4" in answered.log


@unhurried
def test_a_pruned_script_that_prints_is_terminated(runner: Runner) -> None:
    source = (
        "import signal, sys, time\nsignal.signal(15, lambda *_: sys.exit('saved'))\n"
        "for n in range(1, 3): print(f'epoch={n} score=1')\ntime.sleep(300)"
    )
    answered = runner.run(source, decision_steps=[1], decide=lambda step: False)
    assert answered.end.kind == "stopped" and "saved" in answered.log


def test_later_steps_wait_for_a_decision(runner: Runner) -> None:
    """A worker that receives a report while it decides about an earlier one would not send the decision."""
    runner.begin(runner.config("for n in range(1, 4): print(f'epoch={n} score={n}', flush=True)\nimport time\ntime.sleep(1)"), [1])
    assert runner.until().kind == "prepared"
    assert getattr(runner.until(), "step", None) == 1
    assert runner.process.read(0.4) is None
    runner.process.send(PruningDecision(go_on=True))
    assert sorted(runner.rest().reports) == [2, 3]


def test_reports_from_a_process_of_a_launcher(runner: Runner) -> None:
    """torchrun closes inherited descriptors, and starts a process for each rank."""
    child = IMPORT + "import os\nprint(thawline.report(step=1, score=0.5 + int(os.environ['RANK'])))\n"
    started = f"subprocess.run([sys.executable, '-c', {child!r}], env={{**os.environ, 'RANK': rank}})"
    source = f"import os, subprocess, sys\nfor rank in '10': {started}"
    answered = runner.run(source)
    assert answered.reports == {1: {"score": 0.5}} and answered.end.kind == "finished"


def test_reports_from_the_shell(runner: Runner) -> None:
    lines = re.search(r"```sh\n(.*?)```", (ROOT / "docs" / "scripts.md").read_text(), re.DOTALL)
    assert lines is not None
    (runner.workdir / "run.sh").write_text(lines[1] + 'echo "answer: $answer, $THAW_REPORT_FD and $THAW_REPLY_FD"\n')
    answered = runner.run(command=["sh", "run.sh"], metric="accuracy")
    assert answered.reports == {1: {"accuracy": 0.5}} and "answer: continue, 3 and 4" in answered.log
    stopped = runner.run(command=["sh", "run.sh"], metric="accuracy", decision_steps=[1], decide=lambda step: False)
    assert stopped.end.kind == "stopped" and "answer" not in stopped.log


def test_checkpoints_survive_attempts(runner: Runner) -> None:
    source = (
        "import os, time\nfolder = os.environ['THAW_CHECKPOINT']\npath = folder + '/last'\n"
        "done = int(open(path).read()) if os.environ['THAW_RESUMED'] == '1' else 0\n"
        "for step in range(done + 1, 4):\n    open(path, 'w').write(str(step))\n    print(f'epoch={step} score={step}')\n"
        "    if step == 2 and not done: raise SystemExit(75)\n"
    )
    first = runner.run(source)
    assert first.end.kind == "deferred" and sorted(first.reports) == [1, 2]
    assert not (runner.out / "leftover").exists()
    earlier = runner.trials / "checkpoint" / "e1"
    second = runner.run(source, reported=2)
    assert second.end.kind == "finished" and sorted(second.reports) == [3]
    assert not earlier.exists() and (runner.trials / "checkpoint" / "e2" / "last").read_text() == "3"


def test_of_the_processes_of_torchrun_the_first_reports(runner: Runner) -> None:
    source = IMPORT + (
        "import argparse, os, torch, torch.distributed as dist\nparser = argparse.ArgumentParser()\n"
        "parser.add_argument('--lr', type=float)\nlr = parser.parse_args().lr\ndist.init_process_group('gloo')\n"
        "for step in (1, 2):\n"
        "    total = torch.tensor(lr * (dist.get_rank() + 1))\n    dist.all_reduce(total)\n"
        "    stop = thawline.report(step=step, score=float(total), rank=dist.get_rank())\n"
        "    os.write(1, f'rank {dist.get_rank()} of {dist.get_world_size()} stops: {stop}{os.linesep}'.encode())\n"
        "    stop = torch.tensor(stop)\n    dist.broadcast(stop, 0)\n    assert bool(stop) is False\n"
        "dist.destroy_process_group()\n"
    )
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", "train.py", "${args}"]
    answered = runner.run(source, command=command, decision_steps=[1], decide=lambda step: True)
    assert answered.end.kind == "finished", answered.log
    assert answered.reports == {step: {"score": pytest.approx(0.3), "rank": 0.0} for step in (1, 2)}
    assert sorted(line for line in answered.log.splitlines() if line.startswith("rank")) == [
        *["rank 0 of 2 stops: False"] * 2, *["rank 1 of 2 stops: False"] * 2
    ]  # fmt: skip


RESUMING = (
    "import os, pathlib, time\nsaved = pathlib.Path(os.environ['THAW_CHECKPOINT'], 'last')\n"
    "for step in range(int(saved.read_text()) + 1 if saved.exists() else 1, 4):\n"
    "    print(f'epoch={step} score={step / 4} loss={step}')\n    saved.write_text(str(step))\n    LAST\n"
)


def test_a_resumed_attempt_with_nothing_left_to_do_keeps_the_last_metrics(runner: Runner) -> None:
    source = RESUMING.replace("LAST", "if step == 3: raise SystemExit(75)")
    first = runner.run(source)
    assert first.end.kind == "deferred" and sorted(first.reports) == [1, 2, 3]
    again = runner.run(source, reported=3)
    assert (again.end.kind, again.end.step, again.end.metrics) == ("finished", 3, {"score": 0.75, "loss": 3.0})
    assert again.reports == {} and "this attempt reported no score; the values of earlier attempts count, up to step 3" in again.log


@pytest.mark.parametrize("last", [2, 3], ids=["some are left", "none is left"])
def test_reports_that_a_killed_worker_had_not_recorded_come_with_the_next_attempt(runner: Runner, last: int) -> None:
    source = RESUMING.replace("LAST", f"if step == {last} and not os.path.exists('once'): open('once', 'w'); time.sleep(300)")
    runner.begin(runner.config(source))
    while not (runner.workdir / "once").exists():
        time.sleep(0.02)
    runner.until(EpochMetrics)
    runner.process.close(0)
    runner.start()
    answered = runner.run(source, reported=1)
    assert answered.reports == {step: {"score": step / 4, "loss": step} for step in (2, 3)}
    assert (answered.end.step, answered.end.metrics["score"]) == (3, 0.75)


def test_an_attempt_that_starts_anew_without_the_metric_is_not_given_that_of_an_earlier_one(runner: Runner) -> None:
    source = "import os\nif not os.path.exists('../once'):\n    open('../once', 'w')\n    print('score=1')\n    raise SystemExit(75)\n"
    assert runner.run(source).end.kind == "deferred"
    assert runner.run(source).end.reason == "metric_missing"


def test_every_attempt_has_an_empty_folder_of_its_own(runner: Runner) -> None:
    source = GOOD + "import os\nprint(os.listdir(os.environ['THAW_OUT']))\nopen(os.environ['THAW_OUT'] + '/left', 'w')\n"
    for _ in range(2):
        assert "'left'" not in runner.run(source).log and (runner.out / "left").exists()


@pytest.fixture
def without_tensorboard(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "tensorboard.py").write_text("raise ImportError")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))


@pytest.mark.usefixtures("without_tensorboard")
def test_a_worker_without_tensorboard_says_so_before_the_first_trial(runner: Runner) -> None:
    end = runner.check(runner.config(GOOD, metrics={"tensorboard": "logs"}))
    assert end.detail == "metrics: tensorboard is not installed on this worker; install thawline[tensorboard]"
    assert runner.runs_on()


def test_a_template_is_filled_in_for_the_command(runner: Runner) -> None:
    (runner.workdir / "config.yaml.in").write_text("lr: {{lr}}\noutput_dir: '{{thaw.out}}/model'\nname: run-{{thaw.trial}}\n")
    source = "import sys\nprint(open(sys.argv[1]).read())\nprint('score=1')"
    command = [sys.executable, "train.py", "${envvar:THAW_OUT}/config.yaml"]
    answered = runner.run(source, command=command, templates={"config.yaml.in": "config.yaml"}, trial=7)
    assert answered.log.startswith(f"lr: 0.1\noutput_dir: '{runner.out}/model'\nname: run-7\n"), answered.log


def test_a_run_without_a_folder_leaves_nothing_for_the_next_one(runner: Runner) -> None:
    """`thaw verify` has no folder: its runs must not resume from each other."""
    look = "import os\nprint(os.environ['THAW_CHECKPOINT'], 'score=1')\nopen(os.environ['THAW_CHECKPOINT'] + '/saved', 'w')\n"
    config = runner.config(look + "print('resumed', os.environ['THAW_RESUMED'])")
    for _ in range(2):
        runner.process.send(Run(config=config))
        answered = runner.rest()
        assert isinstance(answered.end, Finished) and "resumed 0" in answered.log
        assert not Path(answered.log.split()[0]).parent.exists()


def test_the_folder_of_an_attempt_has_no_pipes_afterwards(runner: Runner) -> None:
    runner.run(GOOD)
    assert sorted(path.name for path in runner.out.iterdir()) == ["model", "params.json"]


def test_metrics_from_a_file(runner: Runner) -> None:
    source = (
        "import os, time\nwith open(os.environ['THAW_OUT'] + '/logs.jsonl', 'w', buffering=1) as file:\n"
        '    for n in range(1, 4):\n        print(\'{"epoch": %d, "score": %d, "note": "x"}\' % (n, n), file=file)\n'
        "        time.sleep(0.3)\n"
    )
    answered = runner.run(source, metrics={"file": "logs.jsonl"})
    assert answered.reports == {n: {"score": float(n)} for n in (1, 2, 3)} and answered.end.kind == "finished"


def test_metrics_by_regular_expressions(runner: Runner) -> None:
    source = "import sys\nfor n in (1, 2): print(f'Epoch {n} | val score: {n / 4}', file=sys.stderr)"
    patterns = {"step": r"Epoch (\d+)", "score": r"val score: ([\d.]+)"}
    assert runner.run(source, metrics={"regex": patterns}).reports == {1: {"score": 0.25}, 2: {"score": 0.5}}


def test_metrics_from_tensorboard_files(runner: Runner) -> None:
    source = (
        "import os, time\nfrom tensorboard.compat.proto.event_pb2 import Event\nfrom tensorboard.compat.proto.summary_pb2 import Summary\n"
        "from tensorboard.summary.writer.event_file_writer import EventFileWriter\n"
        "writer = EventFileWriter(os.environ['THAW_OUT'] + '/logs/run')\n"
        "for n in range(1, 4):\n"
        "    summary = Summary(value=[Summary.Value(tag=tag, simple_value=n / 4) for tag in ('score', 'val/loss')])\n"
        "    writer.add_event(Event(step=n, wall_time=time.time(), summary=summary))\n    writer.flush()\n    time.sleep(0.3)\n"
        "print('epoch=9 score=9')\n"
    )
    runner.begin(runner.config(source, metrics={"tensorboard": "logs"}))
    assert getattr(runner.until(EpochMetrics), "step", None) == 1  # while the script runs
    answered = runner.rest()
    assert answered.reports == {n: {"score": n / 4, "val/loss": n / 4} for n in (2, 3)} and answered.end.metrics["score"] == 0.75


def test_a_secret_of_the_study_is_not_in_the_log(runner: Runner) -> None:
    source = "import os, sys\nprint('the token is', os.environ['MY_TOKEN'])\nsys.exit(os.environ['MY_TOKEN'])"
    answered = runner.run(source, environment={"MY_TOKEN": "hush-hush"})
    assert "the token is ***" in answered.log and "hush" not in answered.log + answered.end.detail


@pytest.fixture
def outside(monkeypatch: pytest.MonkeyPatch) -> Iterator[pytest.MonkeyPatch]:
    for name in ("THAW_REPORT_PIPE", "THAW_PARAMS", "THAW_CHECKPOINT", "RANK"):
        monkeypatch.delenv(name, raising=False)
    script._reset()
    yield monkeypatch
    script._reset()


def test_outside_of_a_trial_nothing_happens(outside: pytest.MonkeyPatch) -> None:
    assert thawline.report(step=1, score=0.5) is False
    assert thawline.params() == {} and thawline.checkpoint_dir() is None


def test_after_the_trial_the_answer_is_to_stop(outside: pytest.MonkeyPatch, tmp_path: Path) -> None:
    outside.setenv("THAW_REPORT_PIPE", str(tmp_path / "gone"))
    assert thawline.report(score=0.5) is True
    outside.setenv("RANK", "1")
    assert thawline.report(score=0.5) is False


def test_a_metric_that_is_no_number_is_named(outside: pytest.MonkeyPatch, tmp_path: Path) -> None:
    outside.setenv("THAW_REPORT_PIPE", str(tmp_path / "gone"))
    with pytest.raises(TypeError, match="the metric score is no number: 'high'"):
        thawline.report(score="high")  # type: ignore[arg-type]


def test_importing_the_package_for_reports_loads_no_client() -> None:
    loaded = "sorted({'httpx2', 'pydantic', 'service.client'} & sys.modules.keys())"
    code = f"import sys, thawline; thawline.report(step=1, a=1); print({loaded})"
    found = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert found.stdout == "[]\n"
