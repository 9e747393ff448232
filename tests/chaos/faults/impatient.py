"""A worker that waits for a silent trainer for some seconds only."""

from typing import Any

from service.worker import place

SILENCE_SECONDS = 3.0


def install() -> None:
    patience = place.Patience

    def shorter(**given: Any) -> place.Patience:
        return patience(**given | {"prepare": SILENCE_SECONDS, "stall": SILENCE_SECONDS})

    place.Patience = shorter  # type: ignore[assignment,misc]
