"""Figures: drawn of every kind of study, importances as Optuna has them, and no text of a user's read as markup."""

import json
import math
import random
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from search_spaces import SearchSpace
from service.domain.errors import InvalidInput, UnknownFigure
from service.domain.records import TrialSummary
from service.domain.states import TrialState
from service.search import figures
from service.search.figures import BY_ITSELF, BY_PAIR, BY_PARAMETERS
from service.search.figures.charts import smooth, spans_of
from service.search.figures.optuna_plots import importances, optuna_study
from tests.search.simulation import EXAMPLE, study_spec

NOW = 1_800_009_000.0
HOSTILE = '<a href="https://example.org">x</a><b>$e^x$</b>&amp;'
ONE: Mapping[str, Any] = {"lr": EXAMPLE["lr"]}
ONE_VALUE: Mapping[str, Any] = {"lr": {"type": "float", "low": 0.1, "high": 0.1}, "optimizer": {"type": "categorical", "choices": ["sgd"]}}
ODD: Mapping[str, Any] = {
    "lr": {"type": "float", "low": 1e-5, "high": 0.1, "log": True},
    "dropout": {"type": "float", "low": 0.0, "high": 0.5, "step": 0.1},
    "batch_size": {"type": "int", "low": 1, "high": 1024, "log": True},
    "optimizer": {"type": "categorical", "choices": [HOSTILE, "", "1", 1, 1.0, True, None, "x" * 256, "x" * 255 + "y"]},
}


def dice(seed: int) -> random.Random:
    return random.Random(seed)  # noqa: S311


def outcome(number: int, params: Mapping[str, Any], value: float | None, state: TrialState = TrialState.COMPLETE) -> TrialSummary:
    start = NOW - 8000 + 10 * number
    ended = None if state is TrialState.RUNNING else start + 9
    return TrialSummary(
        number=number, state=state, params=params, value=value, step=8, source="sampler", started_at=start, finished_at=ended
    )


def drawn_params(space: SearchSpace, rng: random.Random) -> dict[str, Any]:
    params: dict[str, Any] = {}
    for name, parameter in space.parameters.items():
        if not space.active(name, params):
            continue
        match parameter.type:
            case "categorical":
                params[name] = rng.choice(parameter.choices)
            case "int":
                params[name] = rng.randint(parameter.low, parameter.top)
            case _ if parameter.step is not None:
                params[name] = round(parameter.low + parameter.step * rng.randrange(5), 6)
            case _:
                low, high = (math.log(end) if parameter.log else end for end in (parameter.low, parameter.high))
                value = rng.uniform(low, high)
                params[name] = min(max(math.exp(value) if parameter.log else value, parameter.low), parameter.high)
    return params


def exhibit(
    space: Mapping[str, Any], values: Sequence[float | None], states: Sequence[TrialState] = (), metric: str = "accuracy"
) -> figures.FigureData:
    """A study of trials with these objectives, in these states by turns."""
    rng = dice(len(values))
    cycle, spec = states or [TrialState.COMPLETE], study_spec(space, metric=metric)
    trials = [
        outcome(number, drawn_params(spec.search_space, rng), value, cycle[number % len(cycle)]) for number, value in enumerate(values)
    ]
    curves = {trial.number: [(step, 0.1 * step) for step in range(1, 8, 3)] for trial in trials if trial.value is not None}
    return figures.FigureData(spec, trials, curves)


def draw(name: str, of: figures.FigureData, *params: str) -> figures.Figure:
    figure = figures.draw(figures.checked(name, params, list(of.spec.search_space.root)), of, NOW)
    json.dumps(figure, allow_nan=False)
    assert figure["layout"]["meta"]["summary"]
    return figure


