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
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from trainer.cache import Cache
from trainer.checkpoints import Checkpoints
from trainer.features import Direct
from trainer.graphs import TIMED_STEPS, WARM_STEPS, GraphMode, Outputs
from trainer.heads.ensemble import Graphing, HeadEnsemble
from trainer.heads.joint import JOINT
from trainer.learners import Member, ModelLearner
from trainer.loop import TrainingLoop
from trainer.preparation import Expected, prepare
from trainer.protocol import CheckpointSaved, EpochMetrics, Finished
from trainer.stopwatch import Stopwatch
from trainer.tasks.image_classification.config import ImageClassificationConfig
from trainer.tasks.images.config import ImageModel
from trainer.tasks.images.networks.factory import build as network

CPU = torch.device("cpu")
Configure = Callable[..., ImageClassificationConfig]


class Tape(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Records operations, and performs them again as a graph does: on the same memory, with the numbers that Python passed then."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._calls = list[tuple[Any, Any, Any, Any]]()

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if function.name() == "aten::_local_scalar_dense":
            raise RuntimeError("a number is read on the host while the work is captured")
        found = function(*args, **(kwargs or {}))
        self._calls.append((function, args, kwargs or {}, found))
        return found

    def play(self) -> None:
        with torch.no_grad():
            for function, args, kwargs, before in self._calls:
                for kept, found in zip(tree_leaves(before), tree_leaves(function(*args, **kwargs)), strict=True):
                    if isinstance(kept, Tensor) and kept.data_ptr() != found.data_ptr():  # neither in place nor a view
                        kept.copy_(found)


class Recorded:
    """Graphs of a device, as tapes."""

    def __init__(self, generator: torch.Generator | None = None) -> None:
        self.captures, self.replays = 0, 0
        self._generator = torch.default_generator if generator is None else generator

    def capture(self, work: Callable[[], Outputs]) -> tuple[Outputs, Callable[[], None]]:
        self.captures += 1
        with Tape() as tape:
            outputs = work()

        def replay() -> None:
            self.replays += 1
            self.replayed(tape)

        return outputs, replay

    def replayed(self, tape: Tape) -> None:
        tape.play()

    def random_state(self) -> Tensor:
        return self._generator.get_state()

    def set_random_state(self, state: Tensor) -> None:
        self._generator.set_state(state)

    def seconds(self) -> float:
        raise AssertionError("nothing is timed")


class Repeated(Recorded):
    """Performs the work itself again. For SGD and RMSprop in float32, which on a CPU read the learning rate on the host."""

    def capture(self, work: Callable[[], Outputs]) -> tuple[Outputs, Callable[[], None]]:
        self.captures += 1
        outputs = work()

        def replay() -> None:
            self.replays += 1
            for output, found in zip(outputs, work(), strict=True):
                output.copy_(found)

        return outputs, replay


class Refusing(Recorded):
    """Captures nothing."""

    def capture(self, work: Callable[[], Outputs]) -> tuple[Outputs, Callable[[], None]]:
        self.captures += 1
        work()
        raise RuntimeError("operation not permitted when stream is capturing\nmore lines")


class Idle(Recorded):
    """Replays change nothing."""

    def replayed(self, tape: Tape) -> None:
        return


class Twice(Recorded):
    """Replays take two steps."""

    def replayed(self, tape: Tape) -> None:
        tape.play()
        tape.play()


class Timed(Recorded):
    """Has a clock on which an eager step takes a second, and a replay `graph` seconds."""

    def __init__(self, graph: float) -> None:
        super().__init__()
        self.graph, self.now, self.seen, self.readings = graph, 0.0, 0, 0

    def seconds(self) -> float:
        self.readings += 1
        if self.readings % 2 == 0:
            self.now += self.graph if self.replays > self.seen else 1.0
        self.seen = self.replays
        return self.now


def trained(config: ImageClassificationConfig, graphs: Recorded | None, folder: Path, *, timed: bool = False, **options: Any) -> list[Any]:
    def build(run: Any, members: Any, cache: Cache, stopwatch: Any) -> Any:
        return ModelLearner(run, 0, stopwatch, graphs, timed_graphs=timed), Direct(run)

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


@pytest.mark.parametrize(("optimizer", "kind"), [("sgd", Repeated), ("adam", Recorded), ("adamw", Recorded), ("rmsprop", Repeated)])
def test_steps_by_graphs_compute_what_eager_steps_compute(
    configure: Configure, folders: Callable[[str], Path], optimizer: str, kind: type[Recorded], caplog: pytest.LogCaptureFixture
) -> None:
    """Dropout, a schedule, and a last batch of another size."""
    config = configure(optimizer=optimizer, epochs=4, batch_size=9, dropout=0.3, schedule="cosine", augmentation="flip")
    graphs, refusing = kind(), Refusing()
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
    config, wrong = configure(epochs=3, dropout=0.2, optimizer="adam", lr=0.01), kind()
    assert metrics(trained(config, wrong, folders("wrong"))) == metrics(trained(config, Refusing(), folders("eager")))
    assert equal(model(folders("wrong")), model(folders("eager")))
    assert wrong.replays == 1 and "a replay changed the state by" in caplog.text


@pytest.fixture
def float16(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("trainer.devices.matrix_formats", lambda device: frozenset({"float16"}))


@pytest.mark.parametrize("optimizer", ["sgd", "adam", "adamw", "rmsprop"])
def test_float16_is_captured_with_its_loss_scale(
    configure: Configure, folders: Callable[[str], Path], float16: None, monkeypatch: pytest.MonkeyPatch, optimizer: str
) -> None:
    """Gradients overflow in the first steps, of which none is a proof, and again whenever the scale has grown."""
    monkeypatch.setattr("torch.amp.GradScaler", partial(torch.amp.GradScaler, init_scale=2.0**26, growth_interval=4))
    config = configure(precision="float16", epochs=4, batch_size=9, dropout=0.3, optimizer=optimizer)
    graphs = Recorded()
    captured, eager = trained(config, graphs, folders("captured")), trained(config, Refusing(), folders("eager"))
    assert metrics(captured) == metrics(eager) and equal(model(folders("captured")), model(folders("eager")))
    assert 1 <= graphs.captures <= 2 and graphs.replays > 4


def test_a_step_that_overflowed_proves_nothing(
    configure: Configure, folders: Callable[[str], Path], float16: None, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Replays that do nothing agree with an eager step that was skipped."""
    monkeypatch.setattr("torch.amp.GradScaler", partial(torch.amp.GradScaler, init_scale=2.0**80))
    graphs = Idle()
    trained(configure(precision="float16", epochs=2), graphs, folders("run"))
    assert graphs.captures == 0, "no step of these two epochs changes anything"
    graphs = Idle()
    monkeypatch.setattr("torch.amp.GradScaler", partial(torch.amp.GradScaler, init_scale=2.0**10))
    trained(configure(precision="float16", epochs=2), graphs, folders("run"))
    assert graphs.captures == 1 and "a replay changed the state by" in caplog.text


@pytest.mark.parametrize(("graph", "is_kept"), [(0.5, True), (0.94, True), (0.96, False), (2.0, False)])
def test_the_faster_way_is_kept(
    configure: Configure, folders: Callable[[str], Path], graph: float, is_kept: bool, caplog: pytest.LogCaptureFixture
) -> None:
    config, graphs = configure(epochs=6, batch_size=12, dropout=0.2), Timed(graph)
    with caplog.at_level(logging.INFO, "trainer.graphs"):
        events = trained(config, graphs, folders("timed"), timed=True)
    steps = 6 * 4  # of one shape
    timed = 1 + TIMED_STEPS  # replays, the first of which is the proof
    assert graphs.captures == 1 and graphs.replays == (steps - WARM_STEPS - TIMED_STEPS if is_kept else timed)
    assert graphs.readings == 2 * 2 * TIMED_STEPS, "no step waits for the device after the choice"
    way = "by a CUDA graph" if is_kept else "without a graph"
    said = [record.getMessage() for record in caplog.records if record.name == "trainer.graphs"]
    assert said == [f"a step of 12 examples takes {1000 * graph:.2f} ms by a CUDA graph and 1000.00 ms without: {way}"]
    assert metrics(events) == metrics(trained(config, Refusing(), folders("eager")))
    assert equal(model(folders("timed")), model(folders("eager")))


@pytest.mark.parametrize("optimizer", ["sgd", "adamw", "rmsprop"])
@pytest.mark.parametrize(("first", "second"), [(Repeated, None), (None, Repeated), (Repeated, Repeated)])
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


@pytest.fixture
def heads(configure: Configure, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., list[Any]]:
    """Trains heads together as on a GPU; the last of them for fewer epochs. Returns their events, and the graphs of each learner."""
    monkeypatch.setattr("trainer.heads.ensemble.execution_on", lambda device: JOINT)
    torch.save(network(configure(seed=5), 3).network.state_dict(), tmp_path / "weights.pt")
    model_of = ImageModel(name="small_cnn", weights=str(tmp_path / "weights.pt"))
    own: list[dict[str, Any]] = [
        {"optimizer": "sgd", "dropout": 0.1, "weight_decay": 0.01},
        {"optimizer": "adamw", "dropout": 0.4, "beta1": 0.8},
        {"optimizer": "rmsprop"},
        {"optimizer": "adam", "dropout": 0.4, "epochs": 3},
    ]

    def heads(make: Callable[[torch.Generator], Recorded] | None, folder: Path, *, timed: bool = False) -> list[Any]:
        def build(*arguments: Any) -> Any:
            learner, inputs = HeadEnsemble.build(*arguments)
            if make is not None:
                learner.use_graphs(Graphing(make, timed))
            return learner, inputs

        common = {"model": model_of, "frozen_layers": 4, "batch_size": 9, "schedule": "cosine", "epochs": 5}
        configs = [configure(**{**common, **changes}) for changes in own]
        members = [
            Member(config=config, model_file=folder / f"{lane}.safetensors", checkpoints=Checkpoints(folder / str(lane), seconds=0))
            for lane, config in enumerate(configs)
        ]
        return [event for event in TrainingLoop(members, build, device=CPU).events() if event.kind != "advanced"]

    return heads


def states(events: list[Any]) -> list[Any]:
    saved = [event.checkpoint for event in events if isinstance(event, CheckpointSaved)]
    return [torch.load(one.path, weights_only=True)["optimizer"]["state"] for one in saved]


def test_heads_trained_together_are_captured(heads: Callable[..., list[Any]], folders: Callable[[str], Path]) -> None:
    """Again once a member has ended, since the others then have tensors of their own."""
    made = list[Recorded]()

    def recorded(generator: torch.Generator) -> Recorded:
        made.append(Recorded(generator))
        return made[-1]

    captured, eager = heads(recorded, folders("captured")), heads(None, folders("eager"))
    assert metrics(captured) == metrics(eager) and len(metrics(captured)) == 3 * 5 + 3
    for lane in range(4):
        ours, theirs = (load_file(folders(name) / f"{lane}.safetensors") for name in ("captured", "eager"))
        assert equal(ours, theirs)
    assert [(one.captures, one.replays) for one in made] == [(1, 3 * 5 - WARM_STEPS), (1, 2 * 5 - WARM_STEPS)]
    moments, expected = states(captured), states(eager)
    assert len(moments) == len(expected) > 4
    assert str(moments) == str(expected), "and the number of steps"


def test_heads_whose_graph_does_something_else_stay_eager(
    heads: Callable[..., list[Any]], folders: Callable[[str], Path], caplog: pytest.LogCaptureFixture
) -> None:
    assert metrics(heads(Twice, folders("wrong"))) == metrics(heads(None, folders("eager")))
    assert caplog.text.count("a replay changed the state by") == 2, "of each learner"


def test_heads_on_a_processor_cannot_be_captured(configure: Configure, tmp_path: Path) -> None:
    torch.save(network(configure(seed=5), 3).network.state_dict(), tmp_path / "weights.pt")
    config = configure(model=ImageModel(name="small_cnn", weights=str(tmp_path / "weights.pt")), frozen_layers=4)
    run = prepare(config, CPU, Expected(), Cache.none())
    learner, _ = HeadEnsemble.build(run, [Member(config=config)], Cache.none(), Stopwatch(), graphs="on")
    assert learner._graphed is None
    with pytest.raises(ValueError, match="computed jointly"):
        learner.use_graphs(Graphing(Recorded, timed=False))


def test_a_processor_has_no_graphs(configure: Configure) -> None:
    learners = list[ModelLearner]()

    def build(*arguments: Any) -> Any:
        found = partial(ModelLearner.build, graphs="on")(*arguments)
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
    modes: tuple[GraphMode, ...] = ("off", "on", "auto")
    for mode in modes:
        member = Member(config=config)
        build = partial(ModelLearner.build, graphs=mode)
        found.append(metrics(list(TrainingLoop([member], build, device=gpu).events())))
    assert "CUDA graphs" not in caplog.text, "no capture and no proof has failed"
    assert found[1:] == [[pytest.approx(one, rel=0.05, abs=0.05) for one in found[0]]] * 2
