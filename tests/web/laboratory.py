"""Words the tests of the server share, and a laboratory that fills a store as people and workers do."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from service import operations
from service.domain.parsing import parse_study
from service.domain.records import Claim, MetricReport, Study
from service.store import Store, queries
from tests.operations.driving import claim_one, claim_trials
from trainer.protocol import Failed, Finished, Pace, Reuse
from trainer.tasks.image_classification.config import ImageClassificationInfo

HERE = "http://127.0.0.1:8000"
TOKEN = "correct-horse-battery-staple"
FACTS = ImageClassificationInfo(
    classes=("cat", "dog"), images={"train": 60, "validation": 20, "test": 20}, fingerprint="ab" * 32, split="cd" * 32, weights_sha256=None
)
LANE_BYTES = 10**9
ENVIRONMENT = {"environment": {"torch": "2.11"}}


def study_document(name: str = "digits", **changes: Any) -> dict[str, Any]:
    """A study that needs no files on this machine."""
    return {
        "name": name,
        "data": {"path": "/data/digits", "location": "workers"},
        "model": {"name": "squeezenet1_1"},
        "search_space": {
            "lr": {"type": "float", "low": 1e-5, "high": 0.1, "log": True},
            "optimizer": {"type": "categorical", "choices": ["sgd", "adam"]},
        },
        "fixed": {"epochs": 3, "image_size": 64},
        "objective": {"metric": "accuracy", "direction": "maximize"},
        "sampler": {"name": "random", "seed": 0},
        "budget": {"trials": 20},
        **changes,
    }


@dataclass
class Laboratory:
    """Every change goes through operations."""

    store: Store
    searches: operations.Searches = field(default_factory=operations.Searches)

    def study(self, name: str = "digits", checked: bool = True, **changes: Any) -> Study:
        """A study, ready to be claimed from."""
        study = operations.create_study(self.store, parse_study(study_document(name, **changes)))
        return operations.pass_check(self.store, study.id, FACTS) if checked else study

    def stop_all(self) -> None:
        """End every study that has not ended."""
        for study in self.store.read(queries.studies, 1000):
            if not study.state.terminal:
                operations.stop_study(self.store, study.id)

    def id_of(self, name: str) -> str:
        """The id of the study of that name."""
        return self.store.read(queries.find_study, name).id

    def claim(self) -> Claim:
        """The next trial that a worker gets."""
        return claim_one(self.store, self.searches, "worker-1")

    def claim_from(self, name: str) -> Claim:
        """The next trial of this study, in a store where others are open."""
        (claim,) = self.claims_from(name, 1)
        return claim

    def claims_from(self, name: str, limit: int) -> list[Claim]:
        """At most so many trials of this study, in a store where others are open."""
        return claim_trials(self.store, self.searches, "worker-1", limit, without=self._others(name))

    def shared_pass(self, name: str, trials: int) -> list[Claim]:
        """All trials of a new study that trains heads alone, claimed at once to be trained in one pass."""
        alone = {"epochs": 3, "image_size": 64, "frozen_layers": "all"}
        self.study(name, fixed=alone, budget={"trials": trials}, limits={"lanes": trials})
        claims = operations.claim_together(self.store, self.searches, "worker-1", LANE_BYTES, lambda one: one.name == name)
        assert len(claims) == trials
        return claims

    def _others(self, name: str) -> set[str]:
        """The keys of the other studies that trials can be claimed from."""
        return {one.study.id for one in self.store.read(queries.candidates) if one.study.name != name}

    def report(self, claim: Claim, step: int, **metrics: float) -> None:
        assert operations.record(self.store, [operations.Write(claim.lease, reports=[MetricReport(step, metrics)])]) == []

    def tell(self, claim: Claim, step: int, pace: Pace, reuse: Reuse | None = None) -> None:
        """A report of a run that says how fast it is, and what it reuses."""
        result = {"pace": pace.model_dump(), **({"reuse": reuse.model_dump()} if reuse else {})}
        write = operations.Write(claim.lease, reports=[MetricReport(step, {"accuracy": 0.5})], result=result)
        assert operations.record(self.store, [write]) == []

    def finish(self, claim: Claim, accuracy: float) -> None:
        """The trial's last epoch and its end."""
        self.finish_all([claim], accuracy)

    def finish_all(self, claims: Sequence[Claim], accuracy: float) -> None:
        """The last epoch and the end of trials that end together, in one transaction."""
        assert operations.record(self.store, [self._finished(claim, accuracy) for claim in claims]) == []

    @staticmethod
    def _finished(claim: Claim, accuracy: float) -> operations.Write:
        metrics = {"accuracy": accuracy, "loss": 1 - accuracy}
        done = Finished(
            step=3,
            metrics=metrics,
            report={"per_class_recall": {"cat": 1.0, "dog": 0.5}, "confusion_matrix": ((10, 0), (5, 5))},
            train_seconds=1.0,
            peak_memory=1,
        )
        return operations.Write(claim.lease, reports=[MetricReport(3, metrics)], outcome=done, result=ENVIRONMENT)

    def fail(self, claim: Claim, reason: str = "out_of_memory") -> None:
        outcome = Failed(reason=reason, detail="the batch did not fit", step=0)
        assert operations.record(self.store, [operations.Write(claim.lease, outcome=outcome, result=ENVIRONMENT)]) == []
