"""Large answers that many ask for at one time, made once."""

from service.single_flight import SingleFlightCache

MOST_ANSWER_BYTES = 16 * 1024 * 1024

Answers = SingleFlightCache[tuple[str | int, ...], bytes]
"""Bodies by all they follow from: what is asked, of which study, at which of its events."""


def shared_answers() -> Answers:
    """A place for some answers."""
    return Answers(MOST_ANSWER_BYTES, len)
