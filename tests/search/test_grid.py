"""Grid search."""

from search_spaces import Params
from service.domain.samplers import Grid
from service.domain.states import TrialState
from tests.search.simulation import Ending, Simulation, complete, failed, study_spec, trial_row

SPACE = {
    "optimizer": {"type": "categorical", "choices": ["sgd", "adam"]},
    "momentum": {"type": "float", "low": 0.0, "high": 0.35, "step": 0.1, "when": {"optimizer": ["sgd"]}},
    "frozen_layers": {"type": "int", "low": 1, "high": 6, "step": 2},
}
POINTS = 3 * (4 + 1)


def key(params: Params) -> tuple[object, ...]:
    return tuple(sorted(params.items()))


def test_every_combination_comes_once_and_then_none() -> None:
    sim = Simulation(study_spec(SPACE, Grid()))
    sim.run(POINTS, lambda params: complete(0.5))
    assert len({key(trial.params) for trial in sim.trials.values()}) == POINTS
    assert sim.grown.suggest(POINTS) == []


def test_a_batch_beyond_the_end_is_cut_short() -> None:
    sim = Simulation(study_spec(SPACE, Grid()))
    assert len(sim.start(10)) == 10
    assert len(sim.start(10)) == POINTS - 10


def test_what_a_person_queued_is_not_suggested_again_and_a_lost_point_is_not_either() -> None:
    sim = Simulation(study_spec(SPACE, Grid()))
    sim.put(trial_row(0, {"optimizer": "sgd", "momentum": 0.30000000000000004, "frozen_layers": 5}, source="user"))
    [lost] = sim.start()
    sim.end(1, failed("lost"))
    [cancelled] = sim.start()
    sim.end(2, Ending(TrialState.CANCELLED))
    rest = sim.start(100)
    assert len(rest) == POINTS - 3
    assert {key(lost.params), key(cancelled.params)}.isdisjoint(key(suggestion.params) for suggestion in rest)
