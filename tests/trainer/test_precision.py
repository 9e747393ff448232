"""The precision of a run: by the device's matrix units, with loss scaling in float16, stated in the facts."""

import logging
import re
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from trainer import devices
from trainer.cache import Cache
from trainer.checkpoints import Checkpoints
from trainer.heads import HeadEnsemble
from trainer.learners import Member, ModelLearner
from trainer.loop import TrainingLoop, train
from trainer.models import Infeasible
from trainer.preparation import inspect
from trainer.protocol import Checkpoint, EpochMetrics, Failed, Finished, RunPrepared
from trainer.tasks.image_classification.config import ImageClassificationConfig
from trainer.tasks.images.config import ImageModel
from trainer.tasks.images.networks.factory import build

Configure = Callable[..., ImageClassificationConfig]
CPU, GPU = torch.device("cpu"), torch.device("cuda:0")
NVIDIA: tuple[tuple[tuple[int, int], str, str, bool], ...] = (  # capability, name, what auto is, TF32 beside it
    ((6, 1), "NVIDIA GeForce GTX 1080", "float32", False),
    ((7, 0), "Tesla V100-SXM2-16GB", "float16", False),
    ((7, 5), "Tesla T4", "float16", False),
    ((7, 5), "NVIDIA GeForce GTX 1660", "float32", False),
    ((8, 0), "NVIDIA A100-SXM4-40GB", "bfloat16", True),
    ((9, 0), "NVIDIA H200", "bfloat16", True),
)


@pytest.fixture
def float16(monkeypatch: pytest.MonkeyPatch) -> None:
    """The processor counts as a device with matrix units for float16 only, as a T4."""
    monkeypatch.setattr(devices, "matrix_formats", lambda device: devices.formats_of_nvidia((7, 5), "Tesla T4"))


@pytest.fixture
def backends() -> Iterator[None]:
    """Restores torch's settings."""
    cudnn, matmul = torch.backends.cudnn, torch.backends.cuda.matmul
    kept = cudnn.benchmark, cudnn.deterministic, cudnn.allow_tf32, matmul.allow_tf32
    yield
    cudnn.benchmark, cudnn.deterministic, cudnn.allow_tf32, matmul.allow_tf32 = kept


def events(config: ImageClassificationConfig, **options: Any) -> list[Any]:
    return [event for event in train(config, device=CPU, **options) if event.kind != "advanced"]


def only(kind: type[Any], found: list[Any]) -> Any:
    (event,) = [event for event in found if isinstance(event, kind)]
    return event


def metrics(found: list[Any]) -> dict[int, dict[str, float]]:
    return {event.step: dict(event.metrics) for event in found if isinstance(event, EpochMetrics)}


@pytest.mark.parametrize(("capability", "name", "auto", "tf32"), NVIDIA, ids=[name for _, name, _, _ in NVIDIA])
def test_auto_is_the_best_format_of_the_matrix_units(
    configure: Configure, monkeypatch: pytest.MonkeyPatch, capability: tuple[int, int], name: str, auto: str, tf32: bool
) -> None:
    monkeypatch.setattr(devices, "matrix_formats", lambda device: devices.formats_of_nvidia(capability, name))
    config = devices.resolved(configure(precision="auto"), GPU)
    assert config.precision == auto and devices.computes_tf32(config, GPU) == tf32
    assert not devices.computes_tf32(configure(precision="float32"), GPU), "who asks for float32 gets all of it"
    assert devices.resolved(configure(precision="bfloat16"), GPU).precision == "bfloat16", "studies of earlier versions name it anywhere"


@pytest.mark.parametrize(("architecture", "found"), [
    ("gfx906:sramecc+:xnack-", set()), ("gfx908:sramecc+:xnack-", {"float16"}), ("gfx90a:sramecc+:xnack-", {"bfloat16", "float16"}),
    ("gfx942:sramecc+:xnack-", {"bfloat16", "float16"}), ("gfx1030", set()), ("gfx1100", {"bfloat16", "float16"}),
])  # fmt: skip
def test_the_matrix_units_of_amd_follow_from_the_architecture(architecture: str, found: set[str]) -> None:
    assert devices.formats_of_amd(architecture) == found


