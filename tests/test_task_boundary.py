"""Words of one task stay in its package: other modules speak of examples, targets and reports."""

import re
import tokenize
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
WORDS = re.compile(r"(?<![a-z])(?:images?|class(?:es)?|pixels?|confusions?)(?![a-z])", re.IGNORECASE)
OF_TASKS = ("trainer/tasks/image_classification/", "trainer/data/images/", "search_spaces/presets/image_classification/")
NAMES = re.compile(r"\b(?:image_classification|test_images|(?:uplift_)?new_images|smallest_image|image_step|pixels|response_class)\b")
"""The first task, names of version 0.1 in REST answers and files, which hold for any task, and an argument of FastAPI."""


TEXTS = {
    tokenize.NAME,
    tokenize.STRING,
    tokenize.COMMENT,
    getattr(tokenize, "FSTRING_MIDDLE", tokenize.STRING),
}


def words_in(file: Path) -> Iterator[str]:
    """The words in names, strings and comments, each with its line. The keyword `class` is none."""
    with file.open("rb") as source:
        for token in tokenize.tokenize(source.readline):
            if token.type not in TEXTS or token.string == "class":
                continue
            for offset, line in enumerate(token.string.splitlines()):
                for found in WORDS.findall(NAMES.sub("", line)):
                    yield f"{token.start[0] + offset}: {found}"


def sources() -> list[str]:
    """The modules that are not a task's own, relative to the root."""
    found = [path for package in ("service", "trainer", "search_spaces") for path in (ROOT / package).rglob("*.py")]
    names = sorted(path.relative_to(ROOT).as_posix() for path in found if "static" not in path.parts)
    return [name for name in names if not name.startswith(OF_TASKS)]


def test_words_of_one_task_stay_in_its_package() -> None:
    listed = sources()
    assert len(listed) > 150
    found = {name: words for name in listed if (words := list(words_in(ROOT / name)))}
    assert found == {}


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("class Pictures: pass", []), ("subclass = classic", []), ("def f(image_size): ...", ["image"]), ("x = f'{n} images'", ["images"]),
        ("by_class = 1  # of a pixel", ["class", "pixel"]), ("maxPixels = CLASSES", ["CLASSES"]), ("verdict.test_images", []),
    ],
)  # fmt: skip
def test_which_words_are_found(line: str, words: list[str], tmp_path: Path) -> None:
    file = tmp_path / "one.py"
    file.write_text(line + "\n")
    assert [word.partition(": ")[2] for word in words_in(file)] == words


def test_the_service_compares_no_names_of_tasks() -> None:
    compared = re.compile(r"""\btask\s*(?:[=!]=\s*(?:["']|FIRST_TASK)|in\s*[(\[{]["'])""")
    found = [name for name in sources() if name.startswith("service/") and compared.search((ROOT / name).read_text())]
    assert found == []
