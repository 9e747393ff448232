"""How fast trials are, what they were spared, and what a client reads of it."""

import pytest
from starlette.testclient import TestClient

from service.domain.records import Claim
from service.operations import Searches
from tests.operations.driving import RandomSearch, claim_trials
from tests.web.laboratory import Laboratory
from trainer.protocol import Pace, Reuse

STUDY = "/api/v1/studies/digits"
REUSE = Reuse(pixels="cached", depth=9, place="disk", lanes=4)
SPENT = {"forward": 6.0, "backward": 3.0, "measure": 0.0, "data": 1.0}


def pace(saved: float = 8.0, left: float = 30.0) -> Pace:
    return Pace(samples_per_second=400.0, seconds_left=left, memory=2_000_000, utilization=0.5, seconds=SPENT, saved_seconds=saved)


def grid_of(lab: Laboratory, trials: int) -> list[Claim]:
    """A study's first trials, all running."""
    lab.study(budget={"trials": trials})
    return claim_trials(lab.store, lab.searches, "worker-1", limit=trials)


def test_a_running_trial_tells_its_speed_what_is_left_and_what_it_reuses(client: TestClient, lab: Laboratory) -> None:
    lab.study()
    claim = lab.claim()
    fresh = client.get(f"{STUDY}/trials/0").json()
    assert fresh["reuse"] is None and fresh["pace"] is None
    lab.tell(claim, 1, pace(), REUSE)
    trial = client.get(f"{STUDY}/trials/0").json()
    shares = {"forward": 0.6, "backward": 0.3, "data": 0.1}
    assert trial["pace"] == {
        "samples_per_second": 400.0,
        "seconds_left": 30.0,
        "memory": 2_000_000,
        "utilization": 0.5,
        "shares": pytest.approx(shares),
    }
    assert trial["reuse"] == {"pixels": "cached", "depth": 9, "place": "disk", "lanes": 4, "saved_seconds": 8.0}
    assert trial["result"]["pace"]["seconds"] == SPENT


def test_a_trial_that_has_ended_has_no_time_left(client: TestClient, lab: Laboratory) -> None:
    lab.study()
    claim = lab.claim()
    lab.tell(claim, 1, pace(), REUSE)
    lab.finish(claim, 0.9)
    trial = client.get(f"{STUDY}/trials/0").json()
    assert trial["pace"]["seconds_left"] is None and trial["pace"]["samples_per_second"] == 400.0
    assert trial["reuse"]["depth"] == 9


def test_a_study_tells_how_long_it_will_take_until_it_has_ended(client: TestClient, lab: Laboratory) -> None:
    claims = grid_of(lab, 2)
    assert client.get(STUDY).json()["seconds_left"] is None
    for claim, left in zip(claims, (30.0, 50.0), strict=True):
        lab.tell(claim, 1, pace(left=left))
    assert client.get(STUDY).json()["seconds_left"] == pytest.approx(50.0, abs=5.0)
    lab.finish_all(claims, 0.9)
    assert client.get(STUDY).json()["seconds_left"] is None


def test_the_saving_of_a_shared_pass_counts_once(client: TestClient, lab: Laboratory) -> None:
    claims = grid_of(lab, 5)
    for claim in claims[:4]:
        lab.tell(claim, 1, pace(saved=8.0), REUSE)
    lab.tell(claims[4], 1, pace(saved=-1.5), REUSE.model_copy(update={"lanes": 1}))
    assert client.get(STUDY).json()["saved"] == {"features_seconds": 6.5, "duplicates_seconds": 0.0}
    assert client.get("/api/v1/studies").json()["studies"][0]["saved"]["features_seconds"] == 6.5


class OnePoint(RandomSearch):
    """A sampler that suggests the same parameters again, which the study's own sampler does not where the space is that small."""

    def draw(self, _number: int) -> float:
        return 0.05


def test_an_answered_duplicate_saves_its_originals_share_of_the_training_and_reuses_nothing(client: TestClient, lab: Laboratory) -> None:
    lab.study(budget={"trials": 3})
    lab.searches = Searches(OnePoint)  # type: ignore[arg-type]
    claim = lab.claim()
    lab.tell(claim, 1, pace(), REUSE)
    lab.finish(claim, 0.9)
    while claim_trials(lab.store, lab.searches, "worker-1"):
        pass
    study, trials = client.get(STUDY).json(), client.get(f"{STUDY}/trials").json()["trials"]
    duplicates = [trial for trial in trials if trial["duplicate_of"] == 0]
    assert duplicates and all(trial["reuse"] is None and trial["pace"] is None for trial in duplicates)
    assert study["saved"] == {"features_seconds": 2.0, "duplicates_seconds": len(duplicates) * 1.0 / 4}


def test_the_figures_tell_speed_lanes_and_savings(client: TestClient, lab: Laboratory) -> None:
    claims = grid_of(lab, 5)
    for claim in claims[:4]:
        lab.tell(claim, 1, pace(), REUSE)
    lab.tell(claims[4], 1, pace(saved=0.5), REUSE.model_copy(update={"lanes": 1}))
    figures = client.get("/metrics").text.splitlines()
    assert "thawline_samples_per_second 800.0" in figures
    assert "thawline_lanes_running 4.0" in figures
    assert 'thawline_saved_seconds{by="features"} 8.5' in figures
    lab.finish_all(claims, 0.9)
    figures = client.get("/metrics").text.splitlines()
    assert "thawline_samples_per_second 0.0" in figures and "thawline_lanes_running 0.0" in figures
    assert 'thawline_saved_seconds{by="features"} 8.5' in figures
