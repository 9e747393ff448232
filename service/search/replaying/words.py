"""A study's pruning looked back on, in plain sentences."""

from collections.abc import Iterator, Sequence

from service.domain.pruning import Hindsight, Overtaker, Replayed
from service.domain.records import Recorded
from service.domain.samplers import NoPruner
from service.domain.spec import StudySpec

SAME_TRIALS = "All of it takes the same configurations in the same order; a sampler that had seen other results might have proposed others."
UNKNOWN = "Whether a pruned trial would have overtaken it cannot be known."
MOST_NAMED = 3  # overtakers


def words(found: Hindsight, spec: StudySpec, trials: Sequence[Recorded], *, with_reports: bool) -> tuple[str, ...]:
    """The sentences, the most important first."""
    return tuple(_sentences(found, spec, trials, with_reports))


def _sentences(found: Hindsight, spec: StudySpec, trials: Sequence[Recorded], with_reports: bool) -> Iterator[str]:
    so_far = "So far, " if found.partial else ""
    yield _begun(so_far, _saving(found, spec))
    if found.winner is None:
        yield f"No trial is complete{' yet' if found.partial else ''}, so there is no winner that another pruner might have ended."
        return
    if not with_reports:
        yield "The study has more reports than are replayed at once, so other pruners were not asked about them."
        return
    value = next(one.value for one in trials if one.number == found.winner)
    yield _begun(so_far, f"trial {found.winner} is the best, with {spec.objective.metric} {value:.6g}.")
    yield from _others(found, trials, spec.objective.metric)
    yield from _overtaking(found)
    yield from _repeated(found)
    yield SAME_TRIALS


def _begun(how: str, sentence: str) -> str:
    return how + sentence if how else sentence[0].upper() + sentence[1:]


def _saving(found: Hindsight, spec: StudySpec) -> str:
    epochs, of = found.saved.epochs, found.saved.of
    if not epochs:
        return "the study has no pruner, and nothing was spared." if isinstance(spec.pruner, NoPruner) else "nothing was pruned."
    time = "" if found.saved.seconds is None or found.saved.seconds < 1 else f", {_duration(found.saved.seconds)} of training"
    return f"pruning spared {_counted(epochs, 'epoch')} of {of} ({100 * epochs / of:.0f} %){time}."


def _others(found: Hindsight, trials: Sequence[Recorded], metric: str) -> Iterator[str]:
    """Of the pruners that prune, which would have ended the winner."""
    others = [one for one in found.pruners if not one.own and one.name != "none"]
    fatal = [one for one in others if one.kept_winner is False]
    safe = [one for one in others if one.kept_winner]
    open_ones = [one for one in others if one.kept_winner is None]
    if fatal:
        yield f"It would have been pruned by {_listed([one.label for one in fatal])}{_loss(fatal, trials, metric)}."
    if safe:
        cheapest = min(safe, key=lambda one: one.epochs)
        yield f"It would have been kept by {_listed([one.label for one in safe])}{_thrift(cheapest, len(safe))}."
    if open_ones:
        yield from _undecided(open_ones)


def _loss(fatal: Sequence[Replayed], trials: Sequence[Recorded], metric: str) -> str:
    """What those would have ended with."""
    values = {one.number: one.value for one in trials}
    left = sorted(value for one in fatal if one.winner is not None and (value := values[one.winner]) is not None)
    if not left:
        return ""
    return f"; the best that they let run to its end has {metric} {left[0]:.6g}" + ("" if left[0] == left[-1] else f" to {left[-1]:.6g}")


def _thrift(cheapest: Replayed, among: int) -> str:
    return f"; {'of these, ' + cheapest.label if among > 1 else 'it'} trains {_span(cheapest)}"


def _undecided(those: Sequence[Replayed]) -> Iterator[str]:
    kept = [one.label for one in those if one.likely]
    lost = [one.label for one in those if not one.likely]
    told = [f"kept by {_listed(kept)}"] if kept else []
    told += [f"pruned by {_listed(lost)}"] if lost else []
    yield (
        f"As far as the curves go, it would have been {' and '.join(told)}; that is not certain, "
        "for under those some trials that were pruned would have gone on, and nobody knows how."
    )


def _overtaking(found: Hindsight) -> Iterator[str]:
    if found.chance is None:
        return
    if not found.overtaking:
        yield f"{UNKNOWN} Had they gained as any of the complete ones did from the same epoch on, none of them would have."
        return
    likeliest = _listed([_rival(one) for one in found.overtaking[:MOST_NAMED]])
    yield (
        f"{UNKNOWN} Had they gained as the complete ones did from the same epoch on, "
        f"each by itself, the chance that at least one had is {_chance(found.chance)}; likeliest: {likeliest}. "
        "Those that were let go on are the better ones, so the others' gains may have been of another kind."
    )


def _rival(one: Overtaker) -> str:
    return f"trial {one.trial} ({_chance(one.chance)}, by {_counted(one.n, 'complete trial')})"


def _repeated(found: Hindsight) -> Iterator[str]:
    known = found.agreement
    if known is not None and known.same < known.of:
        yield (
            f"Asked again in the order of the reports, the study's own pruner ends {known.same} of {known.of} trials as it did: "
            "trials that ran at one time did not know all of each other. Take the other pruners' answers as no more exact."
        )


def _chance(share: float) -> str:
    return f"{100 * share:.0f} %" if 0.01 <= share <= 0.99 else ("below 1 %" if share < 0.01 else "above 99 %")


def _span(one: Replayed) -> str:
    least, most = one.epochs
    return _counted(most, "epoch") if least == most else f"{least} to {_counted(most, 'epoch')}"


def _counted(count: int, noun: str) -> str:
    return f"{count} {noun}{'' if count == 1 else 's'}"


def _listed(names: Sequence[str]) -> str:
    *most, last = names
    return f"{', '.join(most)} and {last}" if most else last


def _duration(seconds: float) -> str:
    """In the unit that gives two figures or so."""
    if seconds >= 7200:
        return f"about {seconds / 3600:.1f} hours"
    return f"about {seconds / 60:.0f} minutes" if seconds >= 120 else f"about {seconds:.0f} seconds"
