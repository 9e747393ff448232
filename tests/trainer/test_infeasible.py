"""One corner of a search space that cannot be trained, from the study's document to the sampler: by the real parser, check and trainer."""

from pathlib import Path
from typing import Any

import pytest
import torch

from service import operations
from service.domain.records import Claim
from service.domain.states import StudyState, TrialState
from service.inspection import checked_study
from service.operations import Searches, Write
from service.store import Store, queries
from tests.narrowed import trained as train_config
from tests.operations.driving import claim_trials
from trainer.cache import Cache
from trainer.loop import train
from trainer.models import Infeasible
from trainer.preparation import inspect
from trainer.protocol import Failed, Finished

CPU = torch.device("cpu")


def document(path: Path, batch_size: Any) -> dict[str, Any]:
    return {
        "name": "corner",
        "data": {"path": str(path)},
        "model": {"name": "mobilenet_v2", "weights": "random"},
        "search_space": {"batch_size": {"type": "categorical", "choices": batch_size}},
        "fixed": {"image_size": 32, "epochs": 1},
        "objective": {"metric": "accuracy", "direction": "maximize"},
        "sampler": {"name": "grid"},
        "budget": {"trials": len(batch_size)},
    }


def run(store: Store, claim: Claim) -> Failed | Finished:
    *_, last = train(train_config(claim.spec.config_for(claim.params, claim.lease.number)), device=CPU)
    assert isinstance(last, Failed | Finished)
    assert operations.record(store, [Write(claim.lease, outcome=last)]) == []
    return last


def test_a_batch_of_one_image_is_an_outcome_of_its_trial_and_the_study_goes_on(embedded_store: Store, paint: Any) -> None:
    store = embedded_store
    spec = checked_study(document(paint(), [1, 16]))
    study = operations.create_study(store, spec)
    found = inspect(train_config(spec.check_config()), CPU, Cache.none(), spec.check_batch_sizes())
    operations.pass_check(store, study.id, found.facts, found.manifest)
    searches = Searches()
    ended = {}
    while claims := claim_trials(store, searches):
        for claim in claims:
            ended[claim.params["batch_size"]] = run(store, claim)
    refused, trained = ended[1], ended[16]
    assert isinstance(refused, Failed) and refused.reason == "infeasible"
    assert refused.detail.startswith("batch_size 1 is too small for mobilenet_v2 at 32 pixels")
    assert isinstance(trained, Finished)
    now = store.read(queries.find_study, study.id)
    assert (now.state, now.reason) == (StudyState.COMPLETE, None)
    states = {trial.params["batch_size"]: (trial.state, trial.reason) for trial in store.read(queries.trials, study.id)}
    assert states == {1: (TrialState.FAILED, "infeasible"), 16: (TrialState.COMPLETE, None)}


def test_a_space_of_which_nothing_can_be_trained_fails_its_check(paint: Any) -> None:
    spec = checked_study(document(paint(), [1]))
    with pytest.raises(Infeasible, match="batch_size 1 is too small for mobilenet_v2 at 32 pixels"):
        inspect(train_config(spec.check_config()), CPU, Cache.none(), spec.check_batch_sizes())
