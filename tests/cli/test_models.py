"""`thaw models inspect` describes a folder without a server, without torch and without loading weights."""

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.trainer.backbones.conftest import LAYERS, VOCABULARY, bert_folder

Thaw = Callable[..., Any]
__all__ = ["bert_folder"]


def test_a_model_is_described(thaw: Thaw, bert_folder: Callable[..., Path]) -> None:
    said = thaw("models", "inspect", bert_folder())
    assert (said.code, said.err) == (0, "")
    lines = [line.split() for line in said.out.splitlines()]
    assert ["type", "bert"] in lines and ["longest", "text", "40", "tokens"] in lines
    assert ["2", "layer", "0", "128"] in lines and ["all", "2,208"] in lines


def test_the_description_as_json(thaw: Thaw, bert_folder: Callable[..., Path]) -> None:
    said = thaw("models", "inspect", bert_folder(), "--json")
    found = json.loads(said.out)
    assert (said.code, found["type"], found["vocabulary"], found["faults"]) == (0, "bert", VOCABULARY, [])
    assert [stage["name"] for stage in found["stages"]] == ["embeddings", *(f"layer {place}" for place in range(LAYERS))]
    assert len(found["sha256"]) == 64


def test_a_fault_is_invalid_input(thaw: Thaw, bert_folder: Callable[..., Path]) -> None:
    folder = bert_folder(auto_map={"AutoModel": "modeling.Own"})
    said = thaw("models", "inspect", folder)
    assert (said.code, said.out) == (2, "")
    assert said.err.startswith(f"{folder}: its config.json names code")
    said = thaw("models", "inspect", folder, "--json")
    assert said.code == 2
    assert [fault["code"] for fault in json.loads(said.out)["faults"]] == ["remote_code"]


def test_no_slow_import_is_needed(bert_folder: Callable[..., Path]) -> None:
    code = (
        "import sys; from service.cli.models import inspect_model; from pathlib import Path; "
        f"inspect_model(Path({str(bert_folder())!r}), False); "
        "print(sorted({'torch', 'transformers', 'sqlalchemy', 'fastapi'} & sys.modules.keys()))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout.splitlines()[-1] == "[]"
