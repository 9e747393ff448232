"""The toy trainer as a command, and configs that make it behave or misbehave."""

import importlib.util
import os
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from service import operations
from service.domain.parsing import parse_study
from service.domain.records import Study, Trial
from service.settings import Settings
from service.store import Store, open_store, queries
from service.store.migrate import upgrade
from service.worker.context import Timeouts
from service.worker.devices import SlotLayout, lay_out
from service.worker.process import TrainerProcess
from service.worker.supervisor import Supervisor
from tests.worker.fragile import Fragile
from trainer.protocol import Run
from trainer.tasks.image_classification.config import ImageClassificationConfig
from trainer.tasks.images.config import ImageData, ImageModel

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
        config = ImageClassificationConfig(data=ImageData(path="/data"), model=ImageModel(name="toy"), lr=lr_of(behaviour), epochs=epochs)
        return Run(config=config, checkpoint_folder=str(tmp_path / "checkpoints"))

    return one


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(home=tmp_path / "home", heartbeat_seconds=0.2, lease_seconds=2.0)


@pytest.fixture
def store(settings: Settings) -> Iterator[Store]:
    opened = open_store(settings.database_url)
    upgrade(settings.database_url)
    yield opened
    opened.close()


@pytest.fixture
def fragile(store: Store) -> Fragile:
    """The same store, with a cable that can be pulled."""
    return Fragile(store)


@pytest.fixture
def make_study(store: Store, lr_of: Callable[[str], float]) -> Callable[..., Study]:
    """A study whose trials are those behaviours of the toy, in order; it ends with the last one."""

    def one(*behaviours: str, **document: Any) -> Study:
        budget = {"trials": len(behaviours)} | document.pop("budget", {})
        fixed = {"epochs": 3, "image_size": 32} | document.pop("fixed", {})
        whole = {
            "name": "-".join(behaviours), "data": {"path": "/data"}, "model": {"name": "squeezenet1_1"}, "fixed": fixed,
            "search_space": {"lr": {"type": "float", "low": 1e-4, "high": 1.0}},
            "objective": {"metric": "accuracy", "direction": "maximize"}, "sampler": {"name": "random"}, "budget": budget, **document,
        }  # fmt: skip
        study = operations.create_study(store, parse_study(whole))
        for behaviour in behaviours:
            operations.queue_trial(store, study.id, {"lr": lr_of(behaviour)})
        return study

    return one


SHORT = Timeouts(start=60, prepare=20, stall=6, grace=5)  # a busy machine stops a process for seconds


class Shop:
    """A worker with toy trainers in a thread, and the study as it stands."""

    def __init__(self, store: Store, settings: Settings, command: tuple[str, ...], patience: Timeouts, layout: SlotLayout) -> None:
        self.store = store
        self.worker = Supervisor(store, settings, layout, command, patience)
        self._thread = threading.Thread(target=self.worker.run, daemon=True)
        self._thread.start()

    def close(self) -> None:
        self.worker.leave()
        self._thread.join(120)
        assert not self._thread.is_alive()

    def has_ended(self) -> bool:
        """Whether the worker has gone by itself."""
        return not self._thread.is_alive()

    def study(self, study: Study) -> Study:
        return self.store.read(queries.find_study, study.id)

    def trial(self, study: Study, number: int = 0) -> Trial:
        return self.store.read(queries.find_trial, study.id, number)

    def trials_at_end(self, study: Study) -> list[Trial]:
        """The trials once the study has ended."""
        until(lambda: self.study(study).state.terminal)
        return self.store.read(queries.trials, study.id)


@pytest.fixture(name="until")
def _until() -> Callable[..., None]:
    return until


def until(holds: Callable[[], bool], seconds: float = 180) -> None:
    """Wait for it."""
    deadline = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < deadline, "it did not come about in time"
        time.sleep(0.02)


@pytest.fixture
def shop(store: Store, settings: Settings, toy_command: tuple[str, ...]) -> Iterator[Callable[..., Shop]]:
    """Opens a worker with toys; it leaves at the end of the test."""
    opened: list[Shop] = []

    def one(
        *options: str,
        patience: Timeouts = SHORT,
        slots: int = 1,
        on: Store = store,
        lease_seconds: float = 6.0,
        layout: SlotLayout | None = None,
    ) -> Shop:
        own = settings.model_copy(update={"lease_seconds": lease_seconds})
        opened.append(Shop(on, own, (*toy_command, *options), patience, layout or SlotLayout(lay_out((), 1, slots))))
        return opened[-1]

    yield one
    for each in opened:
        each.close()
