"""Scripts that misbehave: each ends as the table of docs/reliability.md says, and the next trial runs."""

import math
import os
import re
import time
from pathlib import Path

import pytest

from tests.trainer.scripts.conftest import GOOD, Runner


def ended(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] in "ZX"
    except OSError:
        return True


def gone(pid: int) -> bool:
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline and not ended(pid):
        time.sleep(0.02)
    return ended(pid)


def test_nan_is_reported_as_it_is(runner: Runner) -> None:
    answered = runner.run("print('epoch=1 score=nan')\nprint('epoch=2 score=-inf loss=NaN')")
    assert answered.end.kind == "finished" and answered.end.metrics["score"] == -math.inf
    assert math.isnan(answered.reports[1]["score"]) and math.isnan(answered.reports[2]["loss"])
    assert runner.runs_on()


def test_a_number_beyond_the_doubles_is_infinite(runner: Runner) -> None:
    report = 'import os; os.write(int(os.environ[\'THAW_REPORT_FD\']), b\'{"step": 2, "score": 1e400, "n": -1%s}\\n\')' % ("0" * 400)
    answered = runner.run(f"print('epoch=1 score=1e400', flush=True)\n{report}")
    assert answered.reports == {1: {"score": math.inf}, 2: {"score": math.inf, "n": -math.inf}}
    assert runner.runs_on()


def test_a_gigabyte_of_output_ends_the_script(runner: Runner) -> None:
    answered = runner.run("import sys\nfor _ in range(1000): sys.stdout.write('x' * 2**20 + '\\n')", limits={"output_mb": 20})
    assert (answered.end.kind, answered.end.reason) == ("failed", "script_error")
    assert "more than limits.output_mb (20 MB)" in answered.end.detail
    assert len(answered.log) < 2**20 and runner.runs_on()


def test_a_flood_in_a_followed_file_ends_the_script_and_takes_little_memory(runner: Runner) -> None:
    source = (
        "import os, time\nwith open(os.environ['THAW_OUT'] + '/m.jsonl', 'w') as file:\n"
        "    for _ in range(30): file.write('{\"score\": 1}\\n' * 50_000)\ntime.sleep(600)\n"
    )
    answered = runner.run(source, metrics={"file": "m.jsonl"}, decision_steps=[1])  # which no worker answers
    assert (answered.end.reason, answered.end.detail[:44]) == ("script_error", "the script reports more than 100,000 steps; ")
    peak = re.search(r"VmHWM:\s+(\d+) kB", Path(f"/proc/{runner.process.pid}/status").read_text())
    assert peak is not None and int(peak[1]) < 150_000 and runner.runs_on()


def test_a_report_without_an_end_ends_the_script(runner: Runner) -> None:
    source = "import os\nfor _ in range(2000): os.write(int(os.environ['THAW_REPORT_FD']), b'x' * 2**16)\n"
    answered = runner.run(source)
    assert (answered.end.reason, answered.end.detail) == ("script_error", "a report has more than 65,536 bytes")
    assert runner.runs_on()


def test_binary_output_and_escape_sequences_do_no_harm(runner: Runner) -> None:
    source = (
        "import os\nos.write(1, bytes(range(256)) * 300 + b'\\n')\n"
        "os.write(1, b'\\x1b]0;title\\x07\\x1b[31mepoch=1 score=0.25\\x1b[0m\\n')\n"
        "os.write(1, b'{\"kind\": \"ready\"}\\n')\nos.write(2, b'\\x1b[2J\\xff\\n')\nos.write(1, b'10% score=0.1\\repoch=2 score=0.5\\n')"
    )
    answered = runner.run(source)
    assert answered.end.kind == "finished" and [answered.reports[step]["score"] for step in (1, 2)] == [0.25, 0.5]
    assert "\x1b" not in answered.log and '{"kind": "ready"}' in answered.log
    assert runner.runs_on()


def test_a_metric_that_is_never_there(runner: Runner) -> None:
    answered = runner.run("print('epoch=1 loss=0.5')")
    assert (answered.end.kind, answered.end.reason) == ("failed", "metric_missing")
    assert "without a value of the objective score: it reported loss; print a line such as score=0.5" in answered.end.detail
    assert runner.runs_on()


def test_a_script_that_ends_at_once(runner: Runner) -> None:
    answered = runner.run("")
    assert answered.end.reason == "metric_missing" and "it reported no metric" in answered.end.detail
    assert runner.runs_on()


