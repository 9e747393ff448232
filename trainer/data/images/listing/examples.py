"""What a listing of images consists of, and which files are images by their names."""

import importlib.util
import os
from dataclasses import dataclass

from trainer.configuration import ListingFacts
from trainer.data.examples import Example, Look
from trainer.tasks.image_classification.config import HEIC_SUFFIXES, IMAGE_SUFFIXES

NO_HEIC_READER = 'HEIC, which needs the package pillow-heif: pip install "thawline[heic]"'


@dataclass(frozen=True, slots=True, eq=False)
class Scan:
    """The images of a folder or table. `classes` is sorted; a class folder without images is a class too."""

    classes: tuple[str, ...]
    examples: tuple[Example, ...]
    facts: ListingFacts


def is_image(look: Look, name: str) -> bool:
    """Whether a file of that name is read; if not, it is counted."""
    suffix = os.path.splitext(name)[1].lower()
    if suffix in IMAGE_SUFFIXES or (suffix in HEIC_SUFFIXES and reads_heic()):
        return True
    look.leave_out(NO_HEIC_READER if suffix in HEIC_SUFFIXES else "not an image by its suffix", name)
    return False


def reads_heic() -> bool:
    """Whether HEIC files can be read here. A server without Pillow takes it that the workers can."""
    return importlib.util.find_spec("pillow_heif") is not None or importlib.util.find_spec("PIL") is None
