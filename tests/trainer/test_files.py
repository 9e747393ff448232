"""Opening files that a study names: regular files only, within a bound."""

import io
import os
import socket
from collections.abc import Callable
from itertools import count
from pathlib import Path

import pytest

from trainer.files import UnfitFile, bounded_lines, open_regular, read_regular


def make_pipe(path: Path) -> None:
    os.mkfifo(path)


def make_socket(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as made:
        made.bind(str(path))


def link_to(target: str) -> Callable[[Path], None]:
    return lambda path: path.symlink_to(target)


@pytest.mark.parametrize(
    ("make", "kind"),
    [
        (make_pipe, "a named pipe"),
        (make_socket, "a socket"),
        (Path.mkdir, "a folder"),
        (link_to("/dev/zero"), "a character device"),
    ],
)
def test_a_special_file_is_refused_by_its_kind(tmp_path: Path, make: Callable[[Path], None], kind: str) -> None:
    make(tmp_path / "it")
    with pytest.raises(UnfitFile) as caught:
        open_regular(tmp_path / "it", 100)
    assert caught.value.strerror == f"it is {kind}, not a regular file"


@pytest.mark.parametrize(("make", "kind"), [(make_pipe, "a named pipe"), (link_to("/dev/zero"), "a character device")])
def test_a_file_that_becomes_special_before_it_is_opened_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, make: Callable[[Path], None], kind: str
) -> None:
    path = tmp_path / "weights.pth"
    path.write_bytes(b"sound")
    look = os.stat

    def swap(*args: object, **options: object) -> os.stat_result:
        status = look(*args, **options)  # type: ignore[arg-type]
        path.unlink()
        make(path)
        return status

    monkeypatch.setattr(os, "stat", swap)
    with pytest.raises(UnfitFile, match=kind):
        open_regular(path, 100)


def test_a_sparse_file_is_refused_by_its_size(tmp_path: Path) -> None:
    with (tmp_path / "huge.csv").open("wb") as file:
        file.truncate(2**40)
    with pytest.raises(UnfitFile) as caught:
        read_regular(tmp_path / "huge.csv", 2**20)
    assert caught.value.strerror == "it is larger than 1 MB"


def test_a_file_that_grows_while_it_is_read_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "it"
    path.write_bytes(b"123")
    assert read_regular(path, 3) == b"123"
    look, looks = os.fstat, count(1)

    def grow(descriptor: int) -> os.stat_result:
        status = look(descriptor)
        if next(looks) == 2:  # the first is of open_regular
            path.write_bytes(b"1234")
        return status

    monkeypatch.setattr(os, "fstat", grow)
    with pytest.raises(UnfitFile, match="grew"):
        read_regular(path, 3)


def test_a_missing_file_is_missing(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        open_regular(tmp_path / "none", 100)


def test_an_empty_file_is_read(tmp_path: Path) -> None:
    (tmp_path / "it").touch()
    assert read_regular(tmp_path / "it", 3) == b""


def test_a_line_without_end_is_refused_before_it_is_read() -> None:
    assert list(bounded_lines(io.StringIO("a\nbc\nd", newline=""), 3)) == ["a\n", "bc\n", "d"]
    endless = io.StringIO("x" * 1_000_000)
    with pytest.raises(UnfitFile, match="line of more than 10 characters"):
        list(bounded_lines(endless, 10))
    assert endless.tell() == 11
