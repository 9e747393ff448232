"""Weights files that are made to take time or memory are refused within bounds, by a child process that has no more than these."""

import json
import os
import struct
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

CPU_SECONDS, MEMORY, GROWTH = 30, 1 << 30, 150 << 20  # bytes; the interpreter with our imports takes some of it
LOOK = f"""
import resource, sys
from pathlib import Path
from service.domain.parsing import parse_study
from service.inspection import weights_faults

spec = parse_study({{
    "name": "bomb", "data": {{"path": "/nowhere"}}, "model": {{"name": "squeezenet1_1", "weights": sys.argv[1]}},
    "search_space": {{"lr": {{"type": "float", "low": 0.1, "high": 1.0}}}},
    "objective": {{"metric": "accuracy", "direction": "maximize"}}, "budget": {{"trials": 1}},
}})
resource.setrlimit(resource.RLIMIT_CPU, ({CPU_SECONDS}, {CPU_SECONDS}))
resource.setrlimit(resource.RLIMIT_AS, ({MEMORY}, {MEMORY}))
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
faults = list(weights_faults(spec))
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before, *(fault.code for fault in faults), *(fault.message for fault in faults))
"""
LEGACY_START = (
    b"\x80\x02\x8a\x0al\xfc\x9cF\xf9 j\xa8P\x19.\x80\x02M\xe9\x03.\x80\x02}q\x00."  # the magic number, the version, an empty system
)
NAME = b"X\x01\0\0\0a"
TENSOR = b"ctorch._utils\n_rebuild_tensor_v2\nq\x01"
STORAGE = b"(X\x07\0\0\0storagectorch\nFloatStorage\nX\x01\0\0\x000X\x03\0\0\0cpuK\x01tQ"


def halves(levels: int) -> bytes:
    """A tuple of tuples that share their halves, as a key: hashing it takes 2^levels steps."""
    return b"\x80\x02}" + NAME + b"2\x86" * levels + b"K\x01s."


def memo(index: int) -> bytes:
    return b"\x80\x02}r" + struct.pack("<I", index) + NAME + b"K\x01s."


def copied_tuples(count: int) -> bytes:
    size = b"(" + b"K\x01" * 250 + b"tq\x02"
    one = b"h\x01(" + STORAGE + b"K\x00h\x02h\x02\x89NtR"
    return b"\x80\x02" + TENSOR + b"0" + size + b"0}(" + b"".join(b"X\x04\0\0\0%04d" % number + one for number in range(count)) + b"u."


def colliding_numbers() -> bytes:
    keys = b"".join(b"\x8a\x0a" + (number * (2**61 - 1)).to_bytes(10, "little") + b"N" for number in range(1, 100_000))
    return b"\x80\x02}(" + keys + b"u."


def repeated_calls(function: bytes, arguments: bytes, count: int) -> bytes:
    """One tuple of arguments, from the memo, given to the function again and again; every result is kept."""
    return b"\x80\x02}(" + function + b"q\x01" + arguments + b"q\x02" + b"h\x01h\x02R" * count + b"t."


def pairs(count: int) -> bytes:
    return b"](" + b"".join(b"X\x06\0\0\0%06dN\x86" % number for number in range(count)) + b"e\x85"


def packed(pickle: bytes, compression: int = zipfile.ZIP_STORED) -> Callable[[Path], None]:
    def write(file: Path) -> None:
        with zipfile.ZipFile(file, "w", compression) as archive:
            archive.writestr("archive/data.pkl", pickle)

    return write


def before_1_6(pickle: bytes) -> Callable[[Path], None]:
    def write(file: Path) -> None:
        file.write_bytes(LEGACY_START + pickle + b"\x80\x02]q\x00.")

    return write


def sparse_header(file: Path) -> None:
    with file.open("wb") as opened:
        opened.write(struct.pack("<Q", 100 * 2**20) + b"{")
        opened.truncate(2**40)


def many_tensors(file: Path) -> None:
    entries = {f"t{number}": {"dtype": "F32", "shape": [0], "data_offsets": [0, 0]} for number in range(100_000)}
    header = json.dumps(entries).encode()
    file.write_bytes(struct.pack("<Q", len(header)) + header)


def small_tensors(file: Path) -> None:
    """As many entries as the bound on the header lets through."""
    header = b"{" + b",".join(b'"%x":{"dtype":"U8","shape":[],"data_offsets":[0,0]}' % number for number in range(38_000)) + b"}"
    file.write_bytes(struct.pack("<Q", len(header)) + header)


