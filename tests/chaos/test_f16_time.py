"""F16: ten times the input takes about ten times as long, whatever the input: patterns, documents, addresses."""

import importlib
import json
import pkgutil
import re
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

import search_spaces
import service
import trainer
from search_spaces import Faulty
from search_spaces.documents import MAX_BYTES, from_json, from_yaml
from service.web.auth import HOST
from service.web.trials import prefers_text

TEXT = 100_000  # characters given to each pattern
SHORT = 10_000
RATIO = 10
WORST = 4.0  # times what is in proportion: a quadratic one takes ten times that
NOISE_SECONDS = 0.005  # below this, a machine that does other things too measures itself
TRIES = 5

HOSTILE: dict[str, Callable[[int], str]] = {
    "letters": lambda count: "a" * count,
    "digits": lambda count: "9" * count,
    "digits and an end that does not fit": lambda count: "9" * (count - 1) + "!",
    "dots": lambda count: "." * count,
    "zeros and dots": lambda count: "0." * (count // 2),
    "exponents": lambda count: "1e" * (count // 2),
    "prefixes": lambda count: "module." * (count // 7) + "!",
    "colons": lambda count: "[" + ":" * (count - 1),
    "quotes": lambda count: '"' * count,
    "escaped quotes": lambda count: '"' + '\\"' * (count // 2),
    "backslashes": lambda count: '"' + "\\" * (count - 1),
    "brackets": lambda count: "[" * count,
    "escapes": lambda count: "\x1b[" * (count // 2),
    "unfinished escapes": lambda count: "\x1b[" + "0;" * (count // 2),
    "words in lines": lambda count: "model name " * (count // 11),
    "lines": lambda count: "\n" * count,
    "spaces": lambda count: " " * count,
    "GPUs": lambda count: "GPU 0: (UUID: GPU-" * (count // 18),
    "allocations": lambda count: "Tried to allocate 1.1.1. " * (count // 25),
    "addresses": lambda count: "http://a" * (count // 8),
}
"""Texts that make careless patterns go back and try again."""


def patterns() -> Iterator[tuple[str, re.Pattern[str]]]:
    """Every compiled pattern of ours."""
    for package in (search_spaces, service, trainer):
        for found in pkgutil.walk_packages(package.__path__, f"{package.__name__}."):
            if not found.name.endswith("__main__"):
                module = importlib.import_module(found.name)
                yield from ((f"{found.name}.{name}", value) for name, value in vars(module).items() if isinstance(value, re.Pattern))


def seconds(work: Callable[[], object]) -> float:
    """Of this thread's own time on the processor."""
    started = time.thread_time()
    work()
    return time.thread_time() - started


def assert_in_proportion(what: str, work: Callable[[str], object], text: Callable[[int], str], short: int) -> float:
    """How many times as long ten times the text takes; on a busy machine the best of some tries. What takes no time is in proportion."""
    long_text, short_text = text(short * RATIO), text(short)
    long, brief = float("inf"), float("inf")
    for _ in range(TRIES):
        long, brief = min(long, seconds(lambda: work(long_text))), min(brief, seconds(lambda: work(short_text)))
        if long < NOISE_SECONDS or long <= brief * RATIO * WORST:
            return 0.0 if long < NOISE_SECONDS else long / brief
    raise AssertionError(f"T15: {what}: {RATIO} times the input takes {long / brief:.0f} times as long ({long:.3f} s)")


def test_each_pattern_of_ours_takes_time_in_proportion(capsys: pytest.CaptureFixture[str]) -> None:
    """T15: searched for, matched, and found all over, in texts of 10,000 and 100,000 characters."""
    known = dict(patterns())
    assert len(known) >= 12 and HOST in known.values()
    worst = 0.0
    for name, pattern in known.items():
        for kind, text in HOSTILE.items():

            def work(given: str, pattern: re.Pattern[Any] = pattern) -> None:
                encode = str.encode if isinstance(pattern.pattern, bytes) else str
                pattern.match(encode(given))
                if not pattern.pattern.endswith(encode(r"\Z")):  # those are for whole texts
                    pattern.sub(encode(""), encode(given))

            worst = max(worst, assert_in_proportion(f"{name} on {kind}", work, text, TEXT // RATIO))
    with capsys.disabled():
        print(json.dumps({"scenario": "F16 patterns", "patterns": len(known), "texts": len(HOSTILE), "worst ratio": round(worst, 1)}))


DOCUMENTS: dict[str, Callable[[int], str]] = {
    "a long text": lambda count: json.dumps({"a": "x" * count}),
    "a long list": lambda count: "[" + "1," * (count // 2) + "1]",
    "many keys": lambda count: json.dumps({f"k{place}": 1 for place in range(count // 10)}),
    "many NaNs": lambda count: "[" + "NaN," * (count // 4) + "1]",
    "many empty lists": lambda count: "[" + "[]," * (count // 3) + "1]",
    "many escapes": lambda count: '["' + "\\u0041" * (count // 6) + '"]',
    "a long comment": lambda count: "# " + "x" * count + "\n1",
    "many lines": lambda count: "a: >\n" + " x\n" * (count // 3),
    "a long key": lambda count: "? " + "a" * count + "\n: 1",
}


def read(reader: Callable[[str], object]) -> Callable[[str], object]:
    def work(text: str) -> object:
        try:
            return reader(text)
        except Faulty:
            return None

    return work


@pytest.mark.parametrize("reader", [from_json, from_yaml, prefers_text])
def test_each_reader_of_documents_takes_time_in_proportion(reader: Callable[[str], object]) -> None:
    """T13, T15: JSON as long as a body may be; YAML, which is slow at its best, less."""
    longest: dict[Callable[[str], object], int] = {from_json: MAX_BYTES // RATIO // 2, from_yaml: 1_500}
    for short in (1_000, longest.get(reader, SHORT)):  # what is out of proportion shows itself before it takes an hour
        for kind, text in (HOSTILE | DOCUMENTS).items():
            assert_in_proportion(f"{reader.__name__} of {kind}", read(reader), text, short)