@pytest.mark.parametrize("precision", ["float16", "tf32"])
def test_a_format_without_matrix_units_is_infeasible_and_the_text_has_the_remedy(
    configure: Configure, monkeypatch: pytest.MonkeyPatch, precision: str
) -> None:
    monkeypatch.setattr(devices, "matrix_formats", lambda device: frozenset())
    failed = only(Failed, events(configure(precision=precision)))
    assert failed.reason == "infeasible"
    assert re.match(rf"precision: {precision} needs matrix units .* has none\. Write precision: auto", failed.detail)


def test_tf32_is_switched_for_each_run_and_stated(configure: Configure, monkeypatch: pytest.MonkeyPatch, backends: None) -> None:
    monkeypatch.setattr(devices, "matrix_formats", lambda device: devices.formats_of_nvidia((8, 0), "NVIDIA A100"))
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: "NVIDIA A100")
    for precision, held, fact in (("auto", "tf32", "on"), ("float32", "ieee", "off"), ("tf32", "tf32", "on"), ("bfloat16", "tf32", "on")):
        config = configure(precision=precision)
        devices.settle(GPU, config)
        settings = (torch.backends.cuda.matmul, torch.backends.cudnn.conv, torch.backends.cudnn.rnn)  # type: ignore[attr-defined]
        assert [setting.fp32_precision for setting in settings] == [held] * 3
        assert devices.environment(GPU, config)["tf32"] == fact
        with torch.backends.cudnn.flags(deterministic=True):  # reads the flag of earlier versions, and raises when two settings disagree
            pass


