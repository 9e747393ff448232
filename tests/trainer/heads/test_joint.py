"""Heads computed in few operations, as on a GPU: how many there are, and that the results are those of a CPU."""

import math
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from bench.launches import BATCHES, CPU, KINDS, META, OPTIMIZERS, Dispatched, count
from tests.trainer.heads.conftest import Subject, same_reports, subject_of, traits
from trainer.checkpoints import Checkpoints
from trainer.heads import HeadEnsemble
from trainer.heads.joint import ALIGNMENT, IN_CACHE, JOINT, Execution, execution_on
from trainer.heads.layers import Noise
from trainer.heads.optimizers import Optimizers
from trainer.learners import Member
from trainer.loop import TrainingLoop
from trainer.protocol import EpochMetrics, Finished
from trainer.stopwatch import Stopwatch
from trainer.targets.classes.losses import HeadsCrossEntropy, TabulatedCrossEntropy
from trainer.tasks.image_classification.config import ImageClassificationConfig
from trainer.tasks.images.config import ImageModel
from trainer.tasks.images.networks.factory import build

LAUNCHES = 24
Configure = Callable[..., ImageClassificationConfig]


@pytest.mark.parametrize("batch", BATCHES)
@pytest.mark.parametrize("kind", KINDS)
def test_a_step_of_many_heads_takes_few_launches_and_never_waits(kind: str, batch: int) -> None:
    counted = count(KINDS[kind], 128, batch)
    assert counted.launches.total() <= LAUNCHES, counted.launches
    assert not counted.waits


def test_a_head_alone_takes_no_more_launches_than_many() -> None:
    counted = count(KINDS["alike"], 1, BATCHES[0])
    assert 8 < counted.launches.total() <= count(KINDS["alike"], 128, BATCHES[0]).launches.total() and not counted.waits


