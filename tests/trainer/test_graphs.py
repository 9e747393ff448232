"""Training steps by graphs: proved against an eager step, with a way back. The device and its graphs are stand-ins."""

import logging
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from trainer.cache import Cache
from trainer.checkpoints import Checkpoints
from trainer.features import Direct
from trainer.graphs import WARM_STEPS, Outputs
from trainer.learners import Member, ModelLearner
from trainer.loop import TrainingLoop
from trainer.protocol import CheckpointSaved, EpochMetrics, Finished
from trainer.tasks.image_classification.config import ImageClassificationConfig

CPU = torch.device("cpu")
Configure = Callable[..., ImageClassificationConfig]


class Recorded:
    """Graphs of a device that performs the work again in each replay, from and to the same tensors."""

    def __init__(self) -> None:
        self.captures, self.replays = 0, 0

    def capture(self, work: Callable[[], Outputs]) -> tuple[Outputs, Callable[[], None]]:
        self.captures += 1
        outputs = work()

        def replay() -> None:
            self.replays += 1
            self.replayed(work, outputs)

        return outputs, replay

    def replayed(self, work: Callable[[], Outputs], outputs: Outputs) -> None:
        for output, found in zip(outputs, work(), strict=True):
            output.copy_(found)

    def random_state(self) -> Tensor:
        return torch.get_rng_state()

    def set_random_state(self, state: Tensor) -> None:
        torch.set_rng_state(state)


class Refusing(Recorded):
    """Captures nothing."""

    def capture(self, work: Callable[[], Outputs]) -> tuple[Outputs, Callable[[], None]]:
        self.captures += 1
        work()
        raise RuntimeError("operation not permitted when stream is capturing\nmore lines")


class Idle(Recorded):
    """Replays change nothing."""

    def replayed(self, work: Callable[[], Outputs], outputs: Outputs) -> None:
        return


class Twice(Recorded):
    """Replays take two steps."""

    def replayed(self, work: Callable[[], Outputs], outputs: Outputs) -> None:
        for _ in range(2):
            super().replayed(work, outputs)


def trained(config: ImageClassificationConfig, graphs: Recorded | None, folder: Path, **options: Any) -> list[Any]:
    def build(run: Any, members: Any, cache: Cache, stopwatch: Any) -> Any:
        return ModelLearner(run, 0, stopwatch, graphs), Direct(run)

    member = Member(config=config, model_file=folder / "model.safetensors", **options)
    return [event for event in TrainingLoop([member], build, device=CPU).events() if event.kind != "advanced"]


def metrics(events: list[Any]) -> list[dict[str, float]]:
    return [dict(event.metrics) for event in events if isinstance(event, EpochMetrics)]


def model(folder: Path) -> dict[str, Tensor]:
    return load_file(folder / "model.safetensors")


def equal(ours: dict[str, Tensor], theirs: dict[str, Tensor]) -> bool:
    return ours.keys() == theirs.keys() and all(torch.equal(ours[name], theirs[name]) for name in ours)


@pytest.fixture
def folders(tmp_path: Path) -> Callable[[str], Path]:
    def made(name: str) -> Path:
        (tmp_path / name).mkdir(exist_ok=True)
        return tmp_path / name

    return made


@pytest.mark.parametrize("optimizer", ["sgd", "adam", "adamw", "rmsprop"])
def test_steps_by_graphs_compute_what_eager_steps_compute(
    configure: Configure, folders: Callable[[str], Path], optimizer: str, caplog: pytest.LogCaptureFixture
) -> None:
    """Dropout, a schedule, and a last batch of another size."""
    config = configure(optimizer=optimizer, epochs=4, batch_size=9, dropout=0.3, schedule="cosine", augmentation="flip")
    graphs, refusing = Recorded(), Refusing()
    captured, eager = trained(config, graphs, folders("captured")), trained(config, refusing, folders("eager"))
    assert metrics(captured) == metrics(eager) and equal(model(folders("captured")), model(folders("eager")))
    full, last = 4 * 5 - WARM_STEPS, 4 - WARM_STEPS  # steps of each shape once it is warm; the first of them is the proof
    assert graphs.captures == 2 and graphs.replays == full + last
    assert metrics(captured) == [pytest.approx(one, rel=1e-3) for one in metrics(trained(config, None, folders("none")))]


