"""A study's pruning played again: its own pruner repeats itself, and others end what they would have ended."""

import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from service.domain.pruning import Agreement, PruningReport, SimulatedPruner
from service.domain.records import RecordedStudy
from service.domain.samplers import Asha, Hyperband, Median, NoPruner, Patient, Percentile, Pruner, Threshold, Wilcoxon
from service.domain.states import TrialState
from service.search.pruner_simulation import board_of, quantiles_of, simulate
from service.search.pruning_report import pruning_report
from tests.search.recorded import Played, noisy_curves, spec_of

EPOCHS = 27
PRUNERS: list[Pruner] = [
    Asha(min_steps=1, reduction_factor=3),
    Asha(min_steps=2, reduction_factor=2, min_early_stopping_rate=1),
    Median(n_startup_trials=3),
    Median(n_startup_trials=0, n_warmup_steps=2, interval_steps=3, n_min_trials=4),
    Percentile(percentile=30.0),
    Hyperband(min_steps=1, reduction_factor=3),
    Threshold(lower=0.05, upper=0.95),
    Patient(patience=1, min_delta=0.01),
    Patient(patience=1, wrapped=Median(n_startup_trials=1)),
    Patient(patience=0, wrapped=Asha(min_steps=1, reduction_factor=2)),
    Patient(patience=1, wrapped=Hyperband(min_steps=1, reduction_factor=2)),
]


def ids(pruner: Any) -> str:
    wrapped = f"-{pruner.wrapped.name}" if isinstance(pruner, Patient) else ""
    return (
        str(pruner.name)
        + wrapped
        + "".join(f"-{value}" for value in pruner.model_dump(exclude_defaults=True, exclude={"wrapped"}).values())
    )


def replayed_ends(recording: RecordedStudy) -> dict[int, int]:
    """The step at which the replay of the study's own pruner ends each trial that it ends."""
    assert recording.reports is not None
    board = board_of(recording.trials, recording.reports, maximize=recording.spec.objective.direction == "maximize")
    fate = simulate(recording.spec, board, recording.spec.pruner)
    assert fate is not None
    return {number: int(board.step[place]) for number, place in enumerate(fate.ends.tolist()) if place >= 0}


def by_name(found: PruningReport) -> dict[str, SimulatedPruner]:
    return {one.name: one for one in found.pruners}


@pytest.mark.parametrize("metric", ["accuracy", "loss"])
@pytest.mark.parametrize("pruner", PRUNERS, ids=ids)
def test_a_studys_own_pruner_played_again_ends_each_trial_where_it_did(pruner: Pruner, metric: str) -> None:
    curves = noisy_curves(40, EPOCHS)
    falling = [{step: 1 - value for step, value in curve.items()} for curve in curves]
    played = Played(spec_of(pruner, metric, EPOCHS), falling if metric == "loss" else curves).one_after_another()
    assert len(set(played.ends.values())) > 1
    assert replayed_ends(played.recording()) == played.ends
    assert pruning_report(played.recording()).agreement == Agreement(same=40, of=40)


@pytest.mark.parametrize("pruner", [*PRUNERS[:3], PRUNERS[5]], ids=ids)
def test_it_does_so_too_where_trials_ran_at_one_time(pruner: Pruner) -> None:
    played = Played(spec_of(pruner, epochs=EPOCHS), noisy_curves(40, EPOCHS, seed=2)).at_one_time(5)
    assert played.ends
    assert replayed_ends(played.recording()) == played.ends


@pytest.mark.parametrize("pruner", [*PRUNERS[:3], PRUNERS[5]], ids=ids)
def test_it_does_so_too_where_trials_shared_a_pass(pruner: Pruner) -> None:
    played = Played(spec_of(pruner, epochs=EPOCHS), noisy_curves(40, EPOCHS, seed=3)).in_passes(12)
    assert played.ends
    assert replayed_ends(played.recording()) == played.ends


def test_a_value_that_is_no_number_ends_a_trial_under_every_pruner_but_none() -> None:
    curves = [dict(curve) for curve in noisy_curves(8, 9)]
    curves[7] = {**curves[7], 3: math.nan, 9: 2.0}
    found = pruning_report(Played(spec_of(epochs=9), curves).one_after_another().recording())
    killed = {one.name for one in found.pruners if one.winner != 7}
    assert {"asha-3", "hyperband", "median", "percentile-25"} - killed <= {"hyperband"}
    assert by_name(found)["none"].kept_winner


