"""Training with `compile: true`: equal within rounding, stated in the facts, and eager where it fails. Most backends are stand-ins."""

import json
import logging
import shutil
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from trainer.cache import Cache
from trainer.checkpoints import Checkpoints, digest
from trainer.configuration import TrainConfig
from trainer.graphs import CudaGraphs
from trainer.heads import HeadEnsemble
from trainer.learners import Member, ModelLearner
from trainer.loop import TrainingLoop, train
from trainer.preparation import Expected, prepare
from trainer.protocol import CheckpointSaved, EpochMetrics, Failed, Finished, RunPrepared
from trainer.stopwatch import Stopwatch
from trainer.tasks.image_classification.config import ImageClassificationConfig
from trainer.tasks.images.config import ImageModel
from trainer.tasks.images.networks.factory import build as network

CPU = torch.device("cpu")
Configure = Callable[..., ImageClassificationConfig]
Backend = Callable[..., Any]


class Compiler:
    """A backend of torch.compile that compiles nothing and notes the sizes of the batches for which it was asked."""

    def __init__(self, fault: Exception | None = None) -> None:
        self.fault, self.sizes, self.calls = fault, list[int](), 0

    def __call__(self, graph: torch.fx.GraphModule, inputs: list[Any], **options: Any) -> Callable[..., Any]:
        if self.fault is not None:
            raise self.fault
        self.sizes.append(next(one.shape[0] for one in inputs if isinstance(one, Tensor) and one.ndim == 4 and not one.requires_grad))

        def computed(*arguments: Any) -> Any:
            self.calls += 1
            return graph.forward(*arguments)

        return computed


@pytest.fixture
def compiler(monkeypatch: pytest.MonkeyPatch) -> Compiler:
    found = Compiler()
    monkeypatch.setattr("trainer.compilation.BACKEND", found)
    return found


def metrics(events: list[Any]) -> list[dict[str, float]]:
    return [dict(event.metrics) for event in events if isinstance(event, EpochMetrics)]


def environment(events: list[Any]) -> dict[str, str]:
    (prepared,) = [event for event in events if isinstance(event, RunPrepared)]
    return dict(prepared.environment)


def test_each_batch_size_is_compiled_once_before_the_first_round_and_for_training_only(configure: Configure, compiler: Compiler) -> None:
    """48 images make five batches of 9 and one of 3; measuring and predicting take other sizes."""
    config = configure(epochs=3, batch_size=9, dropout=0.3, frozen_layers=1, compile=True)
    events, seen = list[Any](), list[list[int]]()
    for event in train(config, device=CPU):
        events.append(event)
        seen.append(list(compiler.sizes))
    assert isinstance(events[0], RunPrepared) and sorted(seen[0]) == [3, 9] and seen[-1] == seen[0]
    assert compiler.calls == 2 + 3 * 6
    assert environment(events)["compile"] == "on"
    expected = list(train(configure(epochs=3, batch_size=9, dropout=0.3, frozen_layers=1), device=CPU))
    assert metrics(events) == metrics(expected), "nothing of the trial passes is left in the model or the random numbers"
    assert "compile" not in environment(expected)


def test_a_run_that_is_not_compiled_asks_no_compiler(configure: Configure, compiler: Compiler) -> None:
    assert metrics(list(train(configure(), device=CPU))) and not compiler.sizes


@pytest.mark.parametrize("fault", [RuntimeError("InvalidCxxCompiler: none was found\nmore"), KeyError("triton")])
def test_where_compiling_fails_steps_are_eager_and_the_cause_is_logged_once(
    configure: Configure, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, fault: Exception
) -> None:
    monkeypatch.setattr("trainer.compilation.BACKEND", Compiler(fault))
    with caplog.at_level(logging.WARNING, "trainer.compilation"):
        events = list(train(configure(compile=True, dropout=0.3), device=CPU))
    assert environment(events)["compile"] == "off"
    assert metrics(events) == metrics(list(train(configure(dropout=0.3), device=CPU)))
    (record,) = [record for record in caplog.records if record.name == "trainer.compilation"]
    assert record.getMessage() == f"training steps are not compiled: {type(fault).__name__}: {str(fault).splitlines()[0]}"


