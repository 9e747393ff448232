"""Trials as offline runs of W&B, which `wandb sync` uploads."""

import os
import re
from collections.abc import Iterable
from pathlib import Path

os.environ.setdefault("WANDB_ERROR_REPORTING", "false")  # read at the import; it would send reports of its own errors
import wandb

from service.domain.records import MetricReport
from service.domain.states import TrialState
from service.outputs.runs import TrackedTrial

NOT_IN_A_PROJECT = re.compile(r"[/\\#?%:]")


def write_runs(folder: Path, trials: Iterable[tuple[TrackedTrial, Iterable[MetricReport]]]) -> None:
    """Write a folder `wandb/offline-run-…` for each trial."""
    try:
        for trial, reports in trials:
            _write(folder, trial, reports)
    finally:
        wandb.teardown()  # ends W&B's process, which may not have written the last run yet


def _write(folder: Path, trial: TrackedTrial, reports: Iterable[MetricReport]) -> None:
    settings = wandb.Settings(
        silent=True, console="off", disable_git=True, disable_code=True, x_disable_stats=True, x_disable_meta=True,
        x_disable_machine_info=True, x_save_requirements=False, x_start_time=trial.began_at,
    )  # fmt: skip
    run = wandb.init(
        mode="offline", dir=str(folder), reinit="finish_previous", settings=settings,
        project=NOT_IN_A_PROJECT.sub("_", trial.study.name), group=trial.study.name,
        id=f"{trial.study.id}-{trial.number}", name=trial.name, config=dict(trial.params), tags=[str(trial.state)],
    )  # fmt: skip
    for report in reports:
        run.log({**report.metrics, "_timestamp": trial.moment(report.step)}, step=report.step)
    run.summary.update({"thawline": {"state": str(trial.state), **trial.texts}})
    run.finish(exit_code=1 if trial.state is TrialState.FAILED else 0)
