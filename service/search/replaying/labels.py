"""What a pruner is called: its name, and the options by which it is told from others."""

from typing import Any

from service.domain.samplers import Asha, Hyperband, NoPruner, Patient, Percentile, Pruner


def label_of(pruner: Pruner) -> str:
    """The name for people, such as `asha (reduction factor 3)`. It has no comma, so that several make a list."""
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


def _options(pruner: Pruner, *told: str) -> dict[str, Any]:
    """Those that are not as they are by default, nor told already."""
    return pruner.model_dump(exclude_defaults=True, exclude={"name", "wrapped", *told})


def _remark(options: dict[str, Any]) -> str:
    words = "; ".join(f"{name.replace('_', ' ')} {value:g}" for name, value in options.items() if value is not None)
    return f" ({words})" if words else ""
