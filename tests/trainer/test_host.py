"""The warm process, spoken to over its real pipes."""

import json
import os
import select
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from trainer.tasks.image_classification.config import ImageClassificationConfig
from trainer.tasks.images.config import ImageData, ImageModel

ROOT = Path(__file__).resolve().parents[2]
Configure = Callable[..., ImageClassificationConfig]
Paint = Callable[..., Path]


class Host:
    """A trainer process, and the lines that it tells."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self.process = process
        self.reported: list[dict[str, Any]] = []

    def say(self, order: str, **fields: Any) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(json.dumps({"order": order, **fields}) + "\n")
        self.process.stdin.flush()

    def run(self, config: ImageClassificationConfig, **fields: Any) -> None:
        self.say("run", config=config.model_dump(mode="json"), **fields)

    def until(self, kind: str) -> list[dict[str, Any]]:
        """The lines up to the next of that kind, it included, without Advanced ones."""
        assert self.process.stdout is not None
        lines: list[dict[str, Any]] = []
        for line in self.process.stdout:
            lines.append(json.loads(line))
            if lines[-1]["kind"] == kind:
                return [line for line in lines if line["kind"] != "advanced" or kind == "advanced"]
        raise AssertionError(f"the process ended before it told {kind}: {lines}")

    def until_lanes(self, kind: str, count: int) -> list[dict[str, Any]]:
        """The lines up to the one of that kind that so many lanes have told."""
        lines = list[dict[str, Any]]()
        while sum(line["kind"] == kind for line in lines) < count:
            lines += self.until(kind)
        return lines

    def kinds_until_ready(self) -> list[str]:
        return [line["kind"] for line in self.until("ready")]


@contextmanager
def started() -> Iterator[Host]:
    command = [sys.executable, "-m", "trainer", "--threads", "1", "--device", "cpu"]
    pipe, nowhere = subprocess.PIPE, subprocess.DEVNULL
    with subprocess.Popen(command, cwd=ROOT, stdin=pipe, stdout=pipe, stderr=nowhere, text=True) as process:
        try:
            yield Host(process)
        finally:
            process.kill()


@pytest.fixture(scope="module")
def warm() -> Iterator[Host]:
    """One process for all tests that leave it ready."""
    with started() as host:
        host.until("ready")
        yield host


@pytest.fixture
def host(warm: Host) -> Host:
    assert warm.process.poll() is None, "an earlier test ended the process"
    return warm


def test_a_run_is_told_to_its_end_and_the_process_stays_for_the_next(host: Host, configure: Configure, tmp_path: Path) -> None:
    config, path = configure(), tmp_path / "model.safetensors"
    host.run(config, model_file=str(path))
    first = host.until("ready")
    assert [line["kind"] for line in first] == ["prepared", "measured", "measured", "finished", "exported", "ready"]
    assert path.is_file()
    host.run(config)
    again = host.until("ready")
    assert [line["kind"] for line in again] == ["prepared", "measured", "measured", "finished", "ready"]
    assert again[2]["metrics"] == first[2]["metrics"]


def test_a_check_tells_facts_and_trains_nothing(host: Host, configure: Configure) -> None:
    host.say("check", config=configure().model_dump(mode="json"))
    checked, ready = host.until("ready")
    assert checked["kind"] == "checked" and checked["facts"]["images"] == {"train": 48, "validation": 12, "test": 0}
    assert ready["kind"] == "ready"


def test_a_check_names_the_images_that_cannot_be_used(
    host: Host, configure: Configure, paint: Paint, bomb: Callable[[int, int], bytes]
) -> None:
    root = paint(name="unfit")
    (root / "red" / "3.png").write_bytes(b"broken")
    (root / "blue" / "7.png").write_bytes(bomb(30_000, 30_000))
    host.say("check", config=configure(data=ImageData(path=str(root))).model_dump(mode="json"))
    failed = host.until("ready")[0]
    assert (failed["kind"], failed["reason"]) == ("failed", "bad_data")
    assert "blue/7.png: too large" in failed["detail"] and "red/3.png: not an image" in failed["detail"]


def test_a_check_is_infeasible_only_when_no_batch_size_can_be_trained(host: Host, configure: Configure) -> None:
    config = configure(model={"name": "mobilenet_v2"}, image_size=32, batch_size=1).model_dump(mode="json")
    host.say("check", config=config, batch_sizes=[1, 16])
    assert host.until("ready")[0]["kind"] == "checked"
    host.say("check", config=config, batch_sizes=[1, 1000])
    failed = host.until("ready")[0]
    assert (failed["kind"], failed["reason"]) == ("failed", "infeasible") and "lower batch_size" in failed["detail"]


def test_at_a_decision_step_it_waits_and_stops_when_told(host: Host, configure: Configure) -> None:
    host.run(configure(epochs=5), decision_steps=[1, 3])
    host.until("measured")
    host.say("answer", go_on=True)
    assert [line["step"] for line in (*host.until("measured"), *host.until("measured"))] == [2, 3]
    host.say("answer", go_on=False)
    stopped, _ = host.until("ready")
    assert (stopped["kind"], stopped["step"]) == ("stopped", 3)


def test_a_cancel_saves_the_last_whole_epoch_and_another_process_goes_on_from_it(host: Host, configure: Configure, tmp_path: Path) -> None:
    config = configure(epochs=400, dropout=0.2)
    host.run(config, checkpoint_folder=str(tmp_path / "attempt-1"), checkpoint_seconds=3_600)
    measured = [host.until("measured")[-1] for _ in range(2)]
    host.say("cancel", save=True)
    lines = host.until("ready")
    saved, stopped = lines[-3]["checkpoint"], lines[-2]
    assert stopped["kind"] == "stopped" and saved["step"] == stopped["step"] >= 2
    measured += [line for line in lines if line["kind"] == "measured"]
    host.run(config, resume=[saved], decision_steps=[saved["step"] + 1])
    resumed = host.until("measured")[-1]
    host.say("cancel")
    host.until("ready")
    host.run(config, decision_steps=[saved["step"] + 1])
    whole = [line for _ in range(saved["step"] + 1) for line in host.until("measured") if line["kind"] == "measured"]
    host.say("cancel")
    host.until("ready")
    assert found(resumed) == found(whole[-1]) and list(map(found, measured)) == list(map(found, whole[:-1]))


def found(line: dict[str, Any]) -> tuple[int, dict[str, float]]:
    """What was measured; the pace differs each time."""
    return line["step"], line["metrics"]


def test_a_cancel_without_save_leaves_nothing(host: Host, configure: Configure, tmp_path: Path) -> None:
    host.run(configure(epochs=10_000), checkpoint_folder=str(tmp_path / "attempt"), checkpoint_seconds=3_600)
    host.until("measured")
    host.say("cancel")
    assert [line["kind"] for line in host.until("ready") if line["kind"] != "measured"] == ["stopped", "ready"]
    assert not list(tmp_path.glob("attempt/*"))


def test_a_cancel_while_it_waits_for_a_decision_ends_the_run(host: Host, configure: Configure) -> None:
    host.run(configure(), decision_steps=[1])
    host.until("measured")
    host.say("cancel")
    assert host.kinds_until_ready() == ["stopped", "ready"]


def test_a_cancel_that_comes_too_late_does_not_touch_the_next_run(host: Host, configure: Configure) -> None:
    host.run(configure(epochs=1))
    host.until("ready")
    host.say("cancel")
    host.say("answer", go_on=False)
    host.run(configure(epochs=1), decision_steps=[])
    assert host.kinds_until_ready() == ["prepared", "measured", "finished", "ready"]


def test_a_run_that_crashes_is_told_and_the_next_one_trains(host: Host, configure: Configure) -> None:
    host.run(configure(epochs=2), checkpoint_folder="/dev/null/no-room", checkpoint_seconds=0, model_file="/dev/null/nowhere/model")
    failed = host.until("ready")[-2]
    assert (failed["kind"], failed["reason"]) == ("failed", "crashed") and "/dev/null/nowhere" in failed["detail"]
    host.run(configure(epochs=1))
    assert "finished" in host.kinds_until_ready()


@pytest.fixture(scope="module")
def weights(warm: Host, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file that a run of its own has left."""
    return tmp_path_factory.mktemp("weights") / "small_cnn.safetensors"


