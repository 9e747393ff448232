"""What an exported configuration is worth, in a sentence."""

from service.domain.states import Phase
from service.domain.verdict import Verdict


def note_of(phase: Phase, verdict: Verdict | None, tries: int, example: str) -> str:
    """The sentence at the top of a file. `verdict` is the one that recommends its configuration, `tries` the search's complete trials."""
    if verdict is not None and verdict.expected is not None:
        examples = f"{verdict.test_images} test {example}s that no trial of the search has seen"
        return f"Confirmed: trained again with fresh seeds, and scored on {examples}."
    return f"{_why_not(phase, example)} The value is the best of {tries} {'try' if tries == 1 else 'tries'} and looks better than it is."


def _why_not(phase: Phase, example: str) -> str:
    match phase:
        case "none":
            return (
                "Not confirmed: this study confirms nothing; set confirm, say to {top: 3, seeds: 5}, and data.test, or data.split: given "
                "if the data has a test part of its own."
            )
        case "search":
            return "Not confirmed yet: the search is under way; its best and the baseline are then trained again with fresh seeds."
        case "running":
            again = "the best and the baseline are being trained again with fresh seeds and scored on the test"
            return f"Not confirmed yet: {again} {example}s."
        case "stopped":
            return "Not confirmed: the study ended before its confirmation did."
        case "done":
            return "Not confirmed: none of the configurations came through its confirmation."
