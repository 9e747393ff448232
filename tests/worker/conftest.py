"""The toy trainer as a command, and configs that make it behave or misbehave."""

import importlib.util
import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from service.worker.process import TrainerProcess
from trainer.contract import DataConfig, ModelConfig, Run, TrainConfig

TOY = Path(__file__).parent / "toy_trainer.py"


def _lr_of() -> Callable[[str], float]:
    spec = importlib.util.spec_from_file_location("toy_trainer", TOY)
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    found: Callable[[str], float] = module.lr_of
    return found


@pytest.fixture(scope="session")
def lr_of() -> Callable[[str], float]:
    """The learning rate that makes the toy behave in a way."""
    return _lr_of()


@pytest.fixture(scope="session")
def toy_command() -> tuple[str, ...]:
    return (sys.executable, str(TOY))


@pytest.fixture
def start(toy_command: tuple[str, ...]) -> Iterator[Callable[..., TrainerProcess]]:
    """Starts toys, and sees that none outlives the test."""
    started: list[TrainerProcess] = []

    def one(*options: str) -> TrainerProcess:
        started.append(TrainerProcess((*toy_command, *options), os.environ))
        return started[-1]

    yield one
    for process in started:
        process.close(0)


@pytest.fixture
def order(lr_of: Callable[[str], float], tmp_path: Path) -> Callable[..., Run]:
    def one(behaviour: str, epochs: int = 3) -> Run:
        config = TrainConfig(data=DataConfig(path="/data"), model=ModelConfig(name="toy"), lr=lr_of(behaviour), epochs=epochs)
        return Run(config=config, checkpoint_folder=str(tmp_path / "checkpoints"))

    return one
