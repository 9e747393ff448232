"""Exported studies as event files of TensorBoard and offline runs of W&B, read by the libraries themselves."""

import json
import math
import struct
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from tensorboard.backend.event_processing.data_provider import MultiplexerDataProvider
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.backend.event_processing.plugin_event_multiplexer import EventMultiplexer
from tensorboard.context import RequestContext
from tensorboard.plugins.base_plugin import TBContext
from tensorboard.plugins.hparams import api_pb2, get_experiment, list_session_groups
from tensorboard.plugins.hparams.backend_context import Context
from wandb.proto import wandb_internal_pb2

from service.cli import files, main
from service.outputs import tensorboard_runs, wandb_runs
from service.outputs.runs import trials_in
from service.store import Store
from tests.study_io.luggage import exported, mixed_study
from tests.web.server import running

Values = dict[str, dict[int, float]]
"""Values by metric and step."""


@pytest.fixture
def file(embedded_store: Store, tmp_path: Path) -> Path:
    """An exported study: its trials 0 to 5 were started, trial 6 is queued."""
    path = tmp_path / "study.jsonl"
    path.write_bytes(exported(embedded_store, mixed_study(embedded_store)))
    return path


def write_runs(file: Path, folder: Path, write: Callable[..., None]) -> None:
    folder.mkdir()
    with file.open("rb") as opened:
        write(folder, trials_in(opened))


def reported(file: Path) -> list[tuple[dict[str, Any], Values]]:
    """The trials of the file that were started, and their values."""
    words = {"nan": math.nan, "pos_inf": math.inf, "neg_inf": -math.inf}
    found = list[tuple[dict[str, Any], Values]]()
    for document in map(json.loads, file.read_text().splitlines()):
        if document["kind"] == "thawline/trial" and document["state"] != "queued":
            columns = document["reports"]
            values: Values = {}
            for name, column in columns["metrics"].items():
                pairs = zip(columns["steps"], column, strict=True)
                values[name] = {step: words.get(value, value) for step, value in pairs if value is not None}
            found.append((document, values))
    assert len(found) == 6 and any(values for _, values in found)
    return found


def is_equal(found: Values, wanted: Values) -> bool:
    """Whether the values agree; TensorBoard has single precision."""
    if {name: list(values) for name, values in found.items()} != {name: list(values) for name, values in wanted.items()}:
        return False
    return all(
        value == pytest.approx(wanted[name][step], nan_ok=True, rel=1e-6)
        for name, values in found.items()
        for step, value in values.items()
    )


def test_tensorboard_reads_scalars_by_step(file: Path, tmp_path: Path) -> None:
    write_runs(file, tmp_path / "runs", tensorboard_runs.write_runs)
    wanted = reported(file)
    assert sorted(one.name for one in (tmp_path / "runs").iterdir()) == [f"trial-{one['number']:04d}" for one, _ in wanted]
    for document, values in wanted:
        read = EventAccumulator(str(tmp_path / "runs" / f"trial-{document['number']:04d}"))
        read.Reload()
        scalars = {tag: read.Scalars(tag) for tag in read.Tags()["scalars"]}
        found = {tag: {one.step: one.value for one in events} for tag, events in scalars.items()}
        assert is_equal(found, values), document["number"]
        times = [one.wall_time for events in scalars.values() for one in events]
        assert all(one > 1.7e9 for one in times)


def test_the_hparams_plugin_reads_parameters_metrics_and_states(file: Path, tmp_path: Path) -> None:
    write_runs(file, tmp_path / "runs", tensorboard_runs.write_runs)
    read = EventMultiplexer().AddRunsFromDirectory(str(tmp_path / "runs"))
    read.Reload()
    backend = Context(TBContext(data_provider=MultiplexerDataProvider(read, str(tmp_path / "runs"))))
    request = api_pb2.GetExperimentRequest(experiment_name="x", hparams_limit=100)
    experiment = get_experiment.Handler(RequestContext(), backend, "x", request).run()
    assert {one.name for one in experiment.hparam_infos} == {"lr", "optimizer", "momentum"}
    assert {one.name.tag for one in experiment.metric_infos} == {"accuracy", "loss", "lr"}
    groups = list_session_groups.Handler(RequestContext(), backend, "x", wanted_groups()).run().session_groups
    found = {one.sessions[0].name: one for one in groups}
    assert len(found) == 6
    for document, values in reported(file):
        group = found[f"trial-{document['number']:04d}"]
        params = {name: getattr(value, f"{value.WhichOneof('kind')}") for name, value in group.hparams.items()}
        assert params == document["params"]
        states = {"running": "UNKNOWN", "complete": "SUCCESS", "pruned": "SUCCESS"}
        status = api_pb2.Status.Name(group.sessions[0].status)
        assert status == f"STATUS_{states.get(document['state'], 'FAILURE')}"
        last = {one.name.tag: one.value for one in group.sessions[0].metric_values}
        assert last == pytest.approx({name: list(by_step.values())[-1] for name, by_step in values.items()}, nan_ok=True)


