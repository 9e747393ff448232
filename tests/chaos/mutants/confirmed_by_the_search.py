"""The study is complete when its search is, whatever it promised to confirm."""

from service.operations import confirming, endings
from service.store.ledger import Ledger

SCENARIO = "tests/chaos/test_f17_simulation.py"


def plant() -> None:
    def complete_if_spent(ledger: Ledger) -> None:
        if endings.has_nothing_left(ledger):
            endings.complete(ledger)

    endings.complete_if_spent = confirming.complete_if_spent = complete_if_spent  # type: ignore[attr-defined]