def test_reports_out_of_order_or_twice_count_once(runner: Runner) -> None:
    lines = ["epoch=1 score=0.1", "epoch=2 score=0.2", "epoch=2 score=0.2", "epoch=1 score=0.9", "epoch=3 score=0.3", "epoch=3 score=0.8"]
    answered = runner.run("".join(f"print({line!r})\n" for line in lines))
    assert answered.reports == {1: {"score": 0.1}, 2: {"score": 0.2}, 3: {"score": 0.3}}
    assert "not used, 1 times: a report of a step that was complete, or after one of a later step" in answered.log
    assert "not used, 1 times: a second value of a metric at the same step" in answered.log
    assert runner.runs_on()


def test_a_daemon_that_forks_away_is_killed(runner: Runner) -> None:
    source = (
        "import os, sys, time\n"
        "if os.fork() == 0:\n    os.setsid()\n    if os.fork() == 0:\n"
        "        open('pid', 'w').write(str(os.getpid()))\n        time.sleep(300)\n    os._exit(0)\n"
        "os.wait()\nwhile not os.path.exists('pid') or not open('pid').read(): time.sleep(0.01)\n"
    )
    answered = runner.run(source + GOOD)
    assert answered.end.kind == "finished" and answered.end.train_seconds < 60
    assert gone(int((runner.workdir / "pid").read_text()))
    assert "1 processes that the script left behind were killed" in answered.log
    assert runner.runs_on()


@pytest.mark.parametrize("victim", ["os.getppid()", "int(open(f'/proc/{os.getppid()}/stat').read().rpartition(')')[2].split()[1])"])
def test_a_script_that_kills_the_processes_above_it_dies_with_them(runner: Runner, victim: str) -> None:
    runner.begin(runner.config(f"import os, time\nopen('pid', 'w').write(str(os.getpid()))\nos.kill({victim}, 9)\ntime.sleep(300)"))
    if victim == "os.getppid()":
        assert runner.rest().end.reason == "crashed"
        assert runner.runs_on()
    else:  # the runner: the worker starts another one
        assert gone(runner.process.pid)
    assert gone(int((runner.workdir / "pid").read_text()))


def test_a_script_that_ignores_sigterm_is_killed(runner: Runner) -> None:
    runner.begin(runner.config("import signal, time\nsignal.signal(15, signal.SIG_IGN)\nprint('score=1')\ntime.sleep(300)"))
    while runner.until().kind != "measured":
        pass
    began_at = time.monotonic()
    runner.cancel()
    assert runner.rest().end.kind == "stopped"
    assert 0.9 < time.monotonic() - began_at < 20 and runner.runs_on()


def test_a_script_that_fills_the_disk(runner: Runner) -> None:
    source = (
        "import os, time\nfor n in range(100):\n    open(os.environ['THAW_OUT'] + f'/{n}', 'wb').write(b'x' * 10**6)\n"
        "    time.sleep(0.05)\n"
    )
    answered = runner.run(source, limits={"disk_gb": 0.005})
    assert answered.end.reason == "script_error" and "more than limits.disk_gb (0.005)" in answered.end.detail
    whole = runner.run("import os\nopen(os.environ['THAW_OUT'] + '/x', 'wb').write(b'x' * 10**7)", limits={"disk_gb": 0.005})
    assert whole.end.reason == "script_error" and "File too large" in whole.end.detail  # from a limit of the system
    assert runner.runs_on()


def test_a_script_that_changes_its_files_is_detected_by_the_next_trial(runner: Runner) -> None:
    config = runner.config(GOOD + "open('train.py', 'a').write('# changed')\n")
    facts = runner.check(config).facts
    assert runner.run(expected=facts).end.kind == "finished"
    changed = runner.run(expected=facts).end
    assert (changed.kind, changed.reason) == ("failed", "bad_data")
    assert changed.detail.startswith("files of the script have changed since the study's check: train.py")
    assert runner.runs_on()


def test_a_script_that_runs_longer_than_its_limit_is_ended(runner: Runner) -> None:
    """The worker measures the time, and cancels."""
    runner.begin(runner.config("import subprocess, time\nsubprocess.Popen(['sleep', '300'])\nprint('score=1')\ntime.sleep(300)"))
    while runner.until().kind != "measured":
        pass
    runner.cancel()
    assert runner.rest().end.kind == "stopped" and runner.runs_on()


