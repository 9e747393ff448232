"""What a trial's record says of its speed and of the work it was spared, in the interface's words."""

from collections.abc import Mapping
from typing import Any

from service.domain.records import Trial
from service.domain.states import TrialState
from service.rest_models import PaceView, ReuseView, SavedView
from service.store.queries import Saved
from service.web.json_values import finite
from trainer.protocol import Reuse


def reuse_view(trial: Trial) -> ReuseView | None:
    """What the trial's run reused. None when it has not said so, and for a duplicate, which did not run."""
    if trial.duplicate_of is not None or not trial.result.get("reuse"):
        return None
    reuse = Reuse.model_validate(trial.result["reuse"])  # which knows what is left out for the usual
    return ReuseView(
        pixels=reuse.pixels, depth=reuse.depth, place=reuse.place, lanes=reuse.lanes, saved_seconds=_pace_of(trial).get("saved_seconds")
    )


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
    return SavedView(features_seconds=finite(saved.features_seconds) or 0.0, duplicates_seconds=finite(saved.duplicates_seconds) or 0.0)


def _pace_of(trial: Trial) -> Mapping[str, Any]:
    pace: Mapping[str, Any] = finite(trial.result.get("pace")) or {}
    return pace


def _shares(seconds: Mapping[str, float | None]) -> dict[str, float]:
    """Each activity's part of the sum. Empty when no time was counted."""
    spent = {activity: value for activity, value in seconds.items() if value is not None and value > 0}
    whole = sum(spent.values())
    return {activity: value / whole for activity, value in spent.items()}