def heads(host: Host, weights: Path, configure: Configure, *changes: dict[str, Any]) -> list[dict[str, Any]]:
    """Runs of the head alone, which may share a pass."""
    if not weights.exists():
        host.run(configure(epochs=1), model_file=str(weights))
        host.until("ready")
    model = ImageModel(name="small_cnn", weights=str(weights))
    configs = [configure(**{"model": model, "frozen_layers": 4, "epochs": 3, **change}) for change in changes]
    return [{"config": config.model_dump(mode="json")} for config in configs]


def of_lane(lines: Sequence[dict[str, Any]], lane: int) -> list[str]:
    return [f"{line['kind']} {line.get('step', '')}".strip() for line in lines if line.get("lane") == lane and line["kind"] != "advanced"]


def test_lanes_end_each_by_itself(host: Host, weights: Path, configure: Configure) -> None:
    runs = heads(
        host, weights, configure, {}, {"lr": 1e-4}, {"epochs": 1}, {"optimizer": "sgd", "lr": 100, "weight_decay": 10}, {"seed": 9}
    )
    for run in runs:
        run["decision_steps"] = [1]
    host.say("lanes", runs=runs)
    first = host.until_lanes("measured", 5)
    for lane in (4, 0, 3, 2):
        host.say("answer", lane=lane, go_on=lane != 4)
    host.say("cancel", lane=1)
    lines = [*first, *host.until("ready")]
    assert of_lane(lines, 0) == ["prepared", "measured 1", "measured 2", "measured 3", "finished 3"]
    assert of_lane(lines, 1) == ["prepared", "measured 1", "stopped 1"]
    assert of_lane(lines, 2) == ["prepared", "measured 1", "finished 1"]
    assert of_lane(lines, 3)[-1].startswith("failed") and "finished" not in str(of_lane(lines, 3))
    assert of_lane(lines, 4) == ["prepared", "measured 1", "stopped 1"]
    prepared = [line for line in lines if line["kind"] == "prepared"]
    assert [line["reuse"]["lanes"] for line in prepared] == [5] * 5


