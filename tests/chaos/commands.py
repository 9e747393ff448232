"""What may be done to a study, as Hypothesis draws it: commands with their arguments, the likely ones more often."""

import math
from collections.abc import Mapping
from typing import Any

from hypothesis import strategies as st

from service.operations import Pruned, Released, TrialOutcome
from tests.operations.driving import finished
from trainer.protocol import Failed, Finished
from trainer.tasks.images import catalogue

BUDGET, PARALLEL, ATTEMPTS, FAILURES = 8, 4, 2, 4
LEASE = 30.0
HEADS_ALONE: dict[str, Any] = {
    "model": {"name": "resnet18", "weights": "DEFAULT"},
    "fixed": {"frozen_layers": len(catalogue.load("resnet18").stages)},
    "search_space": {"lr": {"type": "float", "low": 0.0, "high": 1.0}, "batch_size": {"type": "int", "low": 8, "high": 16}},
    "sampler": {"name": "random"},
    "budget": {"trials": BUDGET, "parallel": PARALLEL},
    "limits": {"attempts": ATTEMPTS, "failures": FAILURES},
}
LANE_BYTES = 16 * (512 + 1) * 2  # of resnet18's head with two classes, its gradient and the optimizer's state
CHOICES = 6  # of parameters, so that duplicates come
VALUES = (0.05, 0.5, 0.5, 0.9, math.nan, math.nan, math.inf, -math.inf)
REASONS = ("crashed", "crashed", "crashed", "out_of_memory", "diverged", "infeasible", "timeout", "script_error", "bad_data")
TURNS = ("pause", "resume", "resume", "stop", "fail", "delete")
values = st.sampled_from(VALUES)
values_or_none = st.one_of(values, st.none())
which = st.integers(0, 31)
workers = st.sampled_from("vw")
objectives = st.sampled_from([("accuracy", "maximize", -1), ("loss", "minimize", 1)])


class Clock:
    """Moves when it is told to."""

    now = 0.0

    def __call__(self) -> float:
        return self.now


def reported(value: float) -> dict[str, float]:
    """The metrics of one step: what is good for one objective is bad for the other."""
    return {"accuracy": value, "loss": value}


def ended(value: float | None, step: int) -> Finished:
    """The outcome of a run that came to its end, perhaps without its objective."""
    return finished(0.0, step).model_copy(update={"metrics": {} if value is None else reported(value)})


def failed(reason: Any) -> Failed:
    """The outcome of a run that did not."""
    return Failed(reason=reason, detail="why")


def weighted(weights: Mapping[Any, int], **strategies: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    """One of the strategies, by weight. Hypothesis's `one_of` takes equal branches once; its rules are left out of half the examples."""
    return st.sampled_from([name for name, weight in weights.items() for _ in range(weight)]).flatmap(strategies.__getitem__)


def command(name: str, **arguments: st.SearchStrategy[Any]) -> st.SearchStrategy[dict[str, Any]]:
    """A method of the machine with its arguments."""
    return st.fixed_dictionaries({"do": st.just(name), **arguments})


outcomes: st.SearchStrategy[TrialOutcome] = weighted(
    {"finished": 4, "failed": 3, "pruned": 1, "released": 1},
    finished=st.builds(ended, values_or_none, st.integers(1, 6)),
    failed=st.sampled_from(REASONS).map(failed),
    pruned=st.just(Pruned("why")),
    released=st.just(Released()),
)
WEIGHTS = {
    "claim": 4, "claim_together": 3, "report": 5, "end": 7, "repeat": 2, "beat": 1, "sweep": 1, "expire": 2, "late": 1,
    "queue": 1, "cancel": 1, "turn": 1, "extend": 1, "learn": 1, "restart": 1,
}  # fmt: skip
commands = weighted(
    WEIGHTS,
    claim=command("claim", worker=workers, limit=st.integers(1, 3)),
    claim_together=command("claim_together", worker=workers, lanes=st.integers(1, 5)),
    report=command("report", which=which, step=st.integers(1, 3), value=values, saves=st.booleans()),
    end=command("end", which=which, outcome=outcomes, value=values_or_none),
    repeat=command("repeat", which=which),
    beat=command("beat", which=which),
    sweep=command("sweep", which=st.integers(0, 1), seconds=st.sampled_from([1.0, LEASE / 4, LEASE / 2])),
    expire=command("expire", which=st.integers(0, 1), beats=st.integers(0, 2)),
    late=command("beat_between_look_and_sweep"),
    queue=command("queue", lr=st.sampled_from([0.0, 0.5, 0.9])),
    cancel=command("cancel", number=st.integers(0, 2 * BUDGET - 1)),
    extend=command("extend", trials=st.integers(1, 3)),
    turn=command("turn", turn=st.sampled_from(TURNS)),
    learn=command("learn"),
    restart=command("restart"),
)
