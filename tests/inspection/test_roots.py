"""THAW_DATA_ROOTS: data and weights lie in one of these folders, with links followed, or are refused."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from starlette.testclient import TestClient

from service.domain.errors import InvalidInput
from service.domain.parsing import parse_study
from service.inspection import inspect_study
from service.settings import Settings
from service.store import Store
from service.web.app import create_app
from tests.web.laboratory import HERE

Tree = Callable[..., Path]


@pytest.fixture
def tree(tmp_path: Path) -> Tree:
    """Makes a folder of two classes with so many images each."""

    def make(name: str, images: int = 10) -> Path:
        for label in ("cat", "dog"):
            (tmp_path / name / label).mkdir(parents=True)
            for index in range(images):
                Image.new("RGB", (8, 8), (index, 0, 0)).save(tmp_path / name / label / f"{index}.png")
        return tmp_path / name

    return make


def study(path: Path, weights: Path | None = None) -> dict[str, Any]:
    return {
        "name": "pets",
        "data": {"path": str(path), "validation": 0.2},
        "model": {"name": "squeezenet1_1", "weights": str(weights) if weights else "DEFAULT"},
        "search_space": {"lr": {"type": "float", "low": 0.1, "high": 1.0}},
        "fixed": {"image_size": 64, "batch_size": 4},
        "objective": {"metric": "accuracy", "direction": "maximize"},
        "budget": {"trials": 1},
    }


def faults(document: dict[str, Any], *roots: Path) -> list[tuple[str, str, str]]:
    try:
        inspect_study(parse_study(document), roots)
    except InvalidInput as error:
        return [(fault.pointer, fault.code, fault.message) for fault in error.faults]
    return []


def codes(document: dict[str, Any], *roots: Path) -> set[tuple[str, str]]:
    return {(pointer, code) for pointer, code, _ in faults(document, *roots)}


DATA, WEIGHTS = ("#/data/path", "outside_data_roots"), ("#/model/weights", "outside_data_roots")


def test_data_in_a_root_is_read_and_other_data_is_not(tree: Tree, tmp_path: Path) -> None:
    inside, beside = tree("roots/pets"), tree("roots-of-others")
    root = tmp_path / "roots"
    assert codes(study(inside), root) == codes(study(inside), tmp_path / "none", root) == set()
    assert codes(study(beside)) == set()
    for path in (beside, root / ".." / "roots-of-others", tmp_path, Path("/"), Path("/etc/passwd"), Path("/proc/self/environ")):
        assert codes(study(path), root) == {DATA}, path
    [(_, _, message)] = faults(study(beside), root)
    assert str(root) in message and str(beside) not in message
    assert faults(study(tmp_path / "no such folder"), root) == faults(study(beside), root)  # whether it exists is not told


def test_a_link_leads_out_of_no_root(tree: Tree, tmp_path: Path) -> None:
    inside, secret = tree("roots/pets"), tree("secret")
    root = tmp_path / "roots"
    (root / "link").symlink_to(secret)
    assert codes(study(root / "link"), root) == {DATA}
    (inside / "cat" / "more").symlink_to(secret / "cat")
    assert codes(study(inside)) == set()
    assert codes(study(inside), root) == {DATA}
    (root / "loop").symlink_to(root / "loop")
    assert codes(study(root / "loop"), root) == {DATA}


def test_a_root_may_be_a_link(tree: Tree, tmp_path: Path) -> None:
    tree("disk/pets")
    (tmp_path / "data").symlink_to(tmp_path / "disk")
    assert codes(study(tmp_path / "data" / "pets"), tmp_path / "data") == set()


def test_a_table_names_no_file_outside(tree: Tree, tmp_path: Path) -> None:
    inside, secret = tree("roots/pets"), tree("secret")
    rows = [f"{folder / label / f'{index}.png'},{label}" for folder in (inside, secret) for label in ("cat", "dog") for index in range(10)]
    table = tmp_path / "roots" / "pets.csv"
    table.write_text("\n".join(["path,label", *rows]))
    assert codes(study(table)) == set()
    assert codes(study(table), tmp_path / "roots") == {DATA}


def test_weights_lie_in_a_root(tree: Tree, tmp_path: Path) -> None:
    inside = tree("roots/pets")
    for weights in (tmp_path / "weights.safetensors", Path("/etc/hostname.pt"), Path("/dev/zero.pt")):
        assert codes(study(inside, weights), tmp_path / "roots") == {WEIGHTS}
    assert WEIGHTS not in codes(study(inside, tmp_path / "roots" / "w.safetensors"), tmp_path / "roots")


def test_without_roots_no_name_of_a_folder_is_told_that_holds_no_image(tree: Tree, tmp_path: Path) -> None:
    """A13: `data.path` may be anybody's home. Inside a root names are told, for whoever set it chose what is read."""
    home = tmp_path / "home"
    for name in ("divorce-papers", "salary-2026"):
        (home / name).mkdir(parents=True)
    (home / "salary-2026" / "list.txt").write_text("bob: 1")
    said = str(faults(study(home)))
    assert "divorce" not in said and "salary" not in said and faults(study(home))
    table = home / "staff.csv"
    table.write_text("path,label\na.txt,alice: HIV positive\nb.txt,bob: fired\n")
    said = str(faults(study(table)))
    assert "alice" not in said and "bob" not in said and faults(study(table))


def test_the_server_refuses_it_at_every_door(store: Store, tree: Tree, tmp_path: Path) -> None:
    inside, beside = tree("roots/pets"), tree("beside")
    client = TestClient(create_app(store, Settings(home=tmp_path, data_roots=(tmp_path / "roots",))), base_url=HERE)
    refused = client.post("/api/v1/studies", json=study(beside))
    assert refused.status_code == 422 and refused.json()["errors"][0]["code"] == "outside_data_roots"
    assert [fault["code"] for fault in client.post("/api/v1/study-check", json=study(beside)).json()["faults"]] == ["outside_data_roots"]
    assert client.post("/api/v1/study-check", json=study(inside)).json()["faults"] == []
    assert client.post("/api/v1/studies", json=study(inside)).status_code == 201
