"""Reports the savings of a study's pruning, and compares its pruner with others."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from service.domain.pruning import Agreement, PotentialWinner, PruningReport, Savings, SimulatedPruner
from service.domain.records import NO_REPORTS, RecordedStudy, RecordedTrial
from service.domain.samplers import Asha, Hyperband, Median, NoPruner, Patient, Percentile, Pruner
from service.domain.spec import StudySpec
from service.search.pruner_simulation import Board, SimulationResult, board_of, chance_of_any, overtakers, pruned_by_study, simulate
from trainer.configuration import counted


def label_of(pruner: Pruner) -> str:
    """The display name, such as `asha (reduction factor 3)`. It contains no comma, so that names can be listed."""
    match pruner:
        case NoPruner():
            return "no pruner"
        case Patient(wrapped=wrapped, patience=patience):
            rule = "" if isinstance(wrapped, NoPruner) else f"{label_of(wrapped)} with "
            return f"{rule}patience of {patience} {'epoch' if patience == 1 else 'epochs'}{_remark(_options(pruner, 'patience'))}"
        case Percentile(percentile=percentile):
            return f"percentile {percentile:g}{_remark(_options(pruner, 'percentile'))}"
        case Asha(reduction_factor=factor) | Hyperband(reduction_factor=factor):
            return f"{pruner.name}{_remark({'reduction_factor': factor, **_options(pruner, 'reduction_factor')})}"
        case _:
            return f"{pruner.name}{_remark(_options(pruner))}"


def _options(pruner: Pruner, *stated: str) -> dict[str, Any]:
    """The options that differ from their defaults, without those that the label states already."""
    return pruner.model_dump(exclude_defaults=True, exclude={"name", "wrapped", *stated})


def _remark(options: dict[str, Any]) -> str:
    sentences = "; ".join(f"{name.replace('_', ' ')} {value:g}" for name, value in options.items() if value is not None)
    return f" ({sentences})" if sentences else ""


SAME_TRIALS = (
    "All of this assumes the same configurations in the same order; a sampler that had received other results might have proposed others."
)
UNKNOWN = "It cannot be known whether a pruned trial would have overtaken the winner."
MOST_NAMED = 3  # overtakers


def sentences(found: PruningReport, spec: StudySpec, trials: Sequence[RecordedTrial], *, with_reports: bool) -> tuple[str, ...]:
    """The report as sentences, the most important first."""
    return tuple(_sentences(found, spec, trials, with_reports))


def _sentences(found: PruningReport, spec: StudySpec, trials: Sequence[RecordedTrial], with_reports: bool) -> Iterator[str]:
    so_far = "So far, " if found.partial else ""
    yield _begun(so_far, _saving(found, spec))
    if found.winner is None:
        yield f"No trial is complete{' yet' if found.partial else ''}, so there is no winner that another pruner might have ended."
        return
    if not with_reports:
        yield "The study has too many reports to simulate other pruners on them."
        return
    value = next(one.value for one in trials if one.number == found.winner)
    yield _begun(so_far, f"trial {found.winner} is the best, with {spec.objective.metric} {value:.6g}.")
    yield from _others(found, trials, spec.objective.metric)
    yield from _overtaking(found)
    yield from _repeated(found)
    yield SAME_TRIALS


def _begun(how: str, sentence: str) -> str:
    return how + sentence if how else sentence[0].upper() + sentence[1:]


def _saving(found: PruningReport, spec: StudySpec) -> str:
    epochs, of = found.saved.epochs, found.saved.of
    if not epochs:
        return "the study has no pruner, so no epochs were saved." if isinstance(spec.pruner, NoPruner) else "no trial was pruned."
    time = "" if found.saved.seconds is None or found.saved.seconds < 1 else f", {_duration(found.saved.seconds)} of training"
    return f"pruning saved {counted(epochs, 'epoch')} of {of} ({100 * epochs / of:.0f} %){time}."


def _others(found: PruningReport, trials: Sequence[RecordedTrial], metric: str) -> Iterator[str]:
    """Sentences on which of the other pruners would have pruned the winner."""
    others = [one for one in found.pruners if not one.own and one.name != "none"]
    fatal = [one for one in others if one.kept_winner is False]
    safe = [one for one in others if one.kept_winner]
    open_ones = [one for one in others if one.kept_winner is None]
    if fatal:
        yield f"It would have been pruned by {_listed([one.label for one in fatal])}{_loss(fatal, trials, metric)}."
    if safe:
        cheapest = min(safe, key=lambda one: one.epochs)
        yield f"It would have been kept by {_listed([one.label for one in safe])}{_fewest_epochs(cheapest, len(safe))}."
    if open_ones:
        yield from _undecided(open_ones)


def _loss(fatal: Sequence[SimulatedPruner], trials: Sequence[RecordedTrial], metric: str) -> str:
    """The best values with pruners that would have pruned the winner."""
    values = {one.number: one.value for one in trials}
    left = sorted(value for one in fatal if one.winner is not None and (value := values[one.winner]) is not None)
    if not left:
        return ""
    return f"; the best trial that they keep has {metric} {left[0]:.6g}" + ("" if left[0] == left[-1] else f" to {left[-1]:.6g}")


def _fewest_epochs(cheapest: SimulatedPruner, among: int) -> str:
    return f"; {'of these, ' + cheapest.label if among > 1 else 'it'} trains {_span(cheapest)}"


def _undecided(those: Sequence[SimulatedPruner]) -> Iterator[str]:
    kept = [one.label for one in those if one.likely]
    lost = [one.label for one in those if not one.likely]
    outcomes = [f"kept by {_listed(kept)}"] if kept else []
    outcomes += [f"pruned by {_listed(lost)}"] if lost else []
    yield (
        f"As far as the curves are recorded, it would have been {' and '.join(outcomes)}; this is not certain, "
        "because these pruners would have continued some of the pruned trials, whose further curves are unknown."
    )


def _overtaking(found: PruningReport) -> Iterator[str]:
    if found.chance is None:
        return
    if not found.overtaking:
        yield f"{UNKNOWN} None would have with the gain of any complete trial from the same epoch on."
        return
    likeliest = _listed([_rival(one) for one in found.overtaking[:MOST_NAMED]])
    yield (
        f"{UNKNOWN} If each of them had gained like the complete trials from the same epoch on, independently of the others, "
        f"the chance that at least one would have is {_chance(found.chance)}; most likely: {likeliest}. "
        "The complete trials are the better ones, so the pruned trials might have gained differently."
    )


def _rival(one: PotentialWinner) -> str:
    return f"trial {one.trial} ({_chance(one.chance)}, by {counted(one.n, 'complete trial')})"


def _repeated(found: PruningReport) -> Iterator[str]:
    known = found.agreement
    if known is not None and known.same < known.of:
        yield (
            f"Simulated in the order of the reports, the study's own pruner ends {known.same} of {known.of} trials at the same epoch "
            "as in the study, because trials that run at the same time see only some of each other's reports. "
            "The results for the other pruners are no more exact."
        )


def _chance(share: float) -> str:
    return f"{100 * share:.0f} %" if 0.01 <= share <= 0.99 else ("below 1 %" if share < 0.01 else "above 99 %")


def _span(one: SimulatedPruner) -> str:
    least, most = one.epochs
    return counted(most, "epoch") if least == most else f"{least} to {counted(most, 'epoch')}"


def _listed(names: Sequence[str]) -> str:
    *most, last = names
    return f"{', '.join(most)} and {last}" if most else last


def _duration(seconds: float) -> str:
    """A duration in seconds, minutes or hours, with about two significant digits."""
    if seconds >= 7200:
        return f"about {seconds / 3600:.1f} hours"
    return f"about {seconds / 60:.0f} minutes" if seconds >= 120 else f"about {seconds:.0f} seconds"


OTHERS: Mapping[str, Pruner] = {
    "none": NoPruner(),
    "median": Median(),
    "percentile-25": Percentile(),
    "asha-2": Asha(reduction_factor=2),
    "asha-3": Asha(reduction_factor=3),
    "asha-4": Asha(reduction_factor=4),
    "hyperband": Hyperband(),
    "patient-median": Patient(patience=2, wrapped=Median()),
}
MOST_OVERTAKERS = 10  # that are named


def pruning_report(recording: RecordedStudy) -> PruningReport:
    """The report on a study's pruning. Without recorded reports, no pruner is simulated."""
    spec, trials = recording.spec, recording.trials
    board = board_of(trials, recording.reports or NO_REPORTS, maximize=spec.objective.direction == "maximize")
    winner = best_of(trials, maximize=board.maximize)
    saved, rivals = _saved(trials), overtakers(board, winner) if winner is not None else []
    known = recording.reports is not None
    found = PruningReport(
        partial=recording.partial,
        saved=saved,
        winner=None if winner is None else winner.number,
        words=(),
        pruners=_pruners(recording, board, winner) if known else (),
        overtaking=tuple(one for one in rivals[:MOST_OVERTAKERS] if one.chance > 0),
        chance=chance_of_any(rivals),
        agreement=_agreement(recording, board) if known else None,
    )
    return found.model_copy(update={"words": sentences(found, spec, trials, with_reports=known)})


