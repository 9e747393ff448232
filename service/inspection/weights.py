"""Whether a weights file is one of the study's model, by its outline and by the trainer's rules. Nothing in the file is executed."""

import errno
from collections.abc import Iterator, Sequence
from pathlib import Path

from search_spaces import Fault
from service.domain.spec import StudySpec
from service.inspection.roots import is_outside, outside
from trainer.files import UnfitFile, open_regular
from trainer.tasks.registry import spec_of
from trainer.weight_files import MOST_WEIGHTS_BYTES, UnfitTensors, UnreadableWeights, read_outline

PLACE = ("model", "weights")
MISSING = (errno.ENOENT, errno.ENOTDIR, errno.ENAMETOOLONG)


def weights_faults(spec: StudySpec, roots: Sequence[Path] = ()) -> Iterator[Fault]:
    """What is wrong with the weights file: missing, no regular file, unreadable, or made for another network."""
    if (text := spec.model.weights_file) is None:
        return
    path = Path(text)
    if is_outside(path, roots):
        yield Fault(PLACE, "outside_data_roots", outside(roots))
        return
    try:
        with open_regular(path, MOST_WEIGHTS_BYTES) as file:
            spec_of(spec.task).describe(spec.model.name).refuse_weights(read_outline(file, path.name), path.name)
    except UnfitFile as error:
        yield Fault(PLACE, "unreadable_weights", f"this cannot be used: {error.strerror}; give a regular file")
    except OSError as error:
        yield _unopened(error)
    except UnreadableWeights as error:
        yield Fault(PLACE, "unreadable_weights", f"this cannot be used: {error}")
    except UnfitTensors as error:
        message = f"the file's tensors do not fit {spec.model.name}: {error}; give weights of this model, or correct model.name"
        yield Fault(PLACE, "unfit_weights", message)


def _unopened(error: OSError) -> Fault:
    if error.errno in MISSING:
        return Fault(
            PLACE,
            "missing_weights",
            "there is no such file here; correct the path, or write data.location: workers if only the workers see it",
        )
    return Fault(PLACE, "unreadable_weights", f"this cannot be read ({error.strerror}); repair the disk or change the permissions")
