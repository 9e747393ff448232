"""What can be seen of data and weights without torch, before a study is accepted."""

from service.domain.errors import InvalidInput
from service.domain.spec import StudySpec
from service.inspection.images import data_faults
from service.inspection.weights import weights_faults

__all__ = ["inspect_study"]


def inspect_study(spec: StudySpec) -> None:
    """Look at the files that the spec names. Raises InvalidInput with every fault.

    With `data.location: workers` the server looks at nothing; the first worker does, before any trial.
    """
    if spec.data.location == "server" and (faults := [*data_faults(spec), *weights_faults(spec)]):
        raise InvalidInput(faults)
