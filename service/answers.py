"""What a server's REST interface answers, as its clients read it."""

from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel, ConfigDict


class Answer(BaseModel):
    """What the server says; fields that this client does not know are left aside."""

    model_config = ConfigDict(frozen=True, extra="ignore")


class Best(Answer):
    """The best complete trial so far."""

    number: int
    value: float
    params: Mapping[str, Any]
    metrics: Mapping[str, float | None]


class Saved(Answer):
    """Seconds of training that were not needed, by what spared them."""

    features_seconds: float = 0.0
    duplicates_seconds: float = 0.0


class Study(Answer):
    """A study as it stands."""

    id: str
    name: str
    state: str
    reason: str | None
    created: int
    counts: Mapping[str, int]
    best: Best | None
    seq: int
    spec: Mapping[str, Any]
    seconds_left: float | None = None
    saved: Saved = Saved()

    @property
    def ended(self) -> bool:
        """Whether no trial will ever be started again."""
        return self.state in ("complete", "stopped", "failed")

    @property
    def metric(self) -> str:
        """The name of the objective's metric."""
        return str(self.spec["objective"]["metric"])


class Pace(Answer):
    """How fast a trial is."""

    samples_per_second: float | None
    seconds_left: float | None


class Trial(Answer):
    """A trial as it stands."""

    number: int
    state: str
    params: Mapping[str, Any]
    value: float | None
    metrics: Mapping[str, float | None]
    step: int
    reason: str | None
    detail: str | None = None
    source: str = "sampler"
    duplicate_of: int | None = None
    pace: Pace | None = None

    @property
    def ended(self) -> bool:
        """Whether nothing more will happen to it."""
        return self.state in ("complete", "pruned", "failed", "cancelled")


class Attempt(Answer):
    """One try at a trial."""

    attempt: int
    worker: str
    ending: str | None


class Chunk(Answer):
    """Lines of a log that were written together."""

    seq: int
    text: str


class Log(Answer):
    """A part of an attempt's log; `next` is None when nothing followed it yet."""

    attempt: int | None
    attempts: tuple[Attempt, ...]
    chunks: tuple[Chunk, ...]
    next: int | None


class Running(Answer):
    """A trial that a worker runs."""

    study: str
    number: int


class Worker(Answer):
    """A process that claims trials."""

    id: str
    state: str
    slots: int
    devices: tuple[str, ...]
    silent_seconds: float
    running: tuple[Running, ...]


class Changes(Answer):
    """A study, and those of its trials that changed; `more` when there are others, after event `seq`."""

    study: Study
    trials: tuple[Trial, ...]
    seq: int
    more: bool


class Replayed(Answer):
    """A pruner, asked again about a study's curves."""

    label: str
    own: bool
    kept_winner: bool | None
    likely: bool | None
    winner: int | None
    trials_pruned: int
    epochs: tuple[int, int]


class Hindsight(Answer):
    """A study's pruning, looked back on."""

    words: tuple[str, ...]
    pruners: tuple[Replayed, ...]