NOISE = [dice(number).random() for number in range(60)]
STUDIES: Mapping[str, figures.FigureData] = {
    "without a trial": exhibit(EXAMPLE, []),
    "one trial waits": exhibit(EXAMPLE, [None], [TrialState.QUEUED]),
    "one trial runs": exhibit(EXAMPLE, [0.5], [TrialState.RUNNING]),
    "one trial": exhibit(EXAMPLE, [0.5]),
    "two trials": exhibit(EXAMPLE, [0.5, 0.6]),
    "nothing but failures": exhibit(EXAMPLE, [None] * 9, [TrialState.FAILED, TrialState.PRUNED, TrialState.CANCELLED]),
    "complete without a finite value": exhibit(EXAMPLE, [None] * 9),
    "all states": exhibit(EXAMPLE, NOISE, list(TrialState)),
    "equal values": exhibit(EXAMPLE, [0.5] * 30),
    "all zero": exhibit(EXAMPLE, [0.0] * 30, metric="loss"),
    "a diverged trial": exhibit(EXAMPLE, [*NOISE, 1e30], metric="loss"),
    "the greatest floats": exhibit(EXAMPLE, [1.7e308, -1.7e308, 1.0, 5e-324] * 5, metric="loss"),
    "one parameter": exhibit(ONE, NOISE),
    "one value": exhibit(ONE_VALUE, NOISE),
    "no parameter": exhibit({}, NOISE),
    "odd parameters": exhibit(ODD, NOISE),
}  # fmt: skip


@pytest.mark.parametrize("name", figures.FIGURES)
@pytest.mark.parametrize("kind", STUDIES)
def test_every_figure_is_drawn_of_every_study(kind: str, name: str) -> None:
    of = STUDIES[kind]
    draw(name, of)
    if name in BY_PAIR or name in BY_PARAMETERS:
        for param in of.spec.search_space.root:
            draw(name, of, param)


def test_each_name_has_one_figure() -> None:
    assert {*BY_ITSELF, *BY_PAIR, *BY_PARAMETERS, "timeline", "intermediate_values"} == set(figures.FIGURES)


def test_without_a_complete_trial_a_sentence_stands_in_place_of_the_figure() -> None:
    for name in set(figures.FIGURES) - {"timeline", "intermediate_values"}:
        figure = draw(name, STUDIES["nothing but failures"])
        assert figure["data"] == []
        assert [note["text"] for note in figure["layout"]["annotations"]] == ["There is nothing to draw until a trial is complete."]


def test_a_conditional_parameter_that_no_complete_trial_has_is_named() -> None:
    of = exhibit(EXAMPLE, [0.5])
    never = {**of.outcomes[0].params, "optimizer": "adam"}
    never.pop("momentum", None)
    of = figures.FigureData(of.spec, [outcome(0, never, 0.5)])
    for name in ("slice", "contour", "rank", "parallel_coordinate"):
        assert "No complete trial has momentum yet." in json.dumps(draw(name, of, "momentum"))


def test_names_and_parameters_that_there_are_not_are_refused() -> None:
    with pytest.raises(UnknownFigure, match="choose one of optimization_history, "):
        figures.checked("pareto", [], ["lr"])
    for name, params, code in [
        ("slice", ["lr", "nothing"], "unknown_parameter"),
        ("edf", ["lr"], "takes_no_parameter"),
        ("contour", ["lr", "a", "b"], "too_many_parameters"),
    ]:
        with pytest.raises(InvalidInput) as caught:
            figures.checked(name, params, ["lr", "a", "b"])
        assert [(fault.code, fault.pointer) for fault in caught.value.faults] == [(code, "#/query/param")]
    assert figures.checked("contour", ["lr", "lr"], ["lr"]).params == ("lr",)


def test_no_text_of_a_user_is_markup() -> None:
    of = exhibit(ODD, NOISE)
    for name in figures.FIGURES:
        for params in ((), ("optimizer",)) if name in {*BY_PAIR, *BY_PARAMETERS} else ((),):
            drawn = draw(name, of, *params)
            reported = drawn["layout"].pop("meta")
            assert "<a href" not in json.dumps(drawn)
            if params:
                assert "&lt;a href" in json.dumps(drawn)
                assert reported["params"][0] == "optimizer"


