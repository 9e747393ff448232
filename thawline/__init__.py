"""The public Python API: studies on a Thawline server, from scripts and notebooks.

    import thawline

    client = thawline.Client()
    study = client.create("study.yaml").wait()
    print(study.best().origin.params)

Every error of this package is a `ThawlineError`. Its `faults` name the fields of a refused document, each with `pointer`, `code` and
`message`.
"""

from service.client import Refused, UnexpectedAnswer, Unreachable
from service.domain.errors import InvalidInput, LeaseLost, ThawlineError, TrialCancelled
from thawline.claims import NothingToClaim, Pruned, Trial
from thawline.studies import Client, Study

__all__ = [
    "Client", "InvalidInput", "LeaseLost", "NothingToClaim", "Pruned", "Refused", "Study", "ThawlineError", "Trial", "TrialCancelled",
    "UnexpectedAnswer", "Unreachable",
]  # fmt: skip
