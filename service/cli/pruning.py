"""`thaw study pruning`: what pruning saved, and what another pruner would have done."""

from service.cli.console import console, table
from service.client import Client
from service.domain.hindsight import Replayed
from service.settings import Settings


def show_pruning(settings: Settings, name: str) -> None:
    """The sentences, then a line for each pruner."""
    with Client(settings.server, settings.token) as client:
        found = client.pruning(name)
    out = console()
    for sentence in found.words:
        out.print(sentence, markup=False)
    if found.pruners:
        out.print(table(("pruner", "the winner", "its best", "pruned", "epochs"), map(_row, found.pruners)))


def _row(one: Replayed) -> tuple[str, ...]:
    best = "-" if one.winner is None else f"trial {one.winner}"
    return one.label + (" (the study's)" if one.own else ""), _fate(one), best, str(one.trials_pruned), _span(*one.epochs)


def _fate(one: Replayed) -> str:
    if one.likely is None:
        return "-"
    word = "kept" if one.likely else "pruned"
    return word if one.kept_winner is not None else f"perhaps {word}"


def _span(least: int, most: int) -> str:
    return str(least) if least == most else f"{least} to {most}"