def test_work_that_cannot_be_captured_stays_eager_and_is_logged_once(
    configure: Configure, folders: Callable[[str], Path], caplog: pytest.LogCaptureFixture
) -> None:
    refusing = Refusing()
    with caplog.at_level(logging.WARNING, "trainer.graphs"):
        events = trained(configure(epochs=3), refusing, folders("run"))
    assert refusing.captures == 1 and [event for event in events if isinstance(event, Finished)]
    assert [record.getMessage() for record in caplog.records if record.name == "trainer.graphs"] == [
        "steps are not performed by CUDA graphs: operation not permitted when stream is capturing"
    ]


@pytest.mark.parametrize("kind", [Idle, Twice])
def test_a_graph_that_does_something_else_than_a_step_is_found_out(
    configure: Configure, folders: Callable[[str], Path], kind: type[Recorded], caplog: pytest.LogCaptureFixture
) -> None:
    config, wrong = configure(epochs=3, dropout=0.2, optimizer="sgd", lr=0.01), kind()
    assert metrics(trained(config, wrong, folders("wrong"))) == metrics(trained(config, Refusing(), folders("eager")))
    assert equal(model(folders("wrong")), model(folders("eager")))
    assert wrong.replays == 1 and "a replay changed the state by" in caplog.text


def test_float16_is_not_captured(configure: Configure, folders: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("trainer.devices.matrix_formats", lambda device: frozenset({"float16"}))
    graphs = Recorded()
    trained(configure(epochs=3, precision="float16"), graphs, folders("run"))
    assert graphs.captures == 0


@pytest.mark.parametrize("optimizer", ["sgd", "adamw", "rmsprop"])
@pytest.mark.parametrize(("first", "second"), [(Recorded, None), (None, Recorded), (Recorded, Recorded)])
def test_a_run_continues_with_or_without_graphs(
    configure: Configure, folders: Callable[[str], Path], optimizer: str, first: type[Recorded] | None, second: type[Recorded] | None
) -> None:
    config = configure(epochs=4, optimizer=optimizer, dropout=0.2)
    make: Callable[[type[Recorded] | None], Recorded | None] = lambda kind: None if kind is None else kind()  # noqa: E731
    checkpoints = Checkpoints(folders("states"), seconds=0)
    whole = trained(config, make(first), folders("whole"), checkpoints=checkpoints)
    saved = [event.checkpoint for event in whole if isinstance(event, CheckpointSaved)]
    rest = trained(config, make(second), folders("rest"), checkpoints=Checkpoints(resume=saved[1:2]))
    expected = metrics(whole)[2:]
    if first is second:
        assert metrics(rest) == expected
    assert metrics(rest) == [pytest.approx(one, rel=1e-3) for one in expected]


def test_a_processor_has_no_graphs(configure: Configure) -> None:
    learners = list[ModelLearner]()

    def build(*arguments: Any) -> Any:
        found = partial(ModelLearner.build, graphs=True)(*arguments)
        learners.append(found[0])
        return found

    assert list(TrainingLoop([Member(config=configure(epochs=1))], build, device=CPU).events())
    assert learners[0]._graphed is None


@pytest.mark.gpu
@pytest.mark.parametrize("optimizer", ["sgd", "adamw", "rmsprop"])
def test_a_gpu_captures_its_steps(
    configure: Configure, folders: Callable[[str], Path], optimizer: str, caplog: pytest.LogCaptureFixture
) -> None:
    gpu, config = torch.device("cuda:0"), configure(epochs=4, optimizer=optimizer, dropout=0.2)
    found = list[list[dict[str, float]]]()
    for graphs in (False, True):
        member = Member(config=config)
        build = partial(ModelLearner.build, graphs=graphs)
        found.append(metrics(list(TrainingLoop([member], build, device=gpu).events())))
    assert "CUDA graphs" not in caplog.text, "no capture and no proof has failed"
    assert found[1] == [pytest.approx(one, rel=0.05, abs=0.05) for one in found[0]]
