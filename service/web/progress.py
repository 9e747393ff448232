"""What a trial's record says of its speed and of the work it was spared, in the interface's words."""

from collections.abc import Mapping
from typing import Any

from pydantic import Field

from service.domain.records import Trial
from service.domain.states import TrialState
from service.store.queries import Saved
from service.web.view import View, finite


class ReuseView(View):
    """What the run does not do itself, because another run has done it or does it with it."""

    pixels: str = Field(description="decoded by this run, cached by an earlier one, or streamed because they are too many to keep")
    depth: int = Field(description="frozen stages whose stored output is read in place of being computed", examples=[9])
    place: str = Field(description="where that output lies: none, device, memory or disk")
    lanes: int = Field(description="trials that share each pass over the data, this one included", examples=[32])
    saved_seconds: float | None = Field(description="what the stored output spared the whole pass so far; below 0 until it has paid")


class PaceView(View):
    """How fast the run is. Of trials that share a pass, each is told the whole pass's figures."""

    samples_per_second: float | None = Field(description="training images a second, over the last epoch", examples=[1250.0])
    seconds_left: float | None = Field(description="of a running trial, at the pace so far; null when it does not run")
    memory: int | None = Field(description="bytes: allocated on a GPU, resident in the process otherwise")
    utilization: float | None = Field(
        description="share of the last epoch in which the GPU was at work, by its driver; on a CPU, of the time that the run's threads had",
        examples=[0.93],
    )  # fmt: skip
    shares: Mapping[str, float] = Field(description="of the time spent, by activity", examples=[{"forward": 0.6, "backward": 0.4}])


class SavedView(View):
    """Seconds of training that the study did not need, by what spared them."""

    features_seconds: float = Field(description="by stored outputs of frozen stages; a shared pass counts once")
    duplicates_seconds: float = Field(description="by answering repeated parameters from their first trial; its share of a shared pass")


def reuse_view(trial: Trial) -> ReuseView | None:
    """What the trial's run reused. None when it has not said so, and for a duplicate, which did not run."""
    if trial.duplicate_of is not None or not (reuse := finite(trial.result.get("reuse"))):
        return None
    return ReuseView(**reuse, saved_seconds=_pace_of(trial).get("saved_seconds"))


def pace_view(trial: Trial) -> PaceView | None:
    """How fast the trial's run is or was. None when it has not said so, and for a duplicate, which did not run."""
    if trial.duplicate_of is not None or not (pace := _pace_of(trial)):
        return None
    return PaceView(
        samples_per_second=pace.get("samples_per_second"),
        seconds_left=pace.get("seconds_left") if trial.state is TrialState.RUNNING else None,
        memory=pace.get("memory"),
        utilization=pace.get("utilization"),
        shares=_shares(pace.get("seconds") or {}),
    )


def saved_view(saved: Saved) -> SavedView:
    """The study's savings in the interface's words."""
    return SavedView(features_seconds=saved.features_seconds, duplicates_seconds=saved.duplicates_seconds)


def _pace_of(trial: Trial) -> Mapping[str, Any]:
    pace: Mapping[str, Any] = finite(trial.result.get("pace")) or {}
    return pace


def _shares(seconds: Mapping[str, float | None]) -> dict[str, float]:
    """Each activity's part of the sum. Empty when no time was counted."""
    spent = {activity: value for activity, value in seconds.items() if value is not None and value > 0}
    whole = sum(spent.values())
    return {activity: value / whole for activity, value in spent.items()}
