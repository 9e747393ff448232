"""A worker that waits for a silent trainer for some seconds only."""

from typing import Any

from service.worker import context

SILENCE_SECONDS = 3.0


def install() -> None:
    patience = context.Patience

    def shorter(**given: Any) -> context.Patience:
        return patience(**given | {"prepare": SILENCE_SECONDS, "stall": SILENCE_SECONDS})

    context.Patience = shorter  # type: ignore[assignment,misc]
