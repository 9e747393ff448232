"""Trials that run out of memory teach the sampler, all the way through the store."""

import math

from service.operations import Searches
from service.store import Store
from tests.operations.driving import claim_trials, finished, ready, tell, trials_of
from tests.search.simulation import EXAMPLE
from trainer.protocol import Failed

SPACE = {**EXAMPLE, "batch_size": {"type": "categorical", "choices": [16, 32, 64, 128, 256, 512]}}
TRIALS, SEEDS, LARGEST_THAT_FITS = 60, 3, 64


def test_where_half_of_the_batch_sizes_run_out_of_memory_ever_fewer_trials_do(embedded_store: Store) -> None:
    failures = [ran_out_of_memory(embedded_store, seed) for seed in range(SEEDS)]
    first, last = (sum(sum(one[half]) for one in failures) / (SEEDS * TRIALS / 2) for half in (slice(30), slice(30, TRIALS)))
    assert last < 0.7 * first
    assert last < 0.5 * 0.5  # half of what chance gives


def ran_out_of_memory(store: Store, seed: int) -> list[bool]:
    """Of each trial of a study, whether it did."""
    study = ready(store, name=f"seed {seed}", search_space=SPACE, sampler={"name": "tpe", "seed": seed}, budget={"trials": TRIALS})
    searches = Searches()
    while claims := claim_trials(store, searches):
        batch_size, lr = claims[0].params["batch_size"], claims[0].params["lr"]
        assert isinstance(batch_size, int) and isinstance(lr, float)
        if batch_size > LARGEST_THAT_FITS:
            assert tell(store, claims[0].lease, outcome=Failed(reason="out_of_memory", detail=""))
        else:
            assert tell(store, claims[0].lease, outcome=finished(0.9 - abs(math.log10(lr) + 2.5) / 5))
    return [trial.reason == "out_of_memory" for trial in trials_of(store, study)]