def best_of(trials: Sequence[RecordedTrial], *, maximize: bool) -> RecordedTrial | None:
    """The best complete trial; of equal ones the first."""
    sign = -1.0 if maximize else 1.0
    ranked = [(sign * one.value, one.number, one) for one in trials if one.complete and one.trained and one.value is not None]
    return min(ranked)[2] if ranked else None


def _saved(trials: Sequence[RecordedTrial]) -> Savings:
    trained = [one for one in trials if one.trained]
    spared = [one for one in trained if pruned_by_study(one)]
    seconds = [one.seconds_left for one in spared if one.seconds_left is not None]
    epochs = sum(one.epochs - one.step for one in spared)
    # Trials without a time estimate count at the mean rate of the others.
    timed_epochs = sum(one.epochs - one.step for one in spared if one.seconds_left is not None)
    return Savings(
        epochs=epochs,
        of=sum(one.epochs if pruned_by_study(one) else one.step for one in trained),
        seconds=sum(seconds) * epochs / timed_epochs if timed_epochs else None,
    )


def _pruners(recording: RecordedStudy, board: Board, winner: RecordedTrial | None) -> tuple[SimulatedPruner, ...]:
    """The study's own pruner with its recorded decisions, then each of the others, simulated."""
    own = recording.spec.pruner
    name = next((name for name, pruner in OTHERS.items() if pruner == own), "own")
    rest = [(name, pruner) for name, pruner in OTHERS.items() if pruner != own]
    simulated = [(name, pruner, simulate(recording.spec, board, pruner)) for name, pruner in rest]
    others = [_simulated(board, winner, name, pruner, result) for name, pruner, result in simulated if result is not None]
    return (_recorded(recording, winner, name), *others)