def wanted_groups() -> Any:
    """The request of the plugin's page for all trials that it knows."""
    request = api_pb2.ListSessionGroupsRequest(start_index=0, slice_size=100)
    request.allowed_statuses.extend(api_pb2.Status.values())
    return request


def records(file: Path) -> Iterator[Any]:
    """The records of an offline run: blocks of LevelDB's log format after a head of seven bytes, parsed by W&B's own messages."""
    raw, place, parts = file.read_bytes(), 7, b""
    assert raw.startswith(b":W&B")
    while place < len(raw):
        left = 32_768 - place % 32_768
        if left < 7:
            place += left
            continue
        _, length, kind = struct.unpack("<IHB", raw[place : place + 7])
        parts += raw[place + 7 : place + 7 + length]
        place += 7 + length
        if kind in (1, 4):  # a whole record, or its last part
            record = wandb_internal_pb2.Record()
            record.ParseFromString(parts)
            parts = b""
            yield record


def test_wandb_reads_offline_runs(file: Path, tmp_path: Path) -> None:
    write_runs(file, tmp_path / "runs", wandb_runs.write_runs)
    files = sorted((tmp_path / "runs").glob("wandb/offline-run-*/run-*.wandb"), key=lambda one: int(one.stem.rpartition("-")[2]))
    wanted = reported(file)
    assert len(files) == len(wanted)
    for path, (document, values) in zip(files, wanted, strict=True):
        found: Values = {}
        config, words, exits = dict[str, Any](), dict[str, Any](), list[int]()
        for record in records(path):
            match record.WhichOneof("record_type"):
                case "run":
                    assert (record.run.display_name, record.run.project) == (f"trial {document['number']}", "digits")
                    assert list(record.run.tags) == [document["state"]]
                    config = {one.key: json.loads(one.value_json) for one in record.run.config.update}
                case "history":
                    row = {one.key or "/".join(one.nested_key): json.loads(one.value_json) for one in record.history.item}
                    assert row["_timestamp"] > 1.7e9
                    for name in row.keys() - {"_step", "_timestamp", "_runtime"}:
                        found.setdefault(name, {})[int(row["_step"])] = float(row[name])
                case "summary":
                    words |= {one.key or one.nested_key[-1]: json.loads(one.value_json) for one in record.summary.update}
                case "exit":
                    exits.append(record.exit.exit_code)
        assert document["params"].items() <= config.items()
        assert is_equal({name: dict(sorted(found[name].items())) for name in sorted(found)}, values), document["number"]
        assert words["thawline"].items() >= {"state": document["state"], "source": document["source"]}.items()
        assert exits == [1 if document["state"] == "failed" else 0]


def test_the_command_writes_a_folder_and_overwrites_none(
    embedded_store: Store, migrated_sqlite: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    mixed_study(embedded_store)
    folder = tmp_path / "runs"

    def export(form: str, *options: str) -> str:
        """Standard error, or nothing if the command succeeds."""
        with pytest.raises(SystemExit) as end:
            main(["--server", server.address, "study", "export", "digits", "--format", form, *options])
        said = capsys.readouterr().err
        assert (end.value.code or 0) == (1 if said else 0)
        return said

    with running(tmp_path, THAW_DATABASE_URL=migrated_sqlite) as server:
        assert export("tensorboard", "-o", str(folder)) == ""
        assert len(list(folder.glob("trial-*/events.out.tfevents.*"))) == 6
        assert export("wandb", "-o", str(folder)) == f"{folder} exists already; choose another folder.\n"
        assert export("wandb") == "A folder cannot be written to standard output; name a folder with -o FOLDER.\n"
        assert "cannot be written" in export("tensorboard", "-o", str(tmp_path / "missing" / "runs"))
        monkeypatch.setattr(files, "find_spec", lambda name: None)
        assert export("wandb", "-o", str(tmp_path / "w")) == "--format wandb needs the package wandb: pip install 'thawline[wandb]'\n"
    assert sorted(one.name for one in tmp_path.iterdir() if "runs" in one.name) == ["runs"]
