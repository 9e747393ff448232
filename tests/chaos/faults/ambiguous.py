"""A worker that often does not learn what became of its writes: they were committed, and it is told that the store did not answer."""

import os
import random
from collections.abc import Callable
from itertools import chain
from typing import ParamSpec, TypeVar

from service import operations
from service.domain.errors import StoreUnavailable
from tests.chaos.history import note

P = ParamSpec("P")
T = TypeVar("T")
SHARES = {"claim_together": 0.4, "record": 0.25, "heartbeat": 0.3, "decide_many": 0.3}  # of the calls whose answer is lost


def install() -> None:
    chance = random.Random(os.getpid())
    for name, share in SHARES.items():
        setattr(operations, name, _ambiguous(name, getattr(operations, name), share, chance))


def _ambiguous(name: str, call: Callable[P, T], share: float, chance: random.Random) -> Callable[P, T]:
    drawn = chain([0.0], iter(chance.random, None))  # the first answer of each process is lost

    def calling(*args: P.args, **kwargs: P.kwargs) -> T:
        answer = call(*args, **kwargs)
        if (answer or name != "claim_together") and next(drawn) < share:  # a claim of nothing changes nothing
            note("answer lost", of=name)
            raise StoreUnavailable("the answer was lost")
        return answer

    return calling
