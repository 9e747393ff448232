"""A model named by its hub name shares work between trials as its local folder does."""

import shutil
import socket
from pathlib import Path
from typing import Any

import pytest
import torch

from service import operations
from service.domain.parsing import parse_study
from service.store import Store
from tests.narrowed import trained
from tests.operations.driving import searches_of
from tests.trainer.text.conftest import needed, write_bert
from trainer.cache import Cache
from trainer.configuration import TrainConfig
from trainer.heads import fits
from trainer.host import Host
from trainer.protocol import BatchedRuns, Check, Checked, Finished, Run, RunPrepared, Unavailable
from trainer.tasks.capabilities import ModelCard
from trainer.tasks.registry import spec_of

HOST, COMMIT, GIGABYTE = torch.device("cpu"), "0123456789abcdef0123456789abcdef01234567", 10**9
HEAD = {"frozen_layers": "all"}


class Worker:
    """Collects the messages of a host, and cancels nothing."""

    def __init__(self) -> None:
        self.found = list[Any]()

    def hold(self, line: Any) -> None:
        self.found.append(line)

    def send(self, *lines: Any) -> None:
        self.found.extend(lines)

    def cancels(self) -> list[Any]:
        return []


@pytest.fixture
def names(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[str, str]:
    """A folder, and the hub name of the same model, which is in the hub's cache; the hub cannot be reached."""
    constants = needed("huggingface_hub.constants")
    folder, repository = write_bert(tmp_path / "bert"), tmp_path / "hub" / "models--owner--tiny"
    shutil.copytree(folder, repository / "snapshots" / COMMIT)
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text(COMMIT)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    with socket.create_server(("127.0.0.1", 0)) as server:
        monkeypatch.setattr(constants, "ENDPOINT", f"http://127.0.0.1:{server.getsockname()[1]}")
    return str(folder), "owner/tiny"


@pytest.mark.parametrize(
    ("fixed", "together", "demand"),
    [(HEAD, True, {3: 6.0}), ({"method": "lora", "lora_layers": 1}, False, {2: 6.0})],
    ids=["heads", "lora"],
)
def test_trials_of_a_hub_name_share_what_those_of_its_folder_share(
    embedded_store: Store, names: tuple[str, str], tmp_path: Path, fixed: dict[str, Any], together: bool, demand: dict[int, float]
) -> None:
    table = tmp_path / "texts.csv"
    table.write_text("text,label\n" + "".join(f"w{4 + place % 50} w{4 + place // 50},{'ab'[place % 2]}\n" for place in range(120)))
    for name in names:
        worker = Worker()
        host = Host(HOST, Cache(tmp_path / f"cache of {Path(name).name}", GIGABYTE), worker, worker)  # type: ignore[arg-type]
        document = {
            "name": Path(name).name, "task": "text_classification", "data": {"path": str(table), "near_duplicates": False},
            "model": {"name": name}, "search_space": {"lr": {"type": "float", "low": 1e-4, "high": 1e-2}},
            "fixed": {"epochs": 2, "batch_size": 16, "max_length": 8, **fixed},
            "objective": {"metric": "accuracy", "direction": "maximize"}, "budget": {"trials": 3},
        }  # fmt: skip
        study = operations.create_study(embedded_store, parse_study(document))
        host.perform(Check(config=trained(study.spec.check_config())))
        (checked,) = worker.found
        assert isinstance(checked, Checked), checked
        operations.pass_check(embedded_store, study.id, checked.facts)
        claims = operations.claim_together(embedded_store, searches_of(), "w", GIGABYTE)
        lanes = 3 if together else 1
        assert len(claims) == lanes and claims[0].demand == demand, name
        runs = [
            Run(config=trained(claim.spec.config_for(claim.params, claim.lease.number)), expected=claim.facts, demand=claim.demand)
            for claim in claims
        ]
        host.perform(BatchedRuns(runs=tuple(runs)))
        reuse = [line.reuse for line in worker.found if isinstance(line, RunPrepared)]
        assert [one and one.lanes for one in reuse] == [lanes] * lanes, name
        assert sum(isinstance(line, Finished) for line in worker.found) == lanes, name
        assert fits(trained(runs[0].config), checked.facts) is together, name
        card = spec_of("text_classification")
        assert isinstance(card, ModelCard) and "from_pretrained" in card.card_data(trained(runs[0].config), checked.facts).loading


def test_without_the_network_the_check_fails_with_a_remedy(names: tuple[str, str], tmp_path: Path) -> None:
    (tmp_path / "texts.csv").write_text("text,label\n" + "".join(f"w4 w{place},{'ab'[place % 2]}\n" for place in range(5, 45)))
    worker = Worker()
    host = Host(HOST, Cache.none(), worker, worker)  # type: ignore[arg-type]
    document = {"task": "text_classification", "data": {"path": str(tmp_path / "texts.csv")}, "model": {"name": "owner/absent"}}
    host.perform(Check(config=TrainConfig.of_task("text_classification").model_validate(document)))
    (answer,) = worker.found
    assert isinstance(answer, Unavailable) and answer.what == "weights"
    assert answer.detail.startswith("the model owner/absent could not be downloaded") and "give its folder as model.name" in answer.detail