def _recorded(recording: RecordedStudy, winner: RecordedTrial | None, name: str) -> SimulatedPruner:
    epochs = sum(one.step for one in recording.trials if one.trained)
    kept = None if winner is None else True
    return SimulatedPruner(
        name=name,
        label=label_of(recording.spec.pruner),
        own=True,
        kept_winner=kept,
        likely=kept,
        winner=None if winner is None else winner.number,
        trials_pruned=sum(pruned_by_study(one) for one in recording.trials),
        continued=0,
        epochs=(epochs, epochs),
    )


def _simulated(board: Board, winner: RecordedTrial | None, name: str, pruner: Pruner, result: SimulationResult) -> SimulatedPruner:
    ended = result.ended(board)
    surviving = [one for index, one in enumerate(board.trials) if not ended[index]]
    best = best_of(surviving, maximize=board.maximize)
    likely = None if winner is None else not ended[board.trials.index(winner)]
    spent = [_epochs(board, index, result) for index, one in enumerate(board.trials) if one.trained]
    return SimulatedPruner(
        name=name,
        label=label_of(pruner),
        own=False,
        kept_winner=likely if winner is not None and _is_certain(board, winner, result) else None,
        likely=likely,
        winner=None if best is None else best.number,
        trials_pruned=int(ended.sum()),
        continued=sum(pruned_by_study(one) and one.trained for one in surviving),
        epochs=(sum(least for least, _ in spent), sum(most for _, most in spent)),
    )


def _epochs(board: Board, index: int, result: SimulationResult) -> tuple[int, int]:
    """The fewest and the most epochs that the trial would have been trained."""
    one, end = board.trials[index], int(result.ends[index])
    if end >= 0:
        return int(board.step[end]), int(board.step[end])
    if not pruned_by_study(one):
        return one.step, one.step
    # The study pruned the trial and this pruner does not: it runs to the next decision step at least.
    return next((step for step in result.steps if one.step < step < one.epochs), one.epochs), one.epochs


def _is_certain(board: Board, winner: RecordedTrial, result: SimulationResult) -> bool:
    """Whether the simulated decision on the winner depends on recorded reports only.

    False if, before the last decision on the winner, the study pruned a trial that this pruner would have continued:
    the further reports of that trial are unknown and might have changed the decision.
    """
    if not result.steps:
        return True
    index = board.trials.index(winner)
    judged = result.judged[board.trial[result.judged] == index]
    judged = judged[judged <= result.ends[index]] if result.ends[index] >= 0 else judged
    continued = [one.ended for place, one in enumerate(board.trials) if pruned_by_study(one) and result.ends[board.origin[place]] < 0]
    return not len(judged) or all(ended is None or board.time[judged[-1]] < ended for ended in continued)


def _agreement(recording: RecordedStudy, board: Board) -> Agreement | None:
    """In how many trials that were trained and have ended the simulation of the study's own pruner agrees with the record."""
    if isinstance(recording.spec.pruner, NoPruner) or (result := simulate(recording.spec, board, recording.spec.pruner)) is None:
        return None
    ended = [index for index, one in enumerate(board.trials) if one.trained and one.ended is not None]
    return Agreement(same=sum(_agrees(board, index, result) for index in ended), of=len(ended))


def _agrees(board: Board, index: int, result: SimulationResult) -> bool:
    one, end = board.trials[index], int(result.ends[index])
    return bool(board.step[end] == one.step and pruned_by_study(one)) if end >= 0 else not pruned_by_study(one)
