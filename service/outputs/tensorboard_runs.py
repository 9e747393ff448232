"""Trials as event files of TensorBoard, with hyperparameters for its plugin HParams."""

from collections.abc import Iterable
from contextlib import closing
from pathlib import Path

from tensorboard.compat.proto.event_pb2 import Event
from tensorboard.compat.proto.summary_pb2 import Summary
from tensorboard.plugins.hparams import api_pb2, metadata, plugin_data_pb2
from tensorboard.plugins.hparams.summary_v2 import hparams_pb
from tensorboard.summary.writer.event_file_writer import EventFileWriter

from service.domain.records import MetricReport
from service.domain.states import TrialState
from service.outputs.runs import TrackedTrial


def write_runs(folder: Path, trials: Iterable[tuple[TrackedTrial, Iterable[MetricReport]]]) -> None:
    """Write a folder such as `trial-0007`, with one event file, for each trial."""
    for trial, reports in trials:
        _write(folder / f"trial-{trial.number:04d}", trial, reports)


def _write(folder: Path, trial: TrackedTrial, reports: Iterable[MetricReport]) -> None:
    params = {name: "null" if value is None else value for name, value in trial.params.items()}
    start = hparams_pb(params, trial_id=str(trial.number), start_time_secs=trial.began_at)
    with closing(EventFileWriter(str(folder))) as writer:
        writer.add_event(Event(wall_time=trial.began_at, summary=start))
        for report in reports:
            values = [Summary.Value(tag=name, simple_value=value) for name, value in report.metrics.items()]
            writer.add_event(Event(wall_time=trial.moment(report.step), step=report.step, summary=Summary(value=values)))
        if trial.state.terminal:
            ended_at = trial.ended_at or trial.began_at
            writer.add_event(Event(wall_time=ended_at, summary=_end(trial.state, ended_at)))


def _end(state: TrialState, at: float) -> Summary:
    name = "STATUS_SUCCESS" if state in (TrialState.COMPLETE, TrialState.PRUNED) else "STATUS_FAILURE"
    end = plugin_data_pb2.SessionEndInfo(status=api_pb2.Status.Value(name), end_time_secs=at)
    about = metadata.create_summary_metadata(plugin_data_pb2.HParamsPluginData(session_end_info=end))
    return Summary(value=[Summary.Value(tag=metadata.SESSION_END_INFO_TAG, metadata=about, tensor=metadata.NULL_TENSOR)])
