"""Make text from outside safe to show in terminals and pages."""

import re

ESCAPES = re.compile(
    r"\x1b\[[0-?]*[ -/]*[@-~]"  # CSI: colours, cursor
    r"|\x1b[\]PX^_][^\x07\x1b\n]*(?:\x07|\x1b\\)?"  # OSC and other strings: titles, links, the clipboard
    r"|\x1b[ -/]*[0-~]"
)
CONTROLS = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069]")  # includes direction overrides


def clean(text: str) -> str:
    """Remove escape sequences, control characters and direction overrides. Keeps newlines and tabs. Idempotent."""
    return CONTROLS.sub("", ESCAPES.sub("", text))
