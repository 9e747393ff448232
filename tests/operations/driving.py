"""A small study, a sampler that draws at random, and words to drive trials with."""

import base64
import math
import random
from collections.abc import Collection, Iterable, Mapping
from typing import Any

import numpy as np

from search_spaces import Scalar
from service import operations
from service.domain.errors import LeaseLost
from service.domain.records import Claim, Lease, MetricReport, Study, Trial
from service.domain.spec import StudySpec
from service.operations import Searches, Write
from service.search.study import Decision, Suggestion
from service.store import Store, open_store, queries
from service.web.health import Cleanup
from trainer.protocol import Checkpoint, Failed, Finished, Scores
from trainer.tasks.image_classification.config import ImageClassificationInfo

FACTS = ImageClassificationInfo(
    classes=("cat", "dog"), images={"train": 8, "validation": 2}, fingerprint="f" * 64, split="5" * 64, weights_sha256=None
)
TEST_IMAGES = 200
CRASH = Failed(reason="crashed", detail="signal 11")  # tried again
BROKEN = Failed(reason="script_error", detail="no accuracy")  # the end


class RandomSearch:
    """A real sampler, in small: parameters follow from the number alone; `choices` bounds how many there are, `size` exhausts it."""

    def __init__(self, spec: StudySpec, choices: int | None = None, size: int | None = None) -> None:
        self.spec = spec
        self.seq = 0
        self.known: dict[int, Trial] = {}
        self.values: dict[int, dict[int, float]] = {}
        self._choices = choices
        self._size = math.inf if size is None else size

    def absorb(self, seq: int, trials: Iterable[Trial], values: Iterable[tuple[int, int, float]]) -> None:
        self.seq = seq
        for trial in trials:
            self.known[trial.number] = trial
            self.values[trial.number] = {}
        for number, step, value in values:
            self.values[number][step] = value

    def suggest(self, number: int, count: int = 1) -> list[Suggestion]:
        assert len(self.known) == number, "the history must hold every trial before"
        return [Suggestion(self.params(one), {"drawn_for": one}) for one in range(number, number + count) if one < self._size]

    def complete(self, number: int, given: Mapping[str, Scalar]) -> Suggestion:
        return Suggestion(self.params(number) | dict(given))

    def params(self, number: int) -> dict[str, Scalar]:
        drawn = self.draw(number)
        params: dict[str, Scalar] = {"lr": drawn}
        if "batch_size" in self.spec.search_space.root:
            params["batch_size"] = 8 if drawn < 0.5 else 16
        return params

    def decide_all(self, curves: Mapping[int, Mapping[int, float]]) -> dict[int, Decision]:
        return {number: Decision(go_on=max(values.values()) > 0.1) for number, values in curves.items()}

    def draw(self, number: int) -> float:
        drawn = random.Random(number).random()  # noqa: S311  (a sampler, not a secret)
        return drawn if self._choices is None else math.floor(drawn * self._choices) / self._choices


def searches_of(**options: Any) -> Searches:
    """The search memories of a process, whose sampler is a RandomSearch."""
    return Searches(lambda spec: RandomSearch(spec, **options))  # type: ignore[arg-type,return-value]


def overtaken_searches(store: Store) -> Searches:
    """The search memories of a process, during each of whose suggestions another worker claims a trial."""
    others = searches_of()

    class Overtaken(RandomSearch):
        def suggest(self, number: int, count: int = 1) -> list[Suggestion]:
            claim_one(store, others, "another")
            return super().suggest(number, count)

    return Searches(Overtaken)  # type: ignore[arg-type]


def spec_of(**changes: Any) -> StudySpec:
    """A small study with a budget of 20 trials; keywords replace its fields."""
    document = {
        "name": "pets",
        "data": {"path": "data/pets"},
        "model": {"name": "squeezenet1_1"},
        "search_space": {"lr": {"type": "float", "low": 0.0, "high": 1.0}},
        "objective": {"metric": "accuracy", "direction": "maximize"},
        "budget": {"trials": 20},
    }
    return StudySpec.model_validate(document | changes)


def ready(store: Store, **changes: Any) -> Study:
    """A new study whose data was checked."""
    return operations.pass_check(store, operations.create_study(store, spec_of(**changes)).id, FACTS)


def claim_one(store: Store, searches: Searches, worker: str = "w") -> Claim:
    """The trial that a worker gets which trains one at a time."""
    (claim,) = operations.claim_together(store, searches, worker, lane_bytes=0)
    return claim


def claim_trials(store: Store, searches: Searches, worker: str = "w", limit: int = 1, without: Collection[str] = ()) -> list[Claim]:
    """At most so many trials, claimed one after the other; fewer when a claim finds none, without studies of these ids."""
    claims: list[Claim] = []
    while len(claims) < limit and (found := operations.claim_together(store, searches, worker, 0, lambda one: one.id not in without)):
        claims += found
    return claims