def test_the_driver_s_override_of_tf32_is_what_is_stated(configure: Configure, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(devices, "matrix_formats", lambda device: devices.formats_of_nvidia((9, 0), "NVIDIA H200"))
    monkeypatch.setenv("NVIDIA_TF32_OVERRIDE", "1")
    assert devices.environment(CPU, configure(precision="float32"))["tf32"] == "on"
    monkeypatch.setenv("NVIDIA_TF32_OVERRIDE", "0")
    assert devices.environment(CPU, configure(precision="bfloat16"))["tf32"] == "off"


def test_float16_learns_and_is_stated(configure: Configure, float16: None) -> None:
    found = events(configure(precision="auto", epochs=6))
    environment = only(RunPrepared, found).environment
    assert (environment["precision"], environment["tf32"]) == ("float16", "off") and "head_precision" not in environment
    assert only(Finished, found).metrics["accuracy"] > 0.8
    assert metrics(found) != metrics(events(configure(precision="float32", epochs=6)))


@pytest.mark.parametrize("optimizer", ["sgd", "adamw", "rmsprop"])
def test_float16_resumes_bit_for_bit_with_its_loss_scale(
    configure: Configure, float16: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, optimizer: str
) -> None:
    scale_by(monkeypatch, 2.0**30)  # overflows at first, so that a scale that is not restored would show
    config = configure(epochs=4, optimizer=optimizer, dropout=0.2, precision="float16")
    whole = events(config, model_file=tmp_path / "whole.safetensors")
    rest = events(config, checkpoints=Checkpoints(resume=[stopped_after(2, config, tmp_path)]), model_file=tmp_path / "rest.safetensors")
    assert metrics(rest) == {step: values for step, values in metrics(whole).items() if step > 2}
    ours, theirs = (load_file(tmp_path / f"{name}.safetensors") for name in ("whole", "rest"))
    assert ours.keys() == theirs.keys() and all(torch.equal(ours[name], theirs[name]) for name in ours)


def test_a_step_whose_gradients_overflow_changes_nothing_and_is_counted(
    configure: Configure, float16: None, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    scale_by(monkeypatch, 2.0**30)
    learners = list[ModelLearner]()

    def made(*arguments: Any) -> Any:
        learner, inputs = ModelLearner.build(*arguments)
        learners.append(learner)
        return learner, inputs

    member = Member(config=configure(precision="float16", epochs=3))
    with caplog.at_level(logging.INFO, "trainer.learners"):
        last = [event for event in TrainingLoop([member], made, device=CPU).events() if isinstance(event, Finished)]
    (learner,) = learners
    (performed,) = {int(state["step"]) for state in learner.snapshot()(0).optimizer["state"].values()}
    assert learner.skipped_steps > 3 and performed + learner.skipped_steps == 18, "six batches in each of three epochs"
    assert f"float16: {min(6, learner.skipped_steps)} of 6 steps changed nothing" in caplog.text
    assert last and all(torch.isfinite(parameter).all() for parameter in learner.network_of(0).parameters())


def test_a_checkpoint_without_loss_scaling_is_the_file_that_it_was(configure: Configure, tmp_path: Path) -> None:
    saved = torch.load(stopped_after(1, configure(), tmp_path).path, weights_only=True)
    assert saved.keys() == {"step", "run", "model", "optimizer", "train_loss", "lr", "seconds"}


def test_heads_trained_together_stay_in_float32_and_say_so(configure: Configure, float16: None, tmp_path: Path) -> None:
    torch.save(build(configure(seed=5), 3).network.state_dict(), tmp_path / "weights.pt")
    model = ImageModel(name="small_cnn", weights=str(tmp_path / "weights.pt"))
    members = [Member(config=configure(model=model, frozen_layers=4, precision="auto", seed=seed)) for seed in (1, 2)]
    found = list(TrainingLoop(members, HeadEnsemble.build, device=CPU).events())
    environments = [event.environment for event in found if isinstance(event, RunPrepared)]
    assert [(one["precision"], one["head_precision"]) for one in environments] == [("float16", "float32")] * 2
    assert len([event for event in found if isinstance(event, Finished)]) == 2


def test_a_config_that_names_no_precision_is_float32_as_before(configure: Configure) -> None:
    assert configure().precision == "float32"


def test_the_check_of_a_study_refuses_what_the_worker_s_device_lacks(configure: Configure, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(devices, "matrix_formats", lambda device: frozenset())
    with pytest.raises(Infeasible, match="precision: float16 needs matrix units"):
        inspect(configure(precision="float16"), CPU, Cache.none())


@pytest.mark.gpu
@pytest.mark.parametrize("precision", ["float16", "tf32", "bfloat16", "float32"])
def test_a_gpu_learns_in_each_precision_that_it_has(configure: Configure, precision: str) -> None:
    if precision in ("float16", "tf32") and precision not in devices.matrix_formats(GPU):
        with pytest.raises(Infeasible):
            devices.resolved(configure(precision=precision), GPU)
        return
    found = [event for event in train(configure(precision=precision, epochs=6), device=GPU) if event.kind != "advanced"]
    assert only(RunPrepared, found).environment["precision"] == precision
    assert only(Finished, found).metrics["accuracy"] > 0.8


def scale_by(monkeypatch: pytest.MonkeyPatch, scale: float) -> None:
    made = torch.amp.GradScaler
    monkeypatch.setattr(torch.amp, "GradScaler", lambda device, enabled: made(device, init_scale=scale, enabled=enabled))


def stopped_after(step: int, config: ImageClassificationConfig, folder: Path) -> Checkpoint:
    """Train, stop in the middle of the next epoch, and return the checkpoint of the last whole one."""
    checkpoints = Checkpoints(folder / "checkpoints", seconds=3_600)
    with closing(train(config, device=CPU, checkpoints=checkpoints)) as run:
        for event in run:
            if event.kind == "advanced" and (event.epoch, event.batch) == (step + 1, 2):
                break
    found = checkpoints.write()
    assert found is not None
    return found
