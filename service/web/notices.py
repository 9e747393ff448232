"""Notices: parts of a valid study that have no effect."""

from collections.abc import Iterator

from search_spaces import Fault
from service.domain.samplers import CmaEs, Gp, Median, NoPruner, Patient, Percentile, Tpe
from service.domain.spec import StudySpec
from service.rest_models import NoticeView
from service.search.pruners import first_decision


def notices_of(spec: StudySpec) -> list[NoticeView]:
    """All notices about the study, in the order of its sections."""
    found = [*_idle_sampler(spec), *_idle_pruner(spec), *_small_space(spec)]
    return [NoticeView(pointer=one.pointer, code=one.code, message=one.message) for one in found]


def _idle_sampler(spec: StudySpec) -> Iterator[Fault]:
    match spec.sampler:
        case Tpe() | Gp() | CmaEs() as sampler if spec.budget.trials is not None and sampler.n_startup_trials >= spec.budget.trials:
            yield Fault(
                ("sampler", "n_startup_trials"),
                "sampler_never_acts",
                f"all {spec.budget.trials} trials are drawn at random, since the first {sampler.n_startup_trials} are; "
                "lower n_startup_trials, or raise budget.trials",
            )


def _idle_pruner(spec: StudySpec) -> Iterator[Fault]:
    if isinstance(spec.pruner, NoPruner):
        return
    if (first := first_decision(spec.pruner)) is not None and first >= spec.epochs:
        yield Fault(
            ("pruner",),
            "pruner_never_acts",
            f"the pruner never acts: it could end a trial after epoch {first} at the earliest, and trials have {spec.epochs} epochs; "
            f"raise epochs above {first}, or lower {_delaying(spec)}",
        )
    options = spec.pruner.wrapped if isinstance(spec.pruner, Patient) else spec.pruner
    if isinstance(options, Median | Percentile) and spec.budget.trials is not None and options.n_startup_trials >= spec.budget.trials:
        place = ("pruner", "n_startup_trials") if options is spec.pruner else ("pruner", "wrapped", "n_startup_trials")
        yield Fault(
            place,
            "pruner_never_acts",
            f"the pruner never acts: it waits for {options.n_startup_trials} complete trials, and the budget has {spec.budget.trials}; "
            "lower n_startup_trials, or raise budget.trials",
        )


def _small_space(spec: StudySpec) -> Iterator[Fault]:
    count, trials = spec.covered_configurations, spec.budget.trials
    if count is not None and trials is not None and count < trials:
        configurations = f"{count} configurations" if count > 1 else "1 configuration"
        yield Fault(
            ("budget", "trials"),
            "budget_above_space",
            f"the search space has {configurations}, and none is tried twice, so the study ends after {count} of {trials} trials; "
            f"widen search_space, or lower budget.trials to {count}",
        )


def _delaying(spec: StudySpec) -> str:
    """The option that delays the pruner's first decision."""
    names = ("patience", "min_steps", "n_warmup_steps", "n_startup_steps")
    return next((name for name in names if name in type(spec.pruner).model_fields), "its delay")
