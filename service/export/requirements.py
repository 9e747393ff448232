"""The environment of a result as a requirements file."""

from service.domain.export import Exported

NEEDED = ("torch", "torchvision", "numpy", "pillow", "safetensors")


def requirements(exported: Exported) -> str:
    """What `pip install -r` takes: the packages that the metric was reached with, pinned. Thawline itself stands there as a comment."""
    python, thawline = exported.environment.get("python"), exported.lock.get("thawline")
    said = f"{exported.config.model.name} as trial {exported.origin.trial} of its study trained it" + (
        f", with Python {_word(python)}" if python else ""
    )
    lines = [f"# {said}."] + [f"{name}=={_word(exported.lock[name])}" for name in NEEDED if name in exported.lock]
    if exported.facts.listing is not None and exported.facts.listing.heic:
        lines.append("pillow-heif")
    if thawline:
        lines.append(f"# thawline=={_word(thawline)}: for `thaw train` and `thaw verify`; the script does without")
    return "\n".join(lines) + "\n"


def _word(text: str) -> str:
    """A version as it stands in a requirement, whatever a file says."""
    return "".join(character for character in text if character.isascii() and (character.isalnum() or character in ".-_!"))
