"""A worker that waits for a silent trainer for some seconds only."""

from typing import Any

from service.worker import context

SILENCE_SECONDS = 3.0


def install() -> None:
    patience = context.Timeouts

    def shorter(**given: Any) -> context.Timeouts:
        return patience(**given | {"prepare": SILENCE_SECONDS, "stall": SILENCE_SECONDS})

    context.Timeouts = shorter  # type: ignore[assignment,misc]