def many_dimensions(file: Path) -> None:
    """A tensor whose number of values has two million digits."""
    header = json.dumps({"a": {"dtype": "F32", "shape": [2**48 - 1] * 120_000, "data_offsets": [0, 0]}}).encode()
    file.write_bytes(struct.pack("<Q", len(header)) + header)


def false_directory(file: Path) -> None:
    """The end of an archive that names a directory of 3 GB in a sparse file."""
    size = 3 * 2**30
    with file.open("wb") as opened:
        opened.write(b"PK\x03\x04")
        opened.truncate(size + 100)
        opened.seek(size + 100)
        opened.write(struct.pack("<4s4H2LH", b"PK\x05\x06", 0, 0, 65_535, 65_535, size, 100, 0))


def many_files(file: Path) -> None:
    with zipfile.ZipFile(file, "w") as archive:
        for number in range(60_000):
            archive.writestr(f"a/{number}", b"")
        archive.writestr("a/data.pkl", b"\x80\x02}.")


BOMBS: dict[str, Callable[[Path], None]] = {
    "halves": packed(halves(64)),
    "halves before 1.6": before_1_6(halves(64)),
    "memo": packed(memo(30_000_000)),
    "largest memo": packed(memo(2**32 - 1)),
    "copied tuples": packed(copied_tuples(400)),
    "repeated arguments": packed(repeated_calls(TENSOR.removesuffix(b"q\x01"), b"(" + b"N" * 480_000 + b"t", 170_000)),
    "repeated pairs": packed(repeated_calls(b"ccollections\nOrderedDict\n", pairs(2_000), 300_000)),
    "repeated pairs before 1.6": before_1_6(repeated_calls(b"ccollections\nOrderedDict\n", pairs(2_000), 300_000)),
    "repeated text": packed(
        repeated_calls(b"c_codecs\nencode\n", b"X" + struct.pack("<I", 4_000_000) + b"a" * 4_000_000 + b"\x85", 300_000)
    ),
    "repeated state": packed(b"\x80\x02" + pairs(100_000) + b"q\x01ccollections\nOrderedDict\n)R" + b"h\x01b" * 300_000 + b"."),
    "many opcodes": packed(b"\x80\x02" + b"N" * 7_000_000 + b"."),
    "colliding numbers": packed(colliding_numbers()),
    "deflated": packed(b"\x80\x02}" + b"N0" * 100_000_000 + b".", zipfile.ZIP_DEFLATED),
    "a deep dict": packed(b"\x80\x02" + (b"}" + NAME) * 100_000 + b"}" + b"s" * 100_000 + b"."),
    "a header without end": sparse_header,
    "many tensors": many_tensors,
    "small tensors": small_tensors,
    "a header of many dimensions": many_dimensions,
    "a false directory": false_directory,
    "many files": many_files,
}


def look(file: Path) -> tuple[int, str]:
    """How many bytes the look at the file took besides the interpreter, and the fault. Fails beyond the bounds on time and memory."""
    done = subprocess.run(
        [sys.executable, "-c", LOOK, str(file)], capture_output=True, text=True, env={**os.environ, "PYTHONHASHSEED": "0"}, check=False
    )
    assert done.returncode == 0, done.stderr[-500:]
    kilobytes, _, fault = done.stdout.partition(" ")
    return int(kilobytes) * 1024, fault


@pytest.mark.parametrize("bomb", BOMBS)
def test_a_bomb_is_refused_within_bounds(tmp_path: Path, bomb: str) -> None:
    file = tmp_path / ("bomb.safetensors" if "tensors" in bomb or "header" in bomb else "bomb.pt")
    BOMBS[bomb](file)
    grown, fault = look(file)
    assert fault.startswith(("unreadable_weights", "unfit_weights")), fault
    assert grown < GROWTH, f"{grown >> 20} MB"


@pytest.mark.parametrize("target", ["/dev/zero", "/dev/stdin", "pipe", "folder"])
def test_a_special_file_is_refused(tmp_path: Path, target: str) -> None:
    file = tmp_path / "weights.pt"
    if target == "pipe":
        os.mkfifo(file)
    elif target == "folder":
        file.mkdir()
    else:
        file.symlink_to(target)
    _, fault = look(file)
    assert fault.startswith("unreadable_weights") and "not a regular file" in fault
