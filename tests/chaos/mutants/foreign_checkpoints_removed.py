"""Checkpoints marked by the text of the URL are removed where their study is unknown, though two databases may have that text."""

from pathlib import Path

SCENARIO = "tests/chaos/test_f18_homes.py -k sqlite"


def plant() -> None:
    from service.store import Store
    from service.worker.home import CheckpointFolder

    sweep_study = CheckpointFolder._sweep_study

    def always_sure(self: CheckpointFolder, store: Store, folder: Path, *, sure: bool) -> None:
        sweep_study(self, store, folder, sure=True)

    CheckpointFolder._sweep_study = always_sure  # type: ignore[method-assign]
