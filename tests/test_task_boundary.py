"""Words of one input or of one target stay in its packages: other modules speak of examples, targets and reports."""

import re
import tokenize
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
OF_IMAGES, OF_CLASSES = "images?|pixels?", "class(?:es)?|confusions?"
IMAGES_MAY, CLASSES_MAY = {OF_IMAGES}, {OF_CLASSES}
MAY = {
    "trainer/tasks/image_classification/": IMAGES_MAY | CLASSES_MAY,
    "search_spaces/presets/image_classification/": IMAGES_MAY | CLASSES_MAY,
    "trainer/data/images/": IMAGES_MAY | CLASSES_MAY,  # folders and tables of labelled images
    "trainer/tasks/images/networks/": IMAGES_MAY | CLASSES_MAY,  # networks pretrained on classes, with torchvision's arguments
    "trainer/tasks/images/": IMAGES_MAY,
    "trainer/tasks/image_regression/": IMAGES_MAY,
    "trainer/tasks/image_multilabel/": IMAGES_MAY,
    "trainer/targets/classes/": CLASSES_MAY,
    "trainer/tasks/text_classification/": CLASSES_MAY,
}
"""Package to the words that it may use, the first that is its own or contains it."""
NAMES = re.compile(
    r"\b(?:image_classification|test_images|(?:uplift_)?new_images|image_regression|image_multilabel|smallest_image|image_step|pixels|response_class)\b"
)
"""The tasks of images, names of version 0.1 in REST answers and files, which hold for any task, and an argument of FastAPI."""
KEPT: dict[str, tuple[str, ...]] = {
    "trainer/targets/classes/card.py": (
        "images: int = Field(",
        "images=int(",
        "one.images)",
    ),  # a field of exported files since version 0.1
    "service/web/catalogue.py": ("import trainer.tasks.images.catalogue",),  # the only models that the server lists
}
"""Text of lines that are left out, by module."""
TEXTS = {
    tokenize.NAME,
    tokenize.STRING,
    tokenize.COMMENT,
    getattr(tokenize, "FSTRING_MIDDLE", tokenize.STRING),
}


def words_in(file: Path, may: set[str] | None = None, kept: tuple[str, ...] = ()) -> Iterator[str]:
    """The words in names, strings and comments, without those that are allowed, each with its line. The keyword `class` is none."""
    forbidden = "|".join(sorted({OF_IMAGES, OF_CLASSES} - (may or set())))
    words = re.compile(rf"(?<![a-z])(?:{forbidden})(?![a-z])", re.IGNORECASE)
    with file.open("rb") as source:
        for token in tokenize.tokenize(source.readline):
            if token.type not in TEXTS or token.string == "class" or any(one in token.line for one in kept):
                continue
            for offset, line in enumerate(token.string.splitlines()):
                for found in words.findall(NAMES.sub("", line)):
                    yield f"{token.start[0] + offset}: {found}"


def sources() -> dict[str, set[str]]:
    """The modules by their path from the root, without those that may use any word, with the words that each may use."""
    found = [path for package in ("thawline", "service", "trainer", "search_spaces") for path in (ROOT / package).rglob("*.py")]
    names = sorted(path.relative_to(ROOT).as_posix() for path in found if "static" not in path.parts)
    may = {name: next((words for folder, words in MAY.items() if name.startswith(folder)), set[str]()) for name in names}
    return {name: words for name, words in may.items() if words != {OF_IMAGES, OF_CLASSES}}


def test_words_of_one_input_or_target_stay_in_its_packages() -> None:
    listed = sources()
    assert len(listed) > 150 and {OF_IMAGES} in listed.values() and {OF_CLASSES} in listed.values()
    found = {name: words for name, may in listed.items() if (words := list(words_in(ROOT / name, may, KEPT.get(name, ()))))}
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
    assert [word.partition(": ")[2] for word in words_in(file, {OF_CLASSES})] == [
        word for word in words if not word.lower().startswith("class")
    ]


def test_the_service_compares_no_names_of_tasks() -> None:
    compared = re.compile(r"""\btask\s*(?:[=!]=\s*(?:["']|FIRST_TASK)|in\s*[(\[{]["'])""")
    found = [name for name in sources() if name.startswith("service/") and compared.search((ROOT / name).read_text())]
    assert found == []
