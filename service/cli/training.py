"""`thaw train`: production training from an exported configuration, and the comparison with what its trial reached."""

import json
from pathlib import Path
from typing import Any

from service.cli.console import console
from service.cli.exported import read, run
from service.cli.failures import Failure
from service.cli.files import write_whole
from service.domain.export import Exported
from service.export.card import card, is_within
from service.settings import Settings
from trainer import protocol
from trainer.tasks.registry import spec_of

CARD = "MODEL_CARD.md"


def train_exported(settings: Settings, file: Path, out: Path) -> None:
    """Train, and write model.safetensors, result.json, config.yaml and MODEL_CARD.md into the folder. Raises Failure, FaultyFile."""
    exported = read(file)
    out = out.absolute()
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise Failure(f"{out} cannot be made: {error.strerror}") from None
    finished, model = run(settings, exported, model_file=out / "model.safetensors")
    if model is None:
        raise Failure("The trainer ended without a model.")
    write_whole(out / "config.yaml", exported.to_yaml())
    write_whole(out / "result.json", json.dumps(_result(exported, finished, model), indent=2) + "\n")
    write_whole(out / CARD, card(exported, finished))
    _report(exported, finished, out)


def _result(exported: Exported, finished: protocol.Finished, model: protocol.Exported) -> dict[str, Any]:
    reached = finished.metrics.get(exported.reached.objective.metric)
    return {
        "metric": exported.reached.objective.metric,
        "expected": exported.reached.value,
        "reached": reached,
        "equal": reached == exported.reached.value,
        "confirmed": exported.confirmed is not None,
        "within": is_within(exported, finished),
        "model": {"file": Path(model.path).name, "sha256": model.sha256},
        **finished.flat(exclude=("kind", "test")),
        "test": None if finished.test is None else finished.test.flat(),
    }


def _report(exported: Exported, finished: protocol.Finished, out: Path) -> None:
    metric, expected = exported.reached.objective.metric, exported.reached.value
    reached = finished.metrics.get(metric)
    verdict = "equal" if reached == expected else "not equal; it shared work with others, or device, threads or versions differ"
    console().print(f"{metric}: reached {reached!r}, the trial had {expected!r} ({verdict})")
    console().print(test_sentence(exported, finished))
    console().print(f"The model is in {out / 'model.safetensors'}, what it is worth in {out / CARD}")


def test_sentence(exported: Exported, finished: protocol.Finished) -> str:
    """What the test examples say of the run, beside what the file states."""
    examples = f"{spec_of(exported.config.task).example}s"
    if finished.test is None:
        return f"There are no test {examples}. {exported.note}"
    metric = exported.reached.objective.metric
    said = f"On {exported.test_examples} test {examples}: {metric} {finished.test.metrics[metric]:.4f}"
    within = is_within(exported, finished)
    if exported.confirmed is None or exported.confirmed.single_run is None or within is None:
        return f"{said}. {exported.note}"
    stated = exported.confirmed.single_run
    return f"{said}, {'within' if within else 'OUTSIDE'} the interval {stated.low:.4f} to {stated.high:.4f} that is stated for one run"
