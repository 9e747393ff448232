"""Called by a training script that runs as a trial: its parameters, its checkpoint folder, and reports of metrics.

Uses only the standard library and the pipes that the worker opens. Outside of a trial, `report` does nothing and `params` is empty.
"""

import json
import math
import os
from contextlib import suppress
from pathlib import Path
from typing import Any

_replies: Any = None
_step = 0


def report(*, step: int | None = None, **metrics: float) -> bool:
    """Report metrics of a step, such as an epoch, counted from 1. Returns whether the script should stop, because the trial was pruned.

    Without `step`, reports are counted. Numbers of NumPy, torch, JAX and TensorFlow are accepted. Of the processes that torchrun starts,
    those of other ranks than 0 report nothing and get the answer False. Raises TypeError for a metric that is no number.
    """
    global _step
    path = os.environ.get("THAW_REPORT_PIPE")
    if path is None or not _is_first():
        return False
    _step = _step + 1 if step is None else int(step)
    line = json.dumps({"step": _step, **{name: _number(name, value) for name, value in metrics.items()}}).encode() + b"\n"
    try:
        # By its name: processes that torchrun or a launcher starts do not inherit the descriptor THAW_REPORT_FD.
        pipe = os.open(path, os.O_WRONLY)
    except FileNotFoundError:
        return True  # the trial has ended
    try:
        while line:
            line = line[os.write(pipe, line) :]
    except BrokenPipeError:
        return True
    finally:
        os.close(pipe)
    return _answer()


def params() -> dict[str, Any]:
    """The parameters of the trial. Empty outside of a trial."""
    path = os.environ.get("THAW_PARAMS")
    found: dict[str, Any] = {} if path is None else json.loads(Path(path).read_text())
    return found


def checkpoint_dir() -> Path | None:
    """The folder for checkpoints, which has those of earlier attempts at the trial. None outside of a trial."""
    path = os.environ.get("THAW_CHECKPOINT")
    return None if path is None else Path(path)


def _is_first() -> bool:
    """Whether this is the first of the processes that train together."""
    return os.environ.get("RANK", "0") == "0"


def _number(name: str, value: Any) -> float:
    try:
        return float(value)
    except OverflowError:
        return math.copysign(math.inf, value)
    except (TypeError, ValueError):
        raise TypeError(f"the metric {name} is no number: {value!r:.100}") from None


def _answer() -> bool:
    global _replies
    if _replies is None:
        _replies = open(os.environ["THAW_REPLY_PIPE"], "rb")  # noqa: SIM115  (read until the script ends)
    return bool(_replies.readline() != b"continue\n")


def _reset() -> None:
    """Forget the open pipe, for a process that has several trials, as tests have."""
    global _replies, _step
    if _replies is not None:
        with suppress(OSError):
            _replies.close()
    _replies, _step = None, 0


__all__ = ["checkpoint_dir", "params", "report"]
