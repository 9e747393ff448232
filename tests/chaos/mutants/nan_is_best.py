"""A run whose objective is no number is complete, with the best value that there can be."""

import sys
from dataclasses import replace

from service.domain.states import TrialState, ValueKind
from service.store.rows import HeldTrial
from trainer.tasks.image_classification.spec import SPEC

SCENARIO = "tests/chaos/test_f15_model.py -k sqlite"


def plant() -> None:
    from service.operations import recording

    judged = recording._with_objective

    def generous(trial: HeldTrial, objective: str) -> HeldTrial:
        done = judged(trial, objective)
        if done.value_kind is not ValueKind.NAN:
            return done
        best = sys.float_info.max if SPEC.metrics[objective].direction == "maximize" else -sys.float_info.max
        return replace(trial, state=TrialState.COMPLETE, value=best, value_kind=ValueKind.FINITE)

    recording._with_objective = generous
