"""The public Python API: studies on a Thawline server, from scripts and notebooks.

    import thawline

    client = thawline.Client()
    study = client.create("study.yaml").wait()
    print(study.best().origin.params)

In a training script that runs as a trial, `thawline.report(step=1, accuracy=0.9)` reports metrics, and `thawline.params()` are the
trial's parameters.

Every error of this package is a `ThawlineError`. Its `faults` name the fields of a refused document, each with `pointer`, `code` and
`message`.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from thawline.script import checkpoint_dir, params, report

if TYPE_CHECKING:
    from service.client import Refused, UnexpectedAnswer, Unreachable
    from service.domain.errors import InvalidInput, LeaseLost, ThawlineError, TrialCancelled
    from thawline.claims import NothingToClaim, Pruned, Trial
    from thawline.studies import Client, Study

# Imported when they are used: a training script that only reports metrics does not wait for the HTTP client.
_MODULES = {
    "service.client": ("Refused", "UnexpectedAnswer", "Unreachable"),
    "service.domain.errors": ("InvalidInput", "LeaseLost", "ThawlineError", "TrialCancelled"),
    "thawline.claims": ("NothingToClaim", "Pruned", "Trial"),
    "thawline.studies": ("Client", "Study"),
}
_PLACES = {name: module for module, names in _MODULES.items() for name in names}
__all__ = [
    "Client", "InvalidInput", "LeaseLost", "NothingToClaim", "Pruned", "Refused", "Study", "ThawlineError", "Trial", "TrialCancelled",
    "UnexpectedAnswer", "Unreachable", "checkpoint_dir", "params", "report",
]  # fmt: skip


def __getattr__(name: str) -> Any:
    if name not in _PLACES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_PLACES[name]), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *_PLACES})