def test_a_lane_that_is_cancelled_with_save_is_gone_on_with_alone(host: Host, weights: Path, configure: Configure, tmp_path: Path) -> None:
    runs = heads(host, weights, configure, {"epochs": 400, "dropout": 0.3}, {"epochs": 400})
    for number, run in enumerate(runs):
        run |= {"checkpoint_folder": str(tmp_path / str(number)), "checkpoint_seconds": 3_600}
    host.say("lanes", runs=runs)
    lines = host.until_lanes("measured", 2)
    host.say("cancel", lane=0, save=True)
    lines += host.until("stopped")
    saved = next(line["checkpoint"] for line in lines if line["kind"] == "saved")
    assert lines[-1]["lane"] == 0 and lines[-1]["step"] == saved["step"]
    host.say("cancel")
    rest = host.until("ready")
    assert "stopped" in [line["kind"] for line in rest if line.get("lane") == 1]
    host.run(ImageClassificationConfig.model_validate(runs[0]["config"]), resume=[saved], decision_steps=[saved["step"] + 1])
    resumed = host.until("measured")[-1]
    host.say("cancel")
    host.until("ready")
    assert resumed["step"] == saved["step"] + 1 and resumed["metrics"]["loss"] < lines[0].get("metrics", {"loss": 9})["loss"]


def test_a_run_of_the_head_alone_is_a_pass_of_one(host: Host, weights: Path, configure: Configure, tmp_path: Path) -> None:
    (run,) = heads(host, weights, configure, {})
    host.say("run", **run, model_file=str(tmp_path / "tuned.safetensors"))
    lines = host.until("ready")
    assert [line["kind"] for line in lines] == ["prepared", "measured", "measured", "measured", "finished", "exported", "ready"]
    host.say("lanes", runs=[run])
    again = host.until("ready")
    assert [line["metrics"] for line in again if line["kind"] == "measured"] == [
        line["metrics"] for line in lines if line["kind"] == "measured"
    ]