def test_a_lack_of_memory_is_no_fault_of_the_compiler(configure: Configure, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("trainer.compilation.BACKEND", Compiler(torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")))
    (failed,) = [event for event in train(configure(compile=True), device=CPU) if isinstance(event, Failed)]
    assert failed.reason == "out_of_memory"


def test_runs_of_a_process_have_each_a_compilation_of_their_own(configure: Configure, compiler: Compiler) -> None:
    """Torch compiles a function at most eight times, unless its caches are emptied."""
    for seed in range(10):
        events = list(train(configure(compile=True, epochs=1, batch_size=24, seed=seed), device=CPU))
        assert environment(events)["compile"] == "on"
    assert len(compiler.sizes) == 10 and compiler.calls == 10 * (1 + 2)


def test_a_compiled_run_resumes(configure: Configure, compiler: Compiler, tmp_path: Path) -> None:
    config = configure(epochs=4, compile=True, dropout=0.3)
    whole = list(train(config, device=CPU, checkpoints=Checkpoints(tmp_path, seconds=0)))
    saved = [event.checkpoint for event in whole if isinstance(event, CheckpointSaved)]
    rest = list(train(config, device=CPU, checkpoints=Checkpoints(resume=saved[1:2])))
    assert metrics(rest) == metrics(whole)[2:]


def test_compiled_steps_have_no_graphs_and_others_have(configure: Configure, compiler: Compiler) -> None:
    for compiles in (True, False):
        run = prepare(configure(compile=compiles), CPU, Expected(), Cache.none())
        learner = ModelLearner(run, 0, Stopwatch(), CudaGraphs(CPU))
        assert (learner._graphed is None) == compiles


def test_heads_trained_together_are_not_compiled(configure: Configure, compiler: Compiler, tmp_path: Path) -> None:
    torch.save(network(configure(seed=5), 3).network.state_dict(), tmp_path / "weights.pt")
    model = ImageModel(name="small_cnn", weights=str(tmp_path / "weights.pt"))
    member = Member(config=configure(model=model, frozen_layers=4, compile=True))
    events = list(TrainingLoop([member], partial(HeadEnsemble.build), device=CPU).events())
    assert environment(events)["compile"] == "off" and not compiler.sizes


def test_a_config_without_it_is_the_document_that_it_was(configure: Configure) -> None:
    config = configure()
    assert "compile" not in config.model_dump() and "compile" not in json.loads(config.model_dump_json())
    compiled = configure(compile=True)
    assert TrainConfig.model_validate_json(compiled.model_dump_json()) == compiled and compiled.model_dump()["compile"] is True
    info = prepare(config, CPU, Expected(), Cache.none()).info
    assert digest(config, info) == digest(configure(compile=False), info) != digest(compiled, info)


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("g++") is None, reason="needs a C++ compiler")
def test_inductor_computes_what_eager_steps_compute(configure: Configure, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path / "inductor"))
    config = configure(epochs=3, batch_size=12, dropout=0.3, optimizer="sgd", lr=0.01)
    compiled, eager = (list(train(one, device=CPU)) for one in (config.model_copy(update={"compile": True}), config))
    assert environment(compiled)["compile"] == "on"
    assert metrics(compiled) == [pytest.approx(one, rel=1e-3) for one in metrics(eager)]
    (ours,), (theirs,) = ([event for event in events if isinstance(event, Finished)] for events in (compiled, eager))
    assert ours.metrics == pytest.approx(theirs.metrics, rel=1e-3)
    assert any(one != other for one, other in zip(metrics(compiled), metrics(eager), strict=True)), "another order of additions"
