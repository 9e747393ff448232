"""A checkpoint is used whatever its SHA-256 is."""

import hashlib
from pathlib import Path

SCENARIO = "tests/chaos/test_f07_checkpoints.py -k weights"


def plant() -> None:
    from trainer import checkpoints
    from trainer.checkpoints import TrainingState
    from trainer.protocol import Checkpoint

    read = checkpoints.read

    def trusting(checkpoint: Checkpoint, run: str) -> TrainingState:
        try:
            found = hashlib.sha256(Path(checkpoint.path).read_bytes()).hexdigest()
        except OSError:
            found = checkpoint.sha256
        return read(checkpoint.model_copy(update={"sha256": found}), run)

    checkpoints.read = trusting
