"""Checkpoint files on this machine: where a trial's lie, and which of them nobody needs any more.

`<home>/checkpoints/<study>/<number>/e<attempt>/`, and in each study's folder the name of the database that it belongs to:
machines and workers may share a home and not a database.
"""

import hashlib
import logging
import shutil
from collections.abc import Iterable
from pathlib import Path

from service.domain.errors import StudyNotFound, StudyUnreadable, TrialNotFound
from service.domain.records import Lease
from service.store import Store, queries
from trainer.contract import Checkpoint

log = logging.getLogger(__name__)

OWNER = "database"
KEPT = 2  # while a trial runs: one may turn out to be damaged


class Shelf:
    """The folder of all checkpoints of one database's studies on this machine."""

    def __init__(self, root: Path, database_url: str) -> None:
        self._root = root
        self._owner = hashlib.sha256(database_url.encode()).hexdigest()[:16]

    def folder(self, lease: Lease) -> Path:
        """Where an attempt puts its files; the study's folder is made and marked as ours."""
        study = self._root / lease.study
        study.mkdir(parents=True, exist_ok=True)
        (study / OWNER).write_text(self._owner)
        return study / str(lease.number) / f"e{lease.attempt}"

    def remove(self, superseded: Iterable[Checkpoint]) -> None:
        """Remove files that the store says no more, where they are ours."""
        for checkpoint in superseded:
            path = Path(checkpoint.path)
            if path.is_relative_to(self._root):
                path.unlink(missing_ok=True)

    def sweep(self, store: Store) -> None:
        """Remove what nobody needs: all of deleted studies, all but the newest checkpoint of ended trials. Raises StoreUnavailable."""
        for owner in self._root.glob(f"*/{OWNER}"):
            if owner.read_text() == self._owner:
                self._sweep_study(store, owner.parent)

    def _sweep_study(self, store: Store, folder: Path) -> None:
        try:
            study = store.read(queries.find_study, folder.name)
        except StudyNotFound:
            log.info("removing the checkpoints of study %s, which was deleted", folder.name)
            shutil.rmtree(folder, ignore_errors=True)
            return
        except StudyUnreadable:
            return  # a version that can read it may want them
        for trial_folder in folder.iterdir():
            if not trial_folder.name.isdecimal():
                continue
            try:
                trial = store.read(queries.find_trial, study.id, int(trial_folder.name))
            except TrialNotFound:
                continue
            if trial.state.terminal:
                _keep_only(trial_folder, trial.checkpoints[:1])
        if study.state.terminal and [path.name for path in folder.iterdir()] == [OWNER]:
            shutil.rmtree(folder, ignore_errors=True)


def _keep_only(folder: Path, kept: Iterable[Checkpoint]) -> None:
    """Remove every other file below the folder, half-written ones included, and the folders that are empty then."""
    names = {Path(checkpoint.path) for checkpoint in kept}
    for path in sorted(folder.rglob("*"), reverse=True):
        if path.is_dir():
            if not any(path.iterdir()):
                path.rmdir()
        elif path not in names:
            path.unlink(missing_ok=True)
