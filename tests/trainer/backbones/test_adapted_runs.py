"""Whole runs of adapted text models: shared prefixes, and resuming bit for bit."""

import csv
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from tests.trainer.backbones.conftest import LAYERS, VOCABULARY
from trainer.backbones.factory import build
from trainer.cache import Cache
from trainer.checkpoints import Checkpoints
from trainer.configuration import TrainConfig
from trainer.loop import train
from trainer.models import Infeasible
from trainer.preparation import Expected, prepare
from trainer.protocol import EpochMetrics, RunPrepared

CPU = torch.device("cpu")
MUCH = 1e9  # epochs that a study has still to come: everything is worth storing
Folder = Callable[..., Path]
Configure = Callable[..., TrainConfig]


@pytest.fixture
def configure(model_folder: Folder, tmp_path: Path) -> Configure:
    """Makes the config of a run on texts of two labels, whose words differ."""
    drawn = np.random.default_rng(0)
    with (tmp_path / "texts.csv").open("w", newline="") as file:
        table = csv.writer(file)
        table.writerow(("text", "label"))
        for number in range(60):
            label = number % 2
            words = [f"w{drawn.integers(4 + 26 * label, 34 + 26 * label)}" for _ in range(drawn.integers(4, 12))]
            table.writerow((" ".join(words), "ab"[label]))
    assert VOCABULARY == 60

    def make(**values: Any) -> TrainConfig:
        model = {"name": str(model_folder("bert"))}
        data = {"path": str(tmp_path / "texts.csv")}
        defaults = {"max_length": 16, "epochs": 3, "batch_size": 8, "lr": 1e-3, "seed": 1}
        return TrainConfig.model_validate({"task": "text_classification", "data": data, "model": model, **defaults, **values})

    return make


def metrics(facts: list[Any]) -> dict[int, dict[str, float]]:
    return {fact.step: dict(fact.metrics) for fact in facts if isinstance(fact, EpochMetrics)}


def prepared(facts: list[Any]) -> RunPrepared:
    (found,) = (fact for fact in facts if isinstance(fact, RunPrepared))
    return found


def test_a_prefix_stored_by_a_run_that_trains_all_above_it_serves_one_that_adapts_it(configure: Configure, tmp_path: Path) -> None:
    cache = Cache(tmp_path / "cache", 10**9)
    list(train(configure(frozen_layers=LAYERS), device=CPU, cache=cache, demand={LAYERS: MUCH}))
    stored = {file: file.stat().st_ino for file in (tmp_path / "cache").glob("features/*.tensor")}
    lora = configure(method="lora", lora_layers=1)
    reading = list(train(lora, device=CPU, cache=cache, demand={LAYERS: MUCH}))
    reuse = prepared(reading).reuse
    assert stored and reuse is not None and (reuse.depth, reuse.validation_depth, reuse.place) == (LAYERS, LAYERS, "disk")
    assert {file: file.stat().st_ino for file in (tmp_path / "cache").glob("features/*.tensor")} == stored, "nothing was stored again"
    computing = list(train(lora, device=CPU, cache=Cache.none(), share=False))
    assert [pytest.approx(one, rel=1e-4, abs=1e-4) for one in metrics(computing).values()] == list(metrics(reading).values())


@pytest.mark.parametrize("method", ["lora", "dora", "bitfit", "adapter", "prompt"])
def test_a_run_that_is_stopped_and_resumed_equals_the_uninterrupted_one_bit_for_bit(
    configure: Configure, model_folder: Folder, tmp_path: Path, method: str
) -> None:
    config = configure(method=method, prompt_tokens=3, adapter_size=4)
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
    base = build(model_folder("bert"), 2).network.state_dict()
    added = tensors.keys() - base.keys()
    assert base.keys() <= tensors.keys()
    assert bool(added) is (method in ("adapter", "prompt")), "low-rank updates are in the weights"
    state = torch.load(saved.path, weights_only=True)["model"]
    assert sum(tensor.numel() for tensor in state.values() if tensor.is_floating_point()) == prepared(whole).trainable


def test_a_prompt_and_the_longest_text_share_the_positions(configure: Configure) -> None:
    """The model has 40."""
    assert metrics(list(train(configure(method="prompt", prompt_tokens=24, epochs=1), device=CPU)))
    with pytest.raises(Infeasible, match="the model has 24 positions left for a prompt"):
        prepare(configure(method="prompt", prompt_tokens=25), CPU, Expected(), Cache.none())