def decide_one(store: Store, searches: Searches, lease: Lease, values: Mapping[int, float]) -> Decision:
    """The pruner's decision about one trial, given its objective by step. Raises LeaseLost."""
    (answer,) = operations.decide_many(store, searches, [(lease, values)])
    if isinstance(answer, LeaseLost):
        raise answer
    return answer


def finished(value: float, step: int = 3) -> Finished:
    """The outcome of a run that reached an accuracy."""
    report = {"per_class_recall": {"cat": 1.0}, "confusion_matrix": ((1, 0), (1, 0))}
    return Finished(step=step, metrics={"accuracy": value}, report=report, train_seconds=1.0, peak_memory=1)


PICTURE = (
    "UklGRqgAAABXRUJQVlA4IJwAAADwBQCdASoYABgAPu1ysVKppySiqAgBMB2JbACdMoR5n5nxQbhkgPUBtgLsA3lEB/WA9QJZmBqnAAD+0kt29p3xsE3FVvK32KhL"
    "Icg94SZrbDM4YA9dV321VTbFR7vl4DPwemsEfP6ajzmaEmMhP7fj6//Bt5qPVVw8yCCatv8nH6qlWzWFX5BD7+xyYpe2aj4YoxfhVKAuVOZUAAA="
)
"""A lossy WebP file of 24 x 24."""
WRONG = {"name": "a.png", "target": "cat", "predicted": "dog", "target_probability": 0.125, "probability": 0.75}


def with_examples(*examples: Mapping[str, Any]) -> Finished:
    """The outcome of a run that reports these wrong predictions."""
    done = finished(0.5)
    return done.model_copy(update={"report": {**done.report, "worst_classes": examples}})


def scored(validation: float, test: float, step: int = 3) -> Finished:
    """The outcome of a run that got so large a share of the test images right."""
    right = round(test * TEST_IMAGES / 2)
    wrong = TEST_IMAGES // 2 - right
    predicted = np.array([0] * right + [1] * wrong + [1] * right + [0] * wrong, dtype="<u2")
    scores = Scores(
        metrics={"accuracy": 2 * right / TEST_IMAGES, "loss": 0.5},
        report={
            "per_class_recall": {"cat": test, "dog": test},
            "confusion_matrix": ((right, wrong), (wrong, right)),
            "predicted": base64.b64encode(predicted.tobytes()).decode(),
            "losses": base64.b64encode(np.full(TEST_IMAGES, 0.5, dtype="<f2").tobytes()).decode(),
        },
    )
    return finished(validation, step).model_copy(update={"test": scores})


def report(step: int, value: float) -> MetricReport:
    """The accuracy after a step."""
    return MetricReport(step, {"accuracy": value})


def checkpoint(step: int) -> Checkpoint:
    """A checkpoint after a step."""
    return Checkpoint(step=step, path=f"checkpoints/{step}.pt", sha256="c" * 64, size=10)


def tell(store: Store, lease: Lease, **said: Any) -> bool:
    """Record one write; whether its lease held."""
    return operations.record(store, [Write(lease, **said)]) == []


def finish(store: Store, claim: Claim, value: float = 0.5) -> None:
    """End a claimed trial with an accuracy."""
    assert tell(store, claim.lease, outcome=finished(value))


def lose(store: Store, claim: Claim) -> None:
    """Take a claimed trial from its worker, as a reaper does."""
    heartbeats = dict(store.read(queries.running_leases))
    assert operations.requeue_lost(store, [(claim.lease, heartbeats[claim.lease])]) == 1


def trial_of(store: Store, study: Study, number: int) -> Trial:
    """A trial as it stands."""
    return store.read(queries.find_trial, study.id, number)


def trials_of(store: Store, study: Study) -> list[Trial]:
    """All trials of a small study, by number."""
    return store.read(queries.trials, study.id, limit=10_000)


def study_of(store: Store, study: Study) -> Study:
    """The study as it stands."""
    return store.read(queries.find_study, study.id)


def kinds_of(store: Store, study: Study) -> list[str]:
    """The kinds of the study's events, in order."""
    return [event.kind for event in store.read(queries.events_after, study.id, 0, limit=100_000)]


def drain(url: str, worker: str) -> list[tuple[int, int]]:
    """Claim one trial after another until there is none; number and attempt of each."""
    store, searches = open_store(url), searches_of()
    claimed = []
    while claims := claim_trials(store, searches, worker):
        claimed += [(claim.lease.number, claim.lease.attempt) for claim in claims]
    store.close()
    return claimed


def sweep_all(store: Store) -> None:
    """One sweep of the cleanup whose clock stands still, so that its time limit does not end it on a busy machine."""
    Cleanup(store, lambda: 0.0).sweep()
