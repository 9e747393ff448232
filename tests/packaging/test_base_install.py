"""The base install, in an environment of its own: it imports and serves without torch, and its Python package works."""

import json
import os
import shutil
import subprocess
import sys
import urllib.request
import venv
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.api import page
from tests.serving import served

ROOT = Path(__file__).resolve().parents[2]
FORBIDDEN = ("torch", "torchvision", "torchmetrics", "safetensors", "sklearn", "PIL")


@pytest.fixture(scope="module")
def clean_python(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An interpreter that sees the base install of this checkout and nothing else."""
    place = tmp_path_factory.mktemp("base")
    venv.create(place / "venv", with_pip=True)
    python = place / "venv" / "bin" / "python"
    source = place / "source"  # building a package leaves files behind, which the next build would take in
    shutil.copytree(ROOT, source, ignore=shutil.ignore_patterns(".*", "build", "*.egg-info", "__pycache__", "tests", "docs"))
    install = ["-m", "pip", "install", "--quiet", "--disable-pip-version-check", "-c", str(source / "constraints.txt"), str(source)]
    subprocess.run([python, *install], check=True, timeout=3000, cwd=place)
    return python


def test_torch_is_not_installed(clean_python: Path) -> None:
    code = f"import importlib.util, json; print(json.dumps([name for name in {FORBIDDEN!r} if importlib.util.find_spec(name)]))"
    assert json.loads(subprocess.check_output([clean_python, "-c", code], cwd=clean_python.parent, timeout=300)) == []


@pytest.fixture
def server(clean_python: Path, tmp_path: Path) -> Iterator[str]:
    with served(clean_python.parent / "thaw", tmp_path / "thaw", workers=0) as address:
        yield address


def test_it_serves_studies_models_and_the_page(server: str) -> None:
    for path in ("/livez", "/readyz", "/api/v1/studies", "/api/v1/models/resnet18", "/api/v1/search-spaces", "/"):
        with urllib.request.urlopen(server + path, timeout=60) as answer:  # noqa: S310
            assert answer.status == 200, path


def test_the_doctor_finds_a_server_sound(clean_python: Path, tmp_path: Path) -> None:
    environment = {**os.environ, "THAW_HOME": str(tmp_path), "CUDA_VISIBLE_DEVICES": ""}
    command: list[str | Path] = [clean_python.parent / "thaw", "doctor"]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=300, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "not installed: this installation runs servers" in done.stdout


def test_training_without_torch_says_what_to_install(clean_python: Path, tmp_path: Path) -> None:
    exported = ROOT / "tests/goldens/releases/schema-0010/best.yaml"
    command: list[str | Path] = [clean_python.parent / "thaw", "train", str(exported)]
    done = subprocess.run(
        command, capture_output=True, text=True, env={**os.environ, "THAW_HOME": str(tmp_path)}, timeout=300, cwd=tmp_path
    )
    assert done.returncode != 0
    assert "thawline[trainer]" in done.stdout + done.stderr


def test_the_python_package_is_typed_and_loads_no_heavy_package(clean_python: Path, tmp_path: Path) -> None:
    heavy = ("sqlalchemy", "alembic", "optuna", "fastapi", "starlette", "plotly", "scipy", "numpy", "typer", "rich")
    code = f"import json, sys, thawline; print(json.dumps([thawline.__file__, [name for name in {heavy!r} if name in sys.modules]]))"
    file, loaded = json.loads(subprocess.check_output([clean_python, "-c", code], cwd=tmp_path, timeout=300))
    packages = Path(file).parents[1]
    assert packages.is_relative_to(clean_python.parents[1]) and loaded == []
    assert all((packages / name / "py.typed").is_file() for name in ("thawline", "service", "trainer", "search_spaces"))


def test_the_lines_of_the_python_page_run_as_written(clean_python: Path, demo_data: Path, tmp_path: Path) -> None:
    """But for the lines that need pandas, which the base install lacks. Server and worker run in the environment of the tests."""
    blocks = [block for block in page.blocks() if "to_dataframe" not in block]
    assert len(blocks) == len(page.blocks()) - 1
    with served(Path(sys.executable).parent / "thaw", tmp_path / "thaw", workers=1) as address:
        printed = page.run(clean_python, blocks, demo_data, address)
    assert "<Study digits: complete, " in printed and "figure of scatter" in printed and "#/model" in printed, printed
