"""Fills the database of THAW_HOME with a study of forecasts, in a process of its own: a task that is registered stays so."""

from collections.abc import Sequence

from service import operations
from service.domain.parsing import parse_study
from service.domain.records import Claim, MetricReport
from service.settings import Settings
from service.store import open_store, queries
from tests.web.forecasting.spec import ForecastDatasetInfo
from tests.web.laboratory import ENVIRONMENT, Laboratory
from trainer.protocol import Finished, Scores

DOCUMENT = {
    "name": "forecasts",
    "task": "forecasting",
    "data": {"path": "/data/series.csv", "location": "workers", "test": 0.2},
    "model": {"name": "linear", "weights": "random"},
    "search_space": {"lr": {"type": "float", "low": 1e-5, "high": 0.1, "log": True}},
    "fixed": {"epochs": 3},
    "objective": {"metric": "skill", "direction": "maximize"},
    "sampler": {"name": "random", "seed": 0},
    "budget": {"trials": 3},
    "baseline": {"lr": 0.01},
    "confirm": {"top": 1, "seeds": 3},
}
FACTS = ForecastDatasetInfo(series={"train": 60, "validation": 20, "test": 25}, fingerprint="ab" * 32, split="cd" * 32, weights_sha256=None)
SKILLS = (-2.5, 0.25, -0.5)  # by the number of the trial
TESTED = {0: -2.0, 1: 0.125}  # by the number of the trial that is confirmed
ENERGY = 12.5


def curve(skill: float) -> Sequence[MetricReport]:
    """Three epochs, the last with this skill."""
    return [MetricReport(step, {"skill": skill - 3 + step, "energy": ENERGY + 3 - step, "train_loss": 40.0 / step}) for step in (1, 2, 3)]


def finish(lab: Laboratory, claim: Claim, skill: float, tested: float | None = None) -> None:
    """The end of a run."""
    report = {"bias": -1.5, "worst_month": "May", "residuals": [1.0, -2.0]}
    test = None if tested is None else Scores(metrics={"skill": tested, "energy": ENERGY}, report={**report, "bias": -1.75})
    metrics = {"skill": skill, "energy": ENERGY}
    done = Finished(step=3, metrics=metrics, report=report, train_seconds=1.0, peak_memory=1, test=test)
    write = operations.Write(claim.lease, reports=curve(skill), outcome=done, result={**ENVIRONMENT, "trainable": 1})
    assert operations.record(lab.store, [write]) == []


def main() -> None:
    """A study that has confirmed its best."""
    store = open_store(Settings.from_environment().database_url)
    lab = Laboratory(store)
    study = operations.create_study(store, parse_study(DOCUMENT))
    operations.pass_check(store, study.id, FACTS)
    for claim, skill in zip(lab.claims_from("forecasts", 50), SKILLS, strict=True):
        finish(lab, claim, skill)
    while claims := lab.claims_from("forecasts", 50) or lab.claims_from("forecasts", 50):
        for claim in claims:
            trial = store.read(queries.find_trial, claim.lease.study, claim.lease.number)
            assert trial.confirms is not None and trial.round is not None
            finish(lab, claim, SKILLS[trial.confirms], TESTED[trial.confirms] + 0.01 * trial.round)
    store.close()


if __name__ == "__main__":
    main()
