"""A trainer process: what is read from it, and what its end means."""

import os
import re
import signal
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from service.worker.process import TrainerDied, TrainerMessage, TrainerProcess
from trainer.protocol import BatchedRuns, Cancel, EpochMetrics, Failed, Finished, PruningDecision, Run, Stopped, TrainerReady

Start = Callable[..., TrainerProcess]
Order = Callable[..., Run]


def lines_until(process: TrainerProcess, *kinds: type[TrainerMessage]) -> list[TrainerMessage]:
    heard: list[TrainerMessage] = []
    deadline = time.monotonic() + 120
    while not (heard and isinstance(heard[-1], kinds)):
        assert time.monotonic() < deadline, heard
        if (line := process.read(0.5)) is not None:
            heard.append(line)
    return heard


def death_of(process: TrainerProcess) -> TrainerDied:
    with pytest.raises(TrainerDied) as caught:
        lines_until(process, TrainerReady)
    return caught.value


def gone(pid: int) -> bool:
    """Whether the process has ended, reaped or not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] in "ZX"
    except OSError:
        return True


def test_a_run_is_told_line_by_line(start: Start, order: Order) -> None:
    process = start()
    assert lines_until(process, TrainerReady) == [TrainerReady()]
    process.send(order("train"))
    reported = lines_until(process, TrainerReady)
    assert [line.step for line in reported if isinstance(line, EpochMetrics)] == [1, 2, 3]
    assert isinstance(reported[-2], Finished)
    assert process.ready and process.alive


def test_a_child_that_another_thread_is_reaping_is_not_alive(start: Start) -> None:
    process = start()
    os.kill(process.pid, signal.SIGKILL)
    os.waitpid(process.pid, 0)  # as within kill, before the exit code is noted
    assert not process.alive


def test_silence_is_none(start: Start) -> None:
    process = start()
    lines_until(process, TrainerReady)
    assert process.read(0.05) is None


@pytest.mark.parametrize(
    ("behaviour", "sentence"),
    [
        ("crash", "ended with exit code 1: .*the toy broke"),
        ("segfault", r"ended with signal 11 \(SIGSEGV\)"),
        ("killed", r"ended with signal 9 \(SIGKILL\)"),
        ("quit", "ended with exit code 3"),
    ],
)
def test_an_end_is_told_with_its_cause(start: Start, order: Order, behaviour: str, sentence: str) -> None:
    process = start()
    lines_until(process, TrainerReady)
    process.send(order(behaviour))
    death = death_of(process).death
    assert death.reason == "crashed"
    assert re.search(sentence, death.detail, re.DOTALL)


def test_what_it_leaves_behind_in_its_group_is_killed(start: Start, order: Order) -> None:
    process = start()
    lines_until(process, TrainerReady)
    process.send(order("fork"))
    assert "exit code 4" in death_of(process).death.detail
    with pytest.raises(ProcessLookupError):
        for _ in range(100):
            os.killpg(process.pid, 0)
            time.sleep(0.02)


def test_noise_on_its_output_is_not_taken_for_lines(start: Start, order: Order) -> None:
    process = start()
    lines_until(process, TrainerReady)
    process.send(order("spew"))
    assert [line.step for line in lines_until(process, TrainerReady) if isinstance(line, EpochMetrics)] == [1, 2, 3]


def test_a_failure_is_told_without_secrets(start: Start, order: Order) -> None:
    process = start()
    lines_until(process, TrainerReady)
    process.send(order("bad_data"))
    [failure] = [line for line in lines_until(process, TrainerReady) if isinstance(line, Failed)]
    assert failure.detail == "the toy refuses its data at http://toy:***@host/"


def test_noise_without_end_is_silence(start: Start, order: Order) -> None:
    process = start()
    lines_until(process, TrainerReady)
    process.send(order("rant"))
    lines_until(process, EpochMetrics)
    for _ in range(3):
        assert process.read(0.1) is None
    assert process.hung(0.2)


def test_a_line_resets_the_stall_clock(start: Start, order: Order) -> None:
    process = start()
    begun = time.monotonic()
    time.sleep(0.3)
    assert process.hung(0.2)
    lines_until(process, TrainerReady)
    assert not process.hung(time.monotonic() - begun - 0.2)  # the clock began anew, 0.3 s after `begun` or later


def test_a_process_that_ignores_sigterm_is_killed(start: Start, order: Order) -> None:
    process = start()
    lines_until(process, TrainerReady)
    process.send(order("stubborn"))
    lines_until(process, EpochMetrics)
    process.kill()
    assert not process.alive and gone(process.pid)


def test_a_kill_that_does_not_wait_counts_at_once(start: Start, order: Order) -> None:
    process = start()
    lines_until(process, TrainerReady)
    process.send(order("stubborn"))
    lines_until(process, EpochMetrics)
    os.kill(process.pid, signal.SIGSTOP)
    process.kill(wait_seconds=0)
    assert not process.alive
    assert "SIGKILL" in death_of(process).death.detail


def test_all_lines_that_are_there_are_read_at_once(start: Start, order: Order) -> None:
    process = start()
    lines_until(process, TrainerReady)
    process.send(order("train", epochs=200))
    parts = [[line.kind for line in process.read_all(60)]]
    while parts[-1][-1] != "ready":
        time.sleep(0.5)  # so that several lines are there, however slow the child is
        parts.append([line.kind for line in process.read_all(60)])
    assert sum(kinds.count("measured") for kinds in parts) == 200
    assert max(map(len, parts)) > 2 and process.ready
    assert process.read_all(0.05) == []


def test_an_order_longer_than_a_pipe_arrives_whole(start: Start, order: Order) -> None:
    process = start()
    lines_until(process, TrainerReady)
    runs = tuple(order("train") for _ in range(200))
    assert len(BatchedRuns(runs=runs).model_dump_json()) > 65_536
    process.send(BatchedRuns(runs=runs))
    finished = [line for line in lines_until(process, TrainerReady) if isinstance(line, Finished)]
    assert [line.lane for line in finished] == list(range(200))


def test_an_order_to_a_dead_process_says_so(start: Start, order: Order) -> None:
    process = start()
    lines_until(process, TrainerReady)
    os.kill(process.pid, signal.SIGKILL)
    while process.alive:
        time.sleep(0.01)
    with pytest.raises(TrainerDied, match="signal 9"):
        process.send(order("train"))


def test_a_process_that_cannot_start_gives_its_last_words(start: Start) -> None:
    assert "exit code 1: the toy does not start" in death_of(start("--no-start")).death.detail


def test_it_ends_when_its_orders_end(start: Start) -> None:
    process = start()
    lines_until(process, TrainerReady)
    process.close(grace_seconds=10)
    assert process.exit_code == 0


def test_a_run_waits_for_its_answer_and_stops_when_told(start: Start, order: Order) -> None:
    process = start()
    lines_until(process, TrainerReady)
    process.send(order("train").model_copy(update={"decision_steps": (1, 2)}))
    lines_until(process, EpochMetrics)
    assert process.read(0.2) is None
    process.send(PruningDecision(go_on=True))
    assert isinstance(lines_until(process, EpochMetrics)[-1], EpochMetrics)
    process.send(PruningDecision(go_on=False))
    assert lines_until(process, TrainerReady)[-2:] == [Stopped(step=2), TrainerReady()]


def test_a_cancelled_run_stops(start: Start, order: Order) -> None:
    process = start("--slow-epoch", "0.05")
    lines_until(process, TrainerReady)
    process.send(order("endless"))
    lines_until(process, EpochMetrics)
    process.send(Cancel())
    assert isinstance(lines_until(process, TrainerReady)[-2], Stopped)