@pytest.mark.parametrize("kind", KINDS)
def test_a_step_that_computes_takes_the_same_launches_and_never_waits(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """On a CPU, but as on a GPU: unlike on "meta", new tensors of Python numbers show."""
    with few_operations(monkeypatch):
        counted = count(KINDS[kind], 16, BATCHES[0], CPU)
    assert counted.launches == count(KINDS[kind], 16, BATCHES[0]).launches and not counted.waits


def test_launches_and_waits_are_counted() -> None:
    given = torch.zeros(4, 4, device=META)
    with Dispatched() as counted:
        given.T.flatten(0).view(4, 4)  # a copy, since the transposed tensor is not contiguous
        given.view(16)[2:]
        given.addcmul_(given, given)
        torch.zeros(4).to(META)
    assert counted.launches == {"clone": 1, "addcmul_": 1, "zeros": 1} and counted.waits == {"_to_copy": 1}
    with Dispatched() as counted:
        torch.tensor([1.0, 2.0])
        torch.ones(2).new_tensor([1.0, 2.0])
        float(torch.ones(()))
    assert counted.launches == {"ones": 2} and counted.waits == {"lift_fresh": 2, "_local_scalar_dense": 1}


def test_only_a_cpu_computes_pieces_that_fit_in_its_cache() -> None:
    assert execution_on(CPU) == IN_CACHE
    assert {execution_on(torch.device(name)) for name in ("cuda:0", "mps", "xpu", "meta")} == {JOINT}


@contextmanager
def few_operations(monkeypatch: pytest.MonkeyPatch, execution: Execution = JOINT) -> Iterator[None]:
    """Compute as on a GPU."""
    with monkeypatch.context() as patched:
        patched.setattr("trainer.heads.ensemble.execution_on", lambda device: execution)
        patched.setattr("trainer.targets.classes.target.tabulates", lambda device: True)
        yield


def learned(
    own: Subject, configs: list[ImageClassificationConfig], shape: tuple[int, ...], dtype: torch.dtype, steps: int
) -> dict[str, Tensor]:
    """Losses [steps, M], the last gradients, and the parameters at the end, by name."""
    heads = own.heads(configs, dtype)
    optimizers, random = Optimizers(configs, heads.parameters, heads.flat), torch.Generator().manual_seed(0)
    optimizers.begin(torch.tensor([[config.lr / (step + 1) for config in configs] for step in range(steps)], dtype=torch.float64))
    noise, losses, found = Noise(3, CPU), list[Tensor](), dict[str, Tensor]()
    for step in range(steps):
        features, targets = torch.randn(16, *shape, generator=random).to(dtype), torch.randint(0, 5, (16,), generator=random)
        losses.append(heads.learn(own.prefix(features), targets, noise, Stopwatch()))
        found = {f"gradient of {name}": parameter.gradient.clone() for name, parameter in heads.parameters.items()}
        optimizers.step(step)
    return {**found, "losses": torch.stack(losses).T, **{name: parameter.value for name, parameter in heads.parameters.items()}}


HEADS = {"small_cnn": (64, 2, 2), "squeezenet1_1": (512, 3, 3), "mobilenet_v3_small": (576, 2, 2), "convnext_tiny": (768, 1, 1)}
DIFFERENT: Mapping[str, Callable[[int], Mapping[str, Any]]] = {
    "alike": lambda place: {},
    "one dropout": lambda place: {"dropout": 0.3},
    "own dropout": lambda place: {"dropout": 0.1 * (place % 7)},
    "own betas": lambda place: {"beta1": 0.8 + 0.01 * place, "beta2": 0.9 + 0.005 * place},
    "four optimizers": lambda place: {"optimizer": OPTIMIZERS[place // 3], "weight_decay": 0.02 * (place % 2)},
    "sgd": lambda place: {"optimizer": "sgd", "momentum": 0.3 * (place % 3), "weight_decay": 0.02 * (place % 2)},
    "label smoothing": lambda place: {"label_smoothing": 0.02 * place, "class_weights": "balanced" if place % 2 else "none"},
}


@pytest.mark.parametrize("different", DIFFERENT)
@pytest.mark.parametrize("name", HEADS)
def test_few_operations_compute_what_many_compute(name: str, different: str, head_config: Any) -> None:
    configs = [head_config(name, seed=seed, lr=1e-3 * (seed + 1), **DIFFERENT[different](seed)) for seed in range(12)]
    pieces = replace(JOINT, masked_bytes=1, activation_bytes=2**19)  # several of each, since all would fit in one
    # In float32 one step: in later ones Adam enlarges the rounding of gradients that are nearly 0.
    for dtype, steps, tolerance in ((torch.float64, 5, 1e-9), (torch.float32, 1, 1e-6)):
        expected = learned(subject_of(name, dtype, IN_CACHE), configs, HEADS[name], dtype, steps)
        for execution in (JOINT, pieces):
            found = learned(subject_of(name, dtype, execution), configs, HEADS[name], dtype, steps)
            for title, value in expected.items():
                if steps > 1 or title == "losses" or title.startswith("gradient"):
                    error = (found[title] - value).flatten(1).norm(dim=1) / value.flatten(1).norm(dim=1)
                    assert (error < tolerance).all(), (title, dtype, error)


@pytest.mark.parametrize("name", HEADS)
def test_few_operations_round_to_bfloat16_like_many(name: str, head_config: Any) -> None:
    for different in ("alike", "one dropout", "own dropout"):
        configs = [head_config(name, seed=seed, precision="bfloat16", **DIFFERENT[different](seed)) for seed in range(6)]
        single = [config.model_copy(update={"precision": "float32"}) for config in configs]
        exact = learned(subject_of(name, torch.float32, IN_CACHE), single, HEADS[name], torch.float32, 1)
        many, few = (learned(subject_of(name, torch.float32, way), configs, HEADS[name], torch.float32, 1) for way in (IN_CACHE, JOINT))
        for title, value in exact.items():
            if title.startswith("gradient"):
                errors = [float((found[title] - value).norm()) for found in (many, few)]
                assert 0 < errors[1] < 1.2 * errors[0], (title, different)


def test_the_tabulated_loss_and_its_gradient_equal_the_other(head_config: Any) -> None:
    random = torch.Generator().manual_seed(0)
    configs = [
        head_config(label_smoothing=smoothing, class_weights=weights) for smoothing in (0.0, 0.1, 0.3) for weights in ("none", "balanced")
    ]
    plain, table = (traits(configs, torch.float32, joint=joint).loss for joint in (False, True))
    assert isinstance(plain, HeadsCrossEntropy) and isinstance(table, TabulatedCrossEntropy)
    for size in (7, 7, 3, 7):  # the last batch of an epoch is smaller
        outputs, targets = torch.randn(6, 5, size, generator=random) * 4, torch.randint(0, 5, (size,), generator=random)
        for found, expected in zip(table(outputs, targets), plain(outputs, targets), strict=True):
            assert torch.allclose(found, expected, rtol=1e-6, atol=1e-7)
        for found, expected in zip(table.of(1, 4)(outputs[1:4], targets), plain.of(1, 4)(outputs[1:4], targets), strict=True):
            assert torch.allclose(found, expected, rtol=1e-6, atol=1e-7)


def test_a_member_that_diverges_changes_no_other(head_config: Any) -> None:
    own = subject_of("small_cnn", torch.float32, JOINT)
    configs = [head_config(seed=seed, optimizer=kind, dropout=0.1 * seed) for seed, kind in enumerate(OPTIMIZERS)]
    expected = learned(own, configs, (64, 2, 2), torch.float32, 4)
    for place in range(4):
        bad = [config.model_copy(update={"lr": math.inf}) if number == place else config for number, config in enumerate(configs)]
        found = learned(own, bad, (64, 2, 2), torch.float32, 4)
        assert not found["losses"][place].isfinite().all()
        others = [number for number in range(4) if number != place]
        assert all(torch.equal(value[others], expected[title][others]) for title, value in found.items())


def test_each_parameter_begins_at_a_multiple_of_the_alignment(head_config: Any) -> None:
    heads = subject_of("small_cnn", torch.float32, JOINT).heads([head_config(), head_config()], torch.float32)
    assert heads.flat is not None
    for parameter in heads.parameters.values():
        offset = parameter.value.storage_offset()
        assert parameter.value.untyped_storage().data_ptr() == heads.flat.value.untyped_storage().data_ptr() and offset % ALIGNMENT == 0


@pytest.fixture
def head(configure: Configure, tmp_path: Path) -> Configure:
    """Makes the config of a run of the head alone, on weights that are the same each time."""
    file = tmp_path / "weights.pt"
    torch.save(build(configure(seed=5), 3).network.state_dict(), file)
    model = ImageModel(name="small_cnn", weights=str(file))
    return lambda **changes: configure(model=model, frozen_layers=4, **changes)


def measured(members: list[Member], stop_after: int | None = None) -> dict[int, list[dict[str, float]]]:
    """Each member's metrics by epoch; the last are the report's."""
    found: dict[int, list[Any]] = {number: [] for number in range(len(members))}
    loop = TrainingLoop(members, HeadEnsemble.build, device=CPU)
    for event in loop.events():
        if isinstance(event, EpochMetrics):
            found[event.lane].append(dict(event.metrics))
            if event.step == stop_after:
                loop.end(event.lane)
        elif isinstance(event, Finished):
            found[event.lane].append(event.report)
    return found


def close(found: list[Any], expected: list[Any]) -> None:
    assert len(found) == len(expected) > 0
    for one, other in zip(found, expected, strict=True):
        if "confusion_matrix" in other:
            same_reports(one, other)
        else:
            assert one == pytest.approx(other, rel=1e-4)


def test_runs_end_where_a_cpu_brings_them(head: Configure, monkeypatch: pytest.MonkeyPatch) -> None:
    configs = [
        head(seed=1, optimizer="adam", dropout=0.3, lr=0.01, schedule="cosine", beta1=0.8, epochs=4),
        head(seed=2, optimizer="sgd", lr=0.05, momentum=0.5, weight_decay=0.01),
        head(seed=3, weight_decay=0.1, label_smoothing=0.1, dropout=0.5),
        head(seed=4, optimizer="rmsprop", momentum=0.0, schedule="one_cycle", epochs=2),
        head(seed=5, optimizer="sgd", class_weights="balanced"),
    ]
    members = [Member(config=config) for config in configs]
    expected = measured(members)
    with few_operations(monkeypatch):
        found = measured(members)
    for number in range(len(members)):
        close(found[number], expected[number])


@pytest.mark.parametrize("kind", OPTIMIZERS)
def test_a_checkpoint_of_a_gpu_continues_on_a_cpu_and_the_reverse(
    kind: str, head: Configure, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = head(seed=1, epochs=4, optimizer=kind, dropout=0.2, weight_decay=0.01)
    (expected,) = measured([Member(config=config)]).values()
    on_gpu, on_cpu = Checkpoints(tmp_path / "gpu"), Checkpoints(tmp_path / "cpu")
    company = Member(config=head(seed=2, epochs=4, optimizer="sgd", dropout=0.4))
    with few_operations(monkeypatch):
        measured([company, Member(config=config, checkpoints=on_gpu)], stop_after=2)
    measured([company, Member(config=config, checkpoints=on_cpu)], stop_after=2)
    from_gpu, from_cpu = on_gpu.write(), on_cpu.write()
    assert from_gpu is not None and from_cpu is not None and from_gpu.step == from_cpu.step == 2
    states = [torch.load(one.path, weights_only=True) for one in (from_gpu, from_cpu)]
    assert states[0]["model"].keys() == states[1]["model"].keys()
    assert {name: value.shape for name, value in states[0]["model"].items()} == {n: v.shape for n, v in states[1]["model"].items()}
    assert states[0]["optimizer"]["param_groups"] == states[1]["optimizer"]["param_groups"]
    (found,) = measured([Member(config=config, checkpoints=Checkpoints(tmp_path / "a", resume=(from_gpu,)))]).values()
    close(found, expected[2:])
    with few_operations(monkeypatch):
        (found,) = measured([Member(config=config, checkpoints=Checkpoints(tmp_path / "b", resume=(from_cpu,)))]).values()
    close(found, expected[2:])
