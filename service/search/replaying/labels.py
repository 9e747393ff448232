"""What a pruner is called: its name, and the options by which it is told from others."""

from typing import Any

from service.domain.samplers import Asha, Hyperband, NoPruner, Patient, Percentile, Pruner


def label_of(pruner: Pruner) -> str:
    """The name for people."""
    match pruner:
        case NoPruner():
            return "no pruner"
        case Patient(wrapped=wrapped, patience=patience):
            waits = f"patience of {patience} epochs{_in_words(_options(pruner, told=('patience',)))}"
            return waits if isinstance(wrapped, NoPruner) else f"{label_of(wrapped)} with a {waits}"
        case Percentile(percentile=percentile):
            return f"percentile {percentile:g}{_in_words(_options(pruner, told=('percentile',)))}"
        case Asha(reduction_factor=factor) | Hyperband(reduction_factor=factor):
            return f"{pruner.name}, reduction factor {factor}{_in_words(_options(pruner, told=('reduction_factor',)))}"
        case _:
            return f"{pruner.name}{_in_words(_options(pruner, told=()))}"


def _options(pruner: Pruner, told: tuple[str, ...]) -> dict[str, Any]:
    """Those that are not as they are by default, nor told already."""
    return pruner.model_dump(exclude_defaults=True, exclude={"name", "wrapped", *told})


def _in_words(options: dict[str, Any]) -> str:
    return "".join(f", {name} {value:g}" for name, value in options.items() if value is not None)