def late_bloomer() -> list[dict[int, float]]:
    """Nine steady trials, then one that is the worst until its last epochs and the best in the end."""
    steady = [{step: 0.5 + number / 100 for step in range(1, 10)} for number in range(9)]
    return [*steady, {step: 0.1 if step < 8 else 0.9 for step in range(1, 10)}]


def test_another_pruner_would_have_ended_a_winner_that_began_slowly() -> None:
    found = pruning_report(Played(spec_of(epochs=9), late_bloomer()).one_after_another().recording())
    pruners = by_name(found)
    assert found.winner == 9
    for name in ("median", "percentile-25", "asha-2", "asha-3", "asha-4"):
        assert (pruners[name].kept_winner, pruners[name].likely) == (False, False)
        assert pruners[name].winner != 9
    assert (pruners["none"].own, pruners["none"].kept_winner, pruners["none"].epochs) == (True, True, (90, 90))
    assert "It would have been pruned by median, percentile 25, asha (reduction factor 2)" in " ".join(found.words)
    assert "the best trial that they keep has accuracy 0.58." in " ".join(found.words)


def test_a_winner_that_leads_from_the_first_epoch_is_kept_by_all() -> None:
    curves = [{step: 0.3 + number / 100 + step / 100 for step in range(1, 10)} for number in range(10)]
    found = pruning_report(Played(spec_of(epochs=9), curves).one_after_another().recording())
    assert found.winner == 9
    assert found.pruners and all(one.kept_winner and one.winner == 9 for one in found.pruners)
    assert all(one.epochs[0] == one.epochs[1] for one in found.pruners)
    assert not any("would have been pruned" in sentence for sentence in found.words)


def test_what_pruning_saved_is_what_the_pruned_trials_had_before_them() -> None:
    played = Played(spec_of(Asha(reduction_factor=3), epochs=9), noisy_curves(30, 9)).one_after_another()
    found = pruning_report(played.recording())
    assert found.saved.of == 30 * 9
    assert found.saved.epochs == sum(9 - step for step in played.ends.values())
    own = by_name(found)["asha-3"]
    assert (own.own, own.trials_pruned, own.epochs) == (True, len(played.ends), (270 - found.saved.epochs, 270 - found.saved.epochs))
    assert found.saved.seconds is None


def test_seconds_are_counted_by_each_trials_own_pace_and_scaled_to_those_that_told_none() -> None:
    played = Played(spec_of(Asha(reduction_factor=3), epochs=9), noisy_curves(30, 9)).one_after_another()
    recording = played.recording()
    reported, untold = list(played.ends)[:2], list(played.ends)[2:]
    trials = [replace(one, seconds_left=10.0 * (9 - one.step)) if one.number in reported else one for one in recording.trials]
    found = pruning_report(RecordedStudy(spec=recording.spec, partial=False, trials=trials, reports=recording.reports))
    assert untold
    assert found.saved.seconds == pytest.approx(10 * found.saved.epochs)


def test_a_trial_that_would_have_gone_on_counts_from_the_next_decision_to_its_last_epoch() -> None:
    curves = [{step: value for step in range(1, 10)} for value in (0.9, 0.8, 0.7)]
    played = Played(spec_of(Asha(reduction_factor=3), epochs=9), curves).one_after_another()
    assert played.ends == {1: 1, 2: 1}
    pruners = by_name(pruning_report(played.recording()))
    assert (pruners["none"].epochs, pruners["none"].continued) == ((27, 27), 2)
    assert (pruners["median"].epochs, pruners["median"].continued) == ((9 + 2 + 2, 27), 2)
    assert pruners["asha-2"].epochs == (9 + 1 + 1, 9 + 1 + 1)


def test_a_winner_after_trials_that_might_have_had_a_say_is_likely_and_not_certain() -> None:
    curves = [{step: value for step in range(1, 10)} for value in (0.5, 0.4, 0.45, 0.9)]
    found = pruning_report(Played(spec_of(Asha(reduction_factor=3), epochs=9), curves).one_after_another().recording())
    median = by_name(found)["median"]
    assert (median.kept_winner, median.likely) == (None, True)
    assert by_name(found)["none"].kept_winner
    assert any("not certain" in sentence for sentence in found.words)