def test_choices_that_look_alike_stay_apart() -> None:
    of = exhibit(ODD, NOISE)
    labels = of.choices["optimizer"].labels
    assert len(set(labels)) == len(labels) == 9
    assert max(map(len, labels)) <= 46
    axis = draw("slice", of, "optimizer")["layout"]["xaxis"]["categoryarray"]
    shown = set(draw("slice", of, "optimizer")["data"][0]["x"])
    assert shown <= set(axis)
    assert len(shown) == 9


def test_a_baseline_outside_the_space_is_left_out_where_the_parameter_is_shown() -> None:
    of = exhibit(EXAMPLE, NOISE)
    strange = outcome(60, {"lr": 0.0, "batch_size": 48, "optimizer": "lion", "frozen_layers": True, "nesterov": True}, 0.99)
    of = figures.FigureData(of.spec, [*of.outcomes, strange])
    for name in figures.FIGURES:
        draw(name, of)
    for param in ("lr", "batch_size", "optimizer", "frozen_layers"):
        assert len(draw("slice", of, param)["data"][0]["x"]) == 60
    assert "trial 60" in json.dumps(draw("edf", of))


def test_a_value_far_away_does_not_set_the_scale() -> None:
    usual = draw("slice", exhibit(EXAMPLE, NOISE, metric="loss"), "lr")["layout"]["yaxis"]
    assert "range" not in usual
    low, high = draw("slice", STUDIES["a diverged trial"], "lr")["layout"]["yaxis"]["range"]
    assert low < min(NOISE) < max(NOISE) < high < 2


@pytest.mark.parametrize("name", ["optimization_history", "slice", "edf"])
def test_of_few_values_one_far_away_does_not_set_the_scale_and_is_counted(name: str) -> None:
    params = ("lr",) if name == "slice" else ()
    axis = "xaxis" if name == "edf" else "yaxis"
    layout = draw(name, exhibit(EXAMPLE, [0.7, 0.5, 1e12], metric="loss"), *params)["layout"]
    low, high = layout[axis]["range"]
    assert 0.4 < low < 0.5 and 0.7 < high < 0.8
    assert "1 of the values lie beyond the axis, up to 1e+12" in layout["meta"]["summary"]
    assert "range" not in draw(name, exhibit(EXAMPLE, [0.7, 0.5, 1.9], metric="loss"), *params)["layout"][axis]


def objective(params: Mapping[str, Any], rng: random.Random) -> float:
    bonus = 0.2 if params["optimizer"] == "adam" else 0.1 * params.get("momentum", 0)
    return float(1 - (math.log10(params["lr"]) + 3) ** 2 / 4 + bonus + rng.gauss(0, 0.05))


def played(space: Mapping[str, Any], count: int, metric: str = "accuracy") -> figures.FigureData:
    rng, spec = dice(count), study_spec(space, metric=metric)
    trials = []
    for number in range(count):
        params = drawn_params(spec.search_space, rng)
        value = objective(params, rng)
        trials.append(outcome(number, params, -value if metric == "loss" else value))
    return figures.FigureData(spec, trials)


@pytest.mark.parametrize("metric", ["accuracy", "loss"])
@pytest.mark.parametrize("count", [20, 45, 400])
def test_importances_are_those_of_optuna(count: int, metric: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "sklearn", None)  # PED-ANOVA does without it, and its import takes seconds
    from optuna.importance import PedAnovaImportanceEvaluator, get_param_importances

    from service.search.base import without_experimental_warning

    space = {
        **EXAMPLE,
        "dropout": {"type": "float", "low": 0.0, "high": 0.5, "step": 0.1},
        "width": {"type": "int", "low": 1, "high": 512, "log": True},
    }
    of = played(space, count, metric)
    theirs = get_param_importances(optuna_study(of), evaluator=without_experimental_warning(PedAnovaImportanceEvaluator))
    ours = importances(of)
    assert ours == pytest.approx(theirs, abs=1e-6)
    assert count < 400 or next(iter(ours)) == "lr"
    assert sum(ours.values()) == pytest.approx(1)