def test_a_pass_has_threads_of_its_own(host: Host, weights: Path, configure: Configure) -> None:
    (run,) = heads(host, weights, configure, {})
    host.say("lanes", runs=[run], threads=2)
    assert host.until("ready")[0]["environment"]["threads"] == "2"
    host.say("run", **run)
    assert host.until("ready")[0]["environment"]["threads"] == "1"


def test_data_that_cannot_be_read_ends_every_lane(host: Host, weights: Path, configure: Configure, tmp_path: Path) -> None:
    runs = heads(host, weights, configure, {}, {"seed": 4})
    for run in runs:
        run["config"]["data"]["path"] = str(tmp_path / "nowhere")
    host.say("lanes", runs=runs)
    lines = host.until("ready")
    assert [(line["kind"], line["lane"]) for line in lines[:-1]] == [("unavailable", 0), ("unavailable", 1)]


def test_runs_that_cannot_share_a_pass_are_told_so(host: Host, weights: Path, configure: Configure) -> None:
    host.say("lanes", runs=heads(host, weights, configure, {}, {"batch_size": 16}))
    lines = host.until("ready")
    assert [(line["lane"], line["reason"]) for line in lines[:-1]] == [(0, "crashed"), (1, "crashed")]
    assert "must agree in data, model, batch_size" in lines[0]["detail"]


def test_what_is_no_order_is_told_as_a_crash(host: Host) -> None:
    host.say("dance")
    failed = host.until("ready")[0]
    assert (failed["kind"], failed["reason"]) == ("failed", "crashed") and "order" in failed["detail"]


def test_signals_for_the_whole_group_are_left_to_the_supervisor(host: Host, configure: Configure) -> None:
    for number in (signal.SIGTERM, signal.SIGINT):
        os.kill(host.process.pid, number)
    host.run(configure(epochs=1))
    assert "finished" in host.kinds_until_ready()


def test_the_end_of_its_input_ends_the_process_in_the_middle_of_a_run(configure: Configure) -> None:
    with started() as host:
        host.until("ready")
        host.run(configure(epochs=100_000))
        host.until("measured")
        assert host.process.stdin is not None
        host.process.stdin.close()
        assert host.process.wait(120) == 0


ORPHAN = """
import subprocess, sys, time
command = [sys.executable, "-m", "trainer", "--device", "cpu"]
child = subprocess.Popen(command, stdin=int(sys.argv[1]), stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
child.stdout.readline()
sys.stdout.write(f"{child.pid}\\n")
sys.stdout.flush()
time.sleep(600)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="PR_SET_PDEATHSIG is Linux's")
def test_it_dies_with_its_supervisor_even_when_its_input_stays_open() -> None:
    reading, writing = os.pipe()
    command = [sys.executable, "-c", ORPHAN, str(reading)]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True, pass_fds=[reading]) as supervisor:
        assert supervisor.stdout is not None
        descriptor = os.pidfd_open(int(supervisor.stdout.readline()))
        supervisor.kill()
    ended = _ends_within(descriptor, seconds=10)
    for open_one in (reading, writing, descriptor):
        os.close(open_one)
    assert ended


def _ends_within(descriptor: int, seconds: float) -> bool:
    poll = select.poll()
    poll.register(descriptor, select.POLLIN)
    return bool(poll.poll(seconds * 1000))


NOISY = """
import os, torch
seed = torch.manual_seed
torch.manual_seed = lambda value: (os.write(1, b"noise of C"), print("noise of Python"), seed(value))[2]
"""


def test_what_libraries_print_does_not_reach_the_lines(configure: Configure, tmp_path: Path) -> None:
    noisy = tmp_path / "sitecustomize.py"
    noisy.write_text(NOISY)
    environment = {**os.environ, "PYTHONPATH": str(tmp_path)}
    command = [sys.executable, "-m", "trainer", "--device", "cpu", "--threads", "1"]
    orders = json.dumps({"order": "run", "config": configure(epochs=1).model_dump(mode="json")}) + "\n"
    with subprocess.Popen(
        command, cwd=ROOT, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        host = Host(process)
        assert process.stdin is not None and process.stderr is not None
        process.stdin.write(orders)
        process.stdin.flush()
        host.until("finished")
        process.kill()
        assert "noise of C" in process.stderr.read()
