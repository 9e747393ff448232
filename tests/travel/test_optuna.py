"""Studies to and from Optuna's databases."""

import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import optuna
import pytest

from search_spaces import Fault
from service import operations
from service.domain.errors import InvalidInput
from service.domain.parsing import parse_study
from service.domain.records import Study
from service.operations.importing import import_study
from service.search.exchange.arriving import documents, facts_in, read_database, spec_in
from service.search.exchange.departing import write_database
from service.store import Store, queries
from service.travel.checking import Header, checked, sound
from service.travel.writing import Lines
from tests.travel.luggage import exported, mixed_study

optuna.logging.set_verbosity(optuna.logging.WARNING)


def to_optuna(store: Store, study: Study, file: Path) -> int:
    found = checked(io.BytesIO(exported(store, study)))
    header = next(found)
    assert isinstance(header, Header)
    return write_database(file, header, (line for line in found if not isinstance(line, Header)))


def from_optuna(store: Store, file: Path, name: str, like: dict[str, Any] | None = None, theirs: str | None = None) -> Study:
    arrived = read_database(file, theirs)
    spec = spec_in(arrived) if like is None else parse_study(like)
    lines = Lines()
    raw = b"".join(lines.line(one) for one in documents(arrived, spec, facts_in(arrived) if like is None else None, 1.7e9))
    sent = io.BytesIO(raw + lines.end())
    return import_study(store, sound(sent, name), sent, paused=True)


def faults_of(call: Callable[[], object]) -> list[Fault]:
    with pytest.raises(InvalidInput) as refused:
        call()
    return list(refused.value.faults)


def test_optuna_reads_what_we_export(embedded_store: Store, tmp_path: Path) -> None:
    study = mixed_study(embedded_store)
    operations.stop_study(embedded_store, study.id)
    to_optuna(embedded_store, study, tmp_path / "it's.db")
    theirs = optuna.load_study(study_name="digits", storage=f"sqlite:///{tmp_path / chr(105)}t's.db")
    ours = embedded_store.read(queries.trials, study.id)
    assert [trial.state.name for trial in theirs.trials] == ["COMPLETE", "FAIL", "PRUNED", "FAIL", "FAIL", "FAIL", "FAIL"]
    assert [trial.params for trial in theirs.trials] == [trial.params for trial in ours]
    assert theirs.best_value == 0.91
    assert theirs.trials[0].distributions["lr"] == optuna.distributions.FloatDistribution(1e-5, 0.1, log=True)
    assert theirs.trials[1].intermediate_values.keys() == {1, 2, 3}
    assert theirs.trials[2].user_attrs["thawline:source"] == "sampler"
    assert theirs.user_attrs["thawline:spec"] == study.spec.model_dump(mode="json")
    assert theirs.metric_names == ["accuracy"]


def test_a_study_that_went_to_optuna_comes_back_paused_with_its_spec(store: Store, tmp_path: Path) -> None:
    study = mixed_study(store)
    operations.stop_study(store, study.id)
    to_optuna(store, study, tmp_path / "optuna.db")
    back = from_optuna(store, tmp_path / "optuna.db", "digits again")
    assert back.state == "paused"
    assert back.spec.model_copy(update={"name": "digits"}) == study.spec
    assert back.facts == study.facts
    kept = ("number", "state", "params", "value", "value_kind", "step", "reason", "detail", "source", "worker", "attempt", "duplicate_of")
    there, here = store.read(queries.trials, study.id), store.read(queries.trials, back.id)
    for before, after in zip(there, here, strict=True):
        changed = [name for name in kept if getattr(before, name) != getattr(after, name)]
        assert changed == ([] if before.reason != "diverged" else ["value_kind"]), (before, after)