def test_memory(runner: Runner) -> None:
    source = "import time\nheld = [bytearray(b'x' * 10**6) for _ in range(150)]\ntime.sleep(60)"
    answered = runner.run(source, limits={"memory_gb": 0.1})
    assert answered.end.reason == "out_of_memory" and "more than limits.memory_gb (0.1)" in answered.end.detail
    assert runner.run("raise MemoryError('the array is too large')").end.reason == "out_of_memory"
    assert runner.runs_on()


def test_a_template_with_an_unknown_parameter(runner: Runner) -> None:
    (runner.workdir / "run.yaml").write_text("a: 1\nb: {{rate}}\n")
    for end in (runner.run(GOOD, templates={"run.yaml": "run.yaml"}).end, runner.check(runner.config(templates={"run.yaml": "run.yaml"}))):
        assert (end.kind, end.reason) == ("failed", "script_error")
        assert end.detail.startswith("run.yaml, line 2: there is no parameter 'rate'; the parameters are lr, thaw.checkpoint")
    assert runner.runs_on()


@pytest.mark.parametrize(
    ("command", "message"),
    [
        (["no-such-program-here"], "command: there is no program no-such-program-here on this worker's PATH"),
        (["./missing.sh"], "command: there is no ./missing.sh in"),
        (["./plain.txt"], "command: ./plain.txt is not an executable file"),
        (["./broken.sh"], "command: ./broken.sh cannot be started: "),
    ],
)
def test_a_command_that_is_not_there(runner: Runner, command: list[str], message: str) -> None:
    (runner.workdir / "plain.txt").write_text("x")
    broken = runner.workdir / "broken.sh"
    broken.write_text("#!/no/such/interpreter\n")
    broken.chmod(0o755)
    end = runner.run(command=command).end
    assert (end.kind, end.reason) == ("failed", "script_error") and end.detail.startswith(message)
    assert runner.runs_on()


@pytest.mark.parametrize(
    ("source", "reason", "message"),
    [
        ("import sys\nprint('a line')\nprint('why', file=sys.stderr)\nsys.exit(3)", "script_error", "exit code 3: "),
        ("raise ValueError('odd')", "script_error", "ValueError: odd"),
        ("import ctypes\nctypes.string_at(0)", "crashed", "signal 11 (SIGSEGV)"),
        ("import os\nos.write(int(os.environ['THAW_REPORT_FD']), b'no json\\n')", "script_error", "a report is not a line of JSON"),
        (
            "import os\nos.write(int(os.environ['THAW_REPORT_FD']), b'{\"score\": \"x\"}\\n')",
            "script_error",
            "'score' in a report is not a num",
        ),
    ],
)
def test_other_ends(runner: Runner, source: str, reason: str, message: str) -> None:
    end = runner.run(source).end
    assert (end.kind, end.reason) == ("failed", reason) and message in end.detail
    assert runner.runs_on()


def test_a_regular_expression_that_would_take_for_ever(runner: Runner) -> None:
    answered = runner.run(f"print('{'a' * 40}!')\n{GOOD}", metrics={"regex": {"score": r"^((?:a+)+)$"}})
    assert answered.end.reason == "script_error" and "took more than 0.5 seconds for one line" in answered.end.detail
    assert runner.runs_on()


def test_the_end_of_the_runner_ends_the_script(runner: Runner) -> None:
    runner.begin(runner.config("import os, time\nopen('pid', 'w').write(str(os.getpid()))\nprint('score=1')\ntime.sleep(300)"))
    while runner.until().kind != "measured":
        pass
    runner.process.kill()
    assert gone(int((runner.workdir / "pid").read_text()))


def test_exit_code_75_asks_to_be_queued_again(runner: Runner) -> None:
    end = runner.run("print('score=1')\nraise SystemExit(75)").end
    assert (end.kind, end.step) == ("deferred", 1)
    assert runner.runs_on()


def test_a_folder_that_is_not_allowed(runner: Runner, tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    (runner.workdir / "link").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "elsewhere" / "x.py").write_text("")
    for workdir in (tmp_path / "elsewhere", runner.workdir / "link", runner.workdir / ".."):
        end = runner.run(workdir=str(workdir)).end
        assert (end.kind, end.what) == ("unavailable", "script") and "--allow-scripts" in end.detail
    end = runner.run(files=["link/x.py"]).end
    assert end.kind == "unavailable" and "link/x.py is a link out of the folders" in end.detail
    assert os.path.isdir(runner.workdir) and runner.runs_on()
