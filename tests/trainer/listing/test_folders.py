"""Folders of images: nothing is left out without being counted."""

import os
import socket
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from tests.trainer.listing.data import Tree, config, left_out, numbered, refused
from trainer.data.examples import EXAMPLES, Look
from trainer.data.images.dataset import find
from trainer.data.images.decoding import FORMATS, Decoder
from trainer.data.images.listing import folders, scan
from trainer.tasks.images.config import HEIC_SUFFIXES, IMAGE_SUFFIXES


def test_a_link_to_a_folder_is_followed_once_and_keeps_the_images_in_their_class(tree: Tree, tmp_path: Path) -> None:
    root = tree(*numbered("cat", 3), *numbered("dog", 3))
    elsewhere = tree(*numbered("more", 5), root="elsewhere") / "more"
    (root / "cat" / "a-link").symlink_to(elsewhere)
    (root / "cat" / "b-link").symlink_to(elsewhere)
    found = find(config(root))
    assert sum(found.counts.values()) == 3 + 3 + 5
    assert {file.name for content in found.contents for file in content.files if "link" in file.name} == {
        f"cat/a-link/{i}.png" for i in range(5)
    }
    assert left_out(root) == {folders.READ_ALREADY: (1, ("cat/b-link",))}


def test_a_link_in_a_circle_ends_and_is_counted(tree: Tree) -> None:
    root = tree(*numbered("cat/in", 3), *numbered("dog", 3))
    (root / "cat" / "in" / "circle").symlink_to(root / "cat")
    (root / "cat" / "out").symlink_to(root)
    assert sum(find(config(root)).counts.values()) == 6
    assert left_out(root) == {folders.READ_ALREADY: (2, ("cat/out", "cat/in/circle"))}


def test_a_class_folder_may_be_a_link(tree: Tree) -> None:
    root = tree(*numbered("cat", 3))
    (root / "dog").symlink_to(tree(*numbered("dogs", 3), root="elsewhere") / "dogs")
    assert find(config(root)).classes == ("cat", "dog")


def test_a_folder_that_links_lead_to_from_two_classes_is_refused(tree: Tree) -> None:
    root = tree(*numbered("cat", 3), *numbered("dog", 3))
    (root / "cat" / "dogs").symlink_to(root / "dog")
    code, text = refused(root)
    assert code == "folder_in_two_classes" and "dog" not in text, "the server names no folder that a link may lead to"


def test_every_file_that_is_left_out_is_counted_by_its_reason(tree: Tree) -> None:
    root = tree(
        *numbered("cat", 3),
        *numbered("dog", 3),
        "cat/notes.txt",
        "cat/old.tga",
        "cat/.hidden.png",
        ".cache/x.png",
        "beside.png",
        "README.md",
    )
    (root / "dog" / "gone.png").symlink_to(root / "nowhere.png")
    os.mkfifo(root / "dog" / "pipe.png")
    with closing(socket.socket(socket.AF_UNIX)) as unix:
        unix.bind(os.path.relpath(root / "dog" / "socket.png"))
    assert left_out(root) == {
        "not an image by its suffix": (3, ("README.md", "cat/notes.txt", "cat/old.tga")),
        folders.HIDDEN: (2, (".cache", "cat/.hidden.png")),
        folders.SPECIAL: (2, ("dog/pipe.png", "dog/socket.png")),
        folders.BROKEN: (1, ("dog/gone.png",)),
        folders.BESIDE: (1, ("beside.png",)),
    }


def test_no_more_than_a_few_names_are_kept_of_what_is_left_out(tree: Tree) -> None:
    root = tree(*numbered("cat", 3), *numbered("dog", 3), *numbered("cat", 50, ".txt"))
    [(count, names)] = left_out(root).values()
    assert count == 50 and len(names) == EXAMPLES


def test_the_suffixes_are_those_of_the_formats_that_are_decoded() -> None:
    known = {suffix for suffix, name in Image.registered_extensions().items() if name in FORMATS}
    assert known - IMAGE_SUFFIXES - HEIC_SUFFIXES == {".pfm"}, "floating-point pixels"
    assert known >= IMAGE_SUFFIXES


@pytest.mark.parametrize("suffix", [".jfif", ".avif", ".webp", ".bmp", ".tif", ".jp2", ".ppm", ".qoi", ".heic"])
def test_an_image_of_each_common_format_is_read(suffix: str, tree: Tree) -> None:
    root = tree(*numbered("cat", 3), *numbered("dog", 3))
    for number in range(2):
        Image.fromarray(np.full((16, 16, 3), 80 * number + 40, np.uint8)).save(root / "cat" / f"more-{number}{suffix.upper()}")
    found = find(config(root))
    assert sum(found.counts.values()) == 8 and not found.listing.left_out and found.listing.heic is (suffix == ".heic")
    assert abs(int(Decoder().square((root / "cat" / f"more-0{suffix.upper()}").read_bytes(), 8).mean()) - 40) < 4


def test_heic_files_without_their_reader_are_counted_with_the_way_to_install_it(tree: Tree, monkeypatch: pytest.MonkeyPatch) -> None:
    root = tree(*numbered("cat", 3), *numbered("dog", 3), "cat/phone.heic", "cat/phone.HEIF")
    monkeypatch.setattr(folders, "reads_heic", lambda: False)
    [(reason, (count, _))] = left_out(root).items()
    assert count == 2 and 'pip install "thawline[heic]"' in reason


def test_a_folder_that_cannot_be_read_is_refused_and_not_passed_over(tree: Tree, monkeypatch: pytest.MonkeyPatch) -> None:
    root, scandir = tree(*numbered("cat", 3), *numbered("dog", 3), *numbered("dog/deep", 3)), os.scandir

    def denied(path: Path) -> Any:
        if path.name == "deep":
            raise PermissionError(13, "Permission denied")
        return scandir(path)

    monkeypatch.setattr(os, "scandir", denied)
    code, text = refused(root)
    assert code == "unreadable_data" and "deep" not in text


def test_the_clock_of_a_look_is_asked_for_each_entry_and_each_row(tree: Tree) -> None:
    root = tree(*numbered("cat", 30), *numbered("dog", 30))
    names = [*numbered("cat", 30), *numbered("dog", 30)]
    (root / "all.csv").write_text("path,label\n" + "".join(f"{name},{name[:3]}\n" for name in names))
    for path in (root, root / "all.csv"):
        asked: list[None] = []
        scan(config(path), Look(tick=partial(asked.append, None)))
        assert len(asked) >= 60


def test_the_server_names_no_folder_without_images(tree: Tree) -> None:
    root = tree("divorce-papers/x.txt", *numbered("cat", 1), *numbered("dog", 3))
    code, text = refused(root)
    assert code == "class_too_small" and "cat" in text and "1 folders without any" in text and "divorce" not in text