def test_the_surface_is_a_mean_of_near_trials_and_says_nothing_far_from_all() -> None:
    x = np.array([0.0, 0.01, 0.02, 0.03, 1.0])
    y = np.array([0.0, 0.02, 0.01, 0.03, 1.0])
    values = np.array([1.0, 1.0, 1.0, 1.0, 5.0])
    grid = np.linspace(0, 1, 21)
    surface = smooth((x, y), values, (grid, grid))
    assert surface[0][0] == pytest.approx(1.0, abs=0.01)
    assert surface[20][20] == pytest.approx(5.0, abs=0.01)
    assert surface[0][20] is None
    assert surface[20][0] is None


def test_a_choice_tells_nothing_of_its_neighbours() -> None:
    of = exhibit(EXAMPLE, NOISE)
    surface = draw("contour", of, "optimizer", "batch_size")["data"][0]
    cell = [
        trial.value for trial in of.complete if (trial.params["optimizer"], trial.params["batch_size"]) == ("adam", 32)
    ]  # fmt: skip
    assert surface["type"] == "heatmap"
    assert surface["z"][1][1] == pytest.approx(np.mean(np.array(cell, dtype=float)), abs=1e-3)


def test_the_distribution_has_a_step_for_each_trial() -> None:
    figure = draw("edf", exhibit(EXAMPLE, [0.1, 0.4, 0.4, 0.9]))
    assert figure["data"][0]["x"] == [0.1, 0.1, 0.4, 0.4, 0.9]
    assert figure["data"][0]["y"] == [0.0, 0.25, 0.5, 0.75, 1.0]
    assert dict(figure["layout"]["meta"]["rows"])["half"] == "40.00\N{NO-BREAK SPACE}%"


def test_hovering_shows_the_trial_and_its_parameters() -> None:
    of = played(EXAMPLE, 30)
    first = of.complete[0]
    for name in ("optimization_history", "slice", "contour", "rank", "timeline"):
        traces = draw(name, of)["data"]
        shown = [text for trace in traces for text in trace.get("hovertext", ()) if text.startswith("<b>trial 0</b>")]
        assert shown, name
        assert f"<br>lr {first.params['lr']:.4g}<br>" in shown[0]
        assert f"optimizer {first.params['optimizer']}" in shown[0]


def test_the_history_holds_the_best_so_far() -> None:
    points, best = draw("optimization_history", exhibit(EXAMPLE, [0.3, None, 0.2, 0.5]))["data"]
    assert (points["x"], points["y"]) == ([0, 2, 3], [0.3, 0.2, 0.5])
    assert best["y"] == [0.3, 0.3, 0.3, 0.5]


def test_trials_that_ran_at_one_time_stand_in_rows_of_their_own() -> None:
    times = [(0, 10), (1, 5), (2, 3), (3, 9), (5, 6), (10, 11)]
    trials = [replace(outcome(number, {}, 0.5), started_at=start, finished_at=end) for number, (start, end) in enumerate(times)]
    assert [spans_of(trials, NOW)[number].row for number in range(6)] == [0, 1, 2, 2, 1, 0]


def test_the_timeline_is_utc_and_knows_every_state() -> None:
    figure = draw("timeline", exhibit(EXAMPLE, [0.5, 0.5, 0.5], [TrialState.COMPLETE, TrialState.RUNNING, TrialState.CANCELLED]))
    bars = {trace["name"]: trace for trace in figure["data"]}
    assert list(bars) == ["complete", "cancelled", "running"]
    assert bars["complete"]["base"] == [1000 * (NOW - 8000)]
    assert bars["complete"]["x"] == [9000]
    assert bars["running"]["x"] == [1000 * (8000 - 10)]


def test_two_thousand_trials_are_drawn_at_once() -> None:
    of = played(EXAMPLE, 2000)
    curves = {trial.number: [(step, 0.5) for step in range(1, 200, 10)] for trial in of.outcomes}
    for name in figures.FIGURES:
        request = figures.checked(name, [], list(EXAMPLE))
        figures.prepare(request)
        start = time.process_time()
        body = json.dumps(figures.draw(request, figures.FigureData(of.spec, of.outcomes, curves), NOW))
        assert time.process_time() - start < 4, name  # none takes a second on a machine with nothing else to do
        assert len(body) < 1_500_000, name
