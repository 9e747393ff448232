"""Whole runs of adapted image transformers: shared prefixes, resuming, exported networks and heads."""

from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torchvision.models import get_model

from trainer.cache import Cache
from trainer.checkpoints import Checkpoints
from trainer.heads.ensemble import fits
from trainer.loop import train
from trainer.models import Infeasible
from trainer.preparation import Expected, prepare
from trainer.protocol import EpochMetrics, Finished, RunPrepared
from trainer.tasks.image_classification.config import ImageClassificationConfig
from trainer.tasks.images.config import ImageData, ImageModel
from trainer.tasks.images.networks.factory import build

CPU = torch.device("cpu")
MUCH = 1e9  # epochs that a study has still to come: everything is worth storing
STAGES = 13  # of swin_t
Configure = Callable[..., ImageClassificationConfig]
SWIN = {"model": ImageModel(name="swin_t"), "image_size": 32, "lr": 1e-3, "seed": 5}


@pytest.fixture
def small(configure: Configure, paint: Callable[..., Path]) -> Configure:
    """Makes the config of a run on few images."""
    data = ImageData(path=str(paint(count=7)))
    return lambda **values: configure(data=data, **values)


def metrics(facts: list[Any]) -> dict[int, dict[str, float]]:
    return {fact.step: dict(fact.metrics) for fact in facts if isinstance(fact, EpochMetrics)}


def prepared(facts: list[Any]) -> RunPrepared:
    (found,) = (fact for fact in facts if isinstance(fact, RunPrepared))
    return found


@pytest.mark.slow
def test_a_prefix_stored_by_a_run_that_trains_all_above_it_serves_one_that_adapts_it(small: Configure, tmp_path: Path) -> None:
    cache, depth = Cache(tmp_path / "cache", 10**9), STAGES - 2
    full = small(**SWIN, frozen_layers=depth)
    lora = small(**SWIN, method="lora", lora_layers=2)
    list(train(full, device=CPU, cache=cache, demand={depth: MUCH}))
    stored = {file: file.stat().st_ino for file in (tmp_path / "cache").glob("features/*.tensor")}
    reading = list(train(lora, device=CPU, cache=cache, demand={depth: MUCH}))
    computing = list(train(lora, device=CPU, cache=Cache.none(), share=False))
    reuse = prepared(reading).reuse
    assert stored and reuse is not None and (reuse.depth, reuse.validation_depth, reuse.place) == (depth, depth, "disk")
    assert {file: file.stat().st_ino for file in (tmp_path / "cache").glob("features/*.tensor")} == stored, "nothing was stored again"
    assert [pytest.approx(one, rel=1e-4, abs=1e-4) for one in metrics(computing).values()] == list(metrics(reading).values())


@pytest.mark.slow
@pytest.mark.parametrize("method", ["lora", "dora", "bitfit", "adapter"])
def test_a_run_that_is_stopped_and_resumed_equals_the_uninterrupted_one_bit_for_bit(small: Configure, tmp_path: Path, method: str) -> None:
    rates = {"lora_dropout": 0.1} if method in ("lora", "dora") else {}
    config = small(**SWIN, method=method, lora_layers=2, epochs=3, layer_decay=0.8, **rates)
    whole = list(train(config, device=CPU, model_file=tmp_path / "whole.safetensors"))
    checkpoints = Checkpoints(tmp_path / "checkpoints", seconds=3_600)
    with closing(train(config, device=CPU, checkpoints=checkpoints)) as run:
        next(fact for fact in run if fact.kind == "advanced" and fact.epoch == 2)
    saved = checkpoints.write()
    assert saved is not None and saved.step == 1
    torch.manual_seed(123)
    rest = list(train(config, device=CPU, checkpoints=Checkpoints(resume=[saved]), model_file=tmp_path / "resumed.safetensors"))
    assert metrics(rest) == {step: values for step, values in metrics(whole).items() if step > 1}
    tensors, resumed = load_file(tmp_path / "whole.safetensors"), load_file(tmp_path / "resumed.safetensors")
    assert tensors.keys() == resumed.keys() and all(torch.equal(tensors[name], resumed[name]) for name in tensors)
    state = torch.load(saved.path, weights_only=True)
    trained = prepared(whole).trainable
    buffers = {name for name, _ in build(config, 3).network.named_buffers()}
    assert sum(tensor.numel() for name, tensor in state["model"].items() if name not in buffers) == trained, "and nothing else of the base"


@pytest.mark.slow
@pytest.mark.parametrize("name", ["swin_t", "vit_b_32"])
def test_the_exported_network_is_torchvisions_and_reaches_the_metrics_of_the_run(small: Configure, tmp_path: Path, name: str) -> None:
    config = small(**{**SWIN, "model": ImageModel(name=name)}, method="lora", lora_layers=1)
    facts = list(train(config, device=CPU, model_file=tmp_path / "model.safetensors"))
    (finished,) = (fact for fact in facts if isinstance(fact, Finished))
    network = get_model(name, num_classes=3, **({"image_size": 32} if name == "vit_b_32" else {})).eval()
    network.load_state_dict(load_file(tmp_path / "model.safetensors"))
    run = prepare(config, CPU, Expected(), Cache.none())
    inputs, targets = run.examples.take(run.validation, None), run.targets[run.validation]
    assert isinstance(inputs, torch.Tensor)
    with torch.no_grad():
        loss = torch.nn.functional.cross_entropy(network(inputs), targets).item()
    assert loss == pytest.approx(finished.metrics["loss"], abs=1e-5)
    assert loss != pytest.approx(torch.nn.functional.cross_entropy(run.model.eval()(inputs), targets).item(), abs=1e-2), "before training"


def test_adapted_networks_are_not_trained_as_heads_alone(configure: Configure) -> None:
    model = ImageModel(name="swin_t", weights="DEFAULT")
    assert fits(configure(**{**SWIN, "model": model}, frozen_layers=STAGES))
    assert not fits(configure(**{**SWIN, "model": model}, method="lora", lora_layers=1))


@pytest.mark.parametrize(
    ("values", "text"),
    [
        ({"method": "lora"}, "small_cnn cannot be trained with this method; write full, or choose a transformer"),
        ({"lora_layers": 5}, "small_cnn has 4 stages to freeze, not 5; lower lora_layers"),
        ({"frozen_layers": 3, "reinit_layers": 2}, "the last 2 stages start from random values, but the first 3 of 4 are frozen"),
        ({"reinit_layers": 5}, "the last 5 stages start from random values, but the first 0 of 4 are frozen"),
    ],
)
def test_what_cannot_be_trained_is_infeasible(configure: Configure, values: dict[str, Any], text: str) -> None:
    with pytest.raises(Infeasible, match=text):
        build(configure(**values), 3)


def test_the_last_stages_start_from_values_of_the_seed_and_the_others_from_the_weights(configure: Configure, tmp_path: Path) -> None:
    exported = tmp_path / "model.safetensors"
    list(train(configure(epochs=1, seed=1), device=CPU, model_file=exported))
    model = ImageModel(name="small_cnn", weights=str(exported))
    loaded, fresh = build(configure(model=model), 3), build(configure(model=model, reinit_layers=2), 3)
    random = build(configure(), 3)
    for depth, stage in enumerate(fresh.stages):
        source = (random if depth >= 2 else loaded).stages[depth].state_dict()
        assert all(torch.equal(tensor, source[name]) for name, tensor in stage.state_dict().items())
    assert not torch.equal(next(loaded.stages[3].parameters()), next(fresh.stages[3].parameters()))
