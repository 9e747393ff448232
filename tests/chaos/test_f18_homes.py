"""F18: databases that share a THAW_HOME. A worker neither delivers, drops nor removes what belongs to another database."""

import hashlib
import json
from contextlib import closing
from pathlib import Path

from service import operations
from service.domain.records import Study
from service.domain.states import TrialState
from service.operations import Write
from service.store import Store, open_store, queries
from service.store.migrate import upgrade
from service.worker.home import WRITES, Spool
from tests.chaos.checker import check
from tests.chaos.conftest import MakeLab
from tests.chaos.lab import Lab
from tests.operations.driving import FACTS, claim_one, finished, report, searches_of, spec_of
from trainer.protocol import Checkpoint

BY_TEXT = hashlib.sha256(b"sqlite:///thawline.db").hexdigest()[:16]
"""How version 0.1 marked checkpoints: both databases may have been named by this text."""


def test_a_worker_of_another_database_with_the_same_home_changes_nothing(make_lab: MakeLab, tmp_path: Path) -> None:
    """I1, I34: results in the spool and checkpoints wait for their own database, those of version 0.1 too."""
    lab = make_lab(lease_seconds=120.0)
    study = operations.pass_check(lab.store, lab.study(trials=2, epochs=3).id, FACTS)
    marked, unmarked = ended(lab, study), ended(lab, study)
    own(lab, lab.store).keep(marked)
    spool_as_version_0_1(lab, unmarked)
    (lab.home / "checkpoints" / study.id / "database").write_text(BY_TEXT)
    lab.counts["results spooled"] = 2

    url = f"sqlite:///{tmp_path / 'foreign.db'}"
    upgrade(url)
    with closing(open_store(url)) as foreign:
        deleted = leave_something_of_a_deleted_study(lab, foreign)
        stranger = lab.work(THAW_DATABASE_URL=url)
        lab.until(lambda: not deleted.exists(), "the stranger has gone through its spool, and then swept its checkpoints")
        lab.counts["foreign workers"] += 1
        assert stranger.end() == 0
        counted = [one.set_aside for one in foreign.read(queries.workers)]
    assert len(list((lab.home / "spool").rglob(f"{study.id}-*.json"))) == 2, f"I34: a foreign worker took results\n{stranger.said()}"
    for write in (marked, unmarked):
        assert write.checkpoint is not None
        assert Path(write.checkpoint.path).exists(), f"I34: a foreign worker removed checkpoints\n{stranger.said()}"
    assert counted == [1], "I34: the result of a deleted study was not set aside"

    lab.work()
    lab.until(lambda: lab.now(study).state.terminal, "the study ends")
    trials = lab.trials(study)
    assert [(trial.state, trial.attempt) for trial in trials] == [(TrialState.COMPLETE, 1)] * 2, f"I1: {trials}"
    check(lab, study)
    lab.tell("F18")


def ended(lab: Lab, study: Study) -> Write:
    """The end of a trial of which the database knows nothing yet, with its checkpoint on the disk."""
    claim = claim_one(lab.store, searches_of())
    file = lab.home / "checkpoints" / study.id / str(claim.lease.number) / "e1" / "epoch-000003.pt"
    file.parent.mkdir(parents=True)
    file.write_bytes(b"x")
    saved = Checkpoint(step=3, path=str(file), sha256=hashlib.sha256(b"x").hexdigest(), size=1)
    return Write(claim.lease, [report(step, 0.5) for step in (1, 2, 3)], checkpoint=saved, outcome=finished(0.5))


def own(lab: Lab, store: Store) -> Spool:
    return Spool(lab.home / "spool", store.read(queries.identity))


def spool_as_version_0_1(lab: Lab, write: Write) -> None:
    name = f"{write.lease.study}-{write.lease.number}-e{write.lease.attempt}.json"
    (lab.home / "spool" / name).write_text(json.dumps(WRITES.dump_python(write, mode="python")))


def leave_something_of_a_deleted_study(lab: Lab, store: Store) -> Path:
    """A result and a folder of checkpoints, so that it can be seen when a worker of the database has gone through both."""
    study = operations.pass_check(store, operations.create_study(store, spec_of()).id, FACTS)
    own(lab, store).keep(Write(claim_one(store, searches_of()).lease, outcome=finished(0.5)))
    operations.delete_study(store, study.id)
    folder = lab.home / "checkpoints" / study.id
    folder.mkdir()
    (folder / "database").write_text(store.read(queries.identity))
    return folder
