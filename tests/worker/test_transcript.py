"""What a process printed, made fit to be read by anyone."""

import threading
import time

import pytest

from service.worker.logs import LONGEST_LINE, MOST_BYTES, LogSanitizer

SECRETS = {
    "THAW_TOKEN": "correct-horse-battery",
    "HF_PASSWORD": "pa$$(word",
    "A_KEY": "1",
    "PEM_SECRET": "-----\nline-of-the-key\n",
    "HOME": "/root",
}


@pytest.fixture
def transcript() -> LogSanitizer:
    return LogSanitizer(SECRETS)


@pytest.mark.parametrize(
    ("printed", "shown"),
    [
        (b"\x1b[1;31mred\x1b[0m and \x1b[2Kplain\n", "red and plain\n"),
        (b"\x1b]0;a title\x07\x1b]8;;http://x\x1b\\link\x1b]8;;\x1b\\\n", "link\n"),
        (b"\x1b]an unended string\nthe next line\n", "\nthe next line\n"),
        (b"nul \x00 bell \x07 delete \x7f tab\t.\n", "nul  bell  delete  tab\t.\n"),
        (b"10 %\r50 %\r100 %\n", "100 %\n"),
        (b"as Windows does\r\n", "as Windows does\n"),
        (b"\xed\xa0\x80 \xff \xc3\xa4\n", "\ufffd\ufffd\ufffd \ufffd ä\n"),
        ("\u202eturned round\u2066\u2028\x9b31m\n".encode(), "turned round31m\n"),
        (b"token correct-horse-battery, pa$$(word, line-of-the-key, 1 in /root\n", "token ***, ***, ***, 1 in /root\n"),
        (b"correct-\x1b[1mhorse-battery\n", "***\n"),
        (b"postgresql://thaw:hunter2@db/x and http://a:8000/@b\n", "postgresql://thaw:***@db/x and http://a:8000/@b\n"),
    ],
)
def test_lines_are_clean(transcript: LogSanitizer, printed: bytes, shown: str) -> None:
    transcript.add(printed)
    assert transcript.take() == shown
    assert transcript.take() == ""


def test_a_line_is_taken_when_it_has_its_end_or_when_all_is_asked_for(transcript: LogSanitizer) -> None:
    transcript.add(b"whole\nhal")
    assert transcript.take() == "whole\n"
    transcript.add_line(b"from elsewhere\n")
    assert transcript.take() == "from elsewhere\n"
    transcript.add(b"f")
    assert transcript.take(whole=True) == "half\n"


def test_a_line_without_an_end_is_broken_where_no_secret_breaks(transcript: LogSanitizer) -> None:
    transcript.add((LONGEST_LINE - 10) * b"x" + b" correct-horse-bat")
    assert transcript.take() == (LONGEST_LINE - 10) * "x" + "\n"
    transcript.add(b"tery\n")
    assert transcript.take() == "***\n"
    transcript.add((3 * LONGEST_LINE) * b"y")
    assert transcript.take() == 3 * (LONGEST_LINE * "y" + "\n")


def test_of_a_flood_the_newest_lines_stay_and_the_others_are_counted(transcript: LogSanitizer) -> None:
    for number in range(100_000):
        transcript.add(b"%99d\n" % number)
    assert transcript.overflows
    first, *rest = transcript.take().splitlines()
    assert [int(line) for line in rest] == list(range(100_000 - len(rest), 100_000))
    assert first == f"... {100_000 - len(rest):,} lines were dropped ({100 * (100_000 - len(rest)):,} bytes)"
    assert MOST_BYTES - 200 < 100 * len(rest) <= MOST_BYTES
    assert not transcript.overflows


def test_a_flood_without_an_end_is_bounded(transcript: LogSanitizer) -> None:
    for _ in range(1_000):
        transcript.add(65_536 * b"z")
    assert len(transcript.take(whole=True)) < 2 * MOST_BYTES


def test_the_last_words_are_those_since_the_last_order_without_progress(transcript: LogSanitizer) -> None:
    transcript.add(b"imported\n")
    transcript.forget()
    transcript.add(b"2026-11-22T09:30:00Z INFO trainer: epoch 1\n\nTraceback:\n  \x1b[31mcorrect-horse-battery\x1b[0m\n")
    transcript.take()
    assert transcript.last_lines() == "Traceback:\n  ***"


def test_hostile_text_takes_time_in_proportion_to_its_length() -> None:
    def seconds(size: int, part: bytes) -> float:
        transcript = LogSanitizer(SECRETS)
        transcript.add((size // len(part)) * part)
        begun = time.perf_counter()
        transcript.take(whole=True)
        return time.perf_counter() - begun

    for part in (b"\x1b]", b"\x1b[", b"\x1b[0", b"://", b"://a:", b"\r", b"correct-horse-", b"\xff", b"\n"):
        small = min(seconds(20_000, part) for _ in range(3))
        assert min(seconds(200_000, part) for _ in range(3)) < 100 * small + 0.05, part


def test_many_threads_may_add(transcript: LogSanitizer) -> None:
    def add() -> None:
        for _ in range(1_000):
            transcript.add_line(b"a line\n")

    threads = [threading.Thread(target=add) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert transcript.take() == 4_000 * "a line\n"