def test_the_chance_of_being_overtaken_is_what_complete_trials_gained_from_there() -> None:
    gains = (0.1, 0.2, 0.3, 0.4)
    curves = [{1: 0.5, 2: 0.5, 3: 0.5 + gain} for gain in gains]
    pruned = [{1: 0.65, 2: 0.2, 3: 0.2}, {1: 0.4, 2: 0.2, 3: 0.2}]
    played = Played(spec_of(Threshold(lower=0.3, n_warmup_steps=1), epochs=3), [*curves, *pruned]).one_after_another()
    assert played.ends == {4: 2, 5: 2}
    found = pruning_report(played.recording())
    assert (found.winner, found.chance, found.overtaking) == (3, 0.0, ())
    higher = Played(
        spec_of(Threshold(upper=0.6, n_warmup_steps=1), epochs=3), [*curves, {1: 0.1, 2: 0.65, 3: 0.9}, {1: 0.1, 2: 0.75, 3: 1}]
    )
    found = pruning_report(higher.one_after_another().recording())
    assert [(one.trial, one.chance, one.n) for one in found.overtaking] == [(5, 0.75, 4), (4, 0.5, 4)]
    assert found.chance == pytest.approx(1 - 0.25 * 0.5)
    assert any("88 %" in sentence and "trial 5 (75 %, by 4 complete trials)" in sentence for sentence in found.words)


def test_a_duplicate_stands_and_falls_with_the_trial_that_answered_it() -> None:
    played = Played(spec_of(epochs=9), late_bloomer()).one_after_another()
    recording = played.recording()
    copy = replace(recording.trials[9], id=1010, number=10, duplicate_of=9, ended=played.clock + 1)
    found = pruning_report(replace(recording, trials=[*recording.trials, copy]))
    assert found.winner == 9
    assert by_name(found)["none"].epochs == (90, 90)
    alone = by_name(pruning_report(recording))["median"]
    assert by_name(found)["median"].trials_pruned == alone.trials_pruned + 1
    assert by_name(found)["median"].epochs == alone.epochs


def test_a_study_of_which_little_is_known_says_so() -> None:
    empty = RecordedStudy(spec=spec_of(Median()), partial=True, trials=[], reports=Played(spec_of(), []).reported)
    found = pruning_report(empty)
    assert (found.winner, found.chance, found.saved.of) == (None, None, 0)
    assert found.words == (
        "So far, no trial was pruned.",
        "No trial is complete yet, so there is no winner that another pruner might have ended.",
    )
    assert {one.kept_winner for one in found.pruners} == {None}


def test_too_many_reports_are_not_replayed_and_what_was_saved_is_told_all_the_same() -> None:
    recording = replace(Played(spec_of(Asha(), epochs=9), noisy_curves(30, 9)).one_after_another().recording(), reports=None)
    found = pruning_report(recording)
    assert found.saved.epochs > 0
    assert (found.pruners, found.overtaking, found.agreement) == ((), (), None)
    assert any("too many reports to simulate other pruners" in sentence for sentence in found.words)


def test_wilcoxon_is_told_as_it_was_and_not_asked_again() -> None:
    found = pruning_report(Played(spec_of(Wilcoxon(p_threshold=0.2), epochs=9), noisy_curves(15, 9)).one_after_another().recording())
    assert (found.pruners[0].own, found.pruners[0].label, found.agreement) == (True, "wilcoxon (p threshold 0.2)", None)
    assert found.pruners[0].trials_pruned > 0


def test_each_pruner_has_a_name_and_a_label_of_its_own() -> None:
    for own in (NoPruner(), Asha(), Patient(patience=4, wrapped=Hyperband()), Percentile(percentile=60.0)):
        found = pruning_report(Played(spec_of(own, epochs=9), noisy_curves(4, 9)).one_after_another().recording())
        assert len({one.name for one in found.pruners}) == len({one.label for one in found.pruners}) == len(found.pruners)
        assert [one.own for one in found.pruners] == [True] + [False] * (len(found.pruners) - 1)


def test_trials_that_still_run_count_with_what_they_trained() -> None:
    recording = Played(spec_of(epochs=9), late_bloomer()).one_after_another().recording()
    running = replace(recording.trials[3], state=TrialState.RUNNING, ended=None, step=4, value=None)
    found = pruning_report(replace(recording, partial=True, trials=[*recording.trials[:3], running, *recording.trials[4:]]))
    assert found.partial
    assert by_name(found)["none"].epochs == (85, 85)
    assert found.words[1].startswith("So far, trial 9 is the best")


def test_our_quantile_is_numpys_to_the_last_bit() -> None:
    dice = np.random.default_rng(0)
    rows = [sorted(dice.random(size).tolist()) for size in range(1, 60)]
    for percent in (0.0, 10.0, 25.0, 33.3, 50.0, 75.0, 99.9, 100.0):
        assert quantiles_of(rows, percent / 100).tolist() == [float(np.nanpercentile(np.array(row), percent)) for row in rows]
