"""`python -m bench.banking`: searches how to fine-tune a BERT on banking77, confirms the winner on the test file, and trains it again.

Full fine-tuning and LoRA are in one space, as in the preset `text_classification`; both in the last one to four of seven stages, so that
the output of the others is stored and 24 trials take less than an hour on two cores. The study goes through server, worker and store in a
new home. The exported configuration is trained again by `thaw train`, which must reach the same metrics.
"""

import argparse
import csv
import json
import os
import random
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import httpx2

from bench.replay.served import finished, server
from bench.replay.watching import Watch
from bench.tables import machine, megabytes, record, table

SHARED = (Path(__file__).resolve().parents[1] / "../shared/data").resolve()
HEAD_ALONE = 0.929  # accuracy on the test file of a logistic regression on the mean of MiniLM's outputs: data/README.md
NAME = "banking77"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--trials", type=int, default=24)
    parser.add_argument("--epochs", type=int, default=5)
    parser.add_argument("--seeds", type=int, default=3, help="runs of each compared configuration")
    parser.add_argument("--rows", type=int, help="training rows in place of all, to try things out")
    parser.add_argument("--record", action="store_true", help="append to RESULTS.md")
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        body = studied(Path(folder), asked)
    title = f"A study of banking77, {asked.trials} trials of {asked.epochs} epochs, full and LoRA, confirmed: {machine()}"
    print(f"\n## {title}\n\n{body}\n", flush=True)
    if asked.record:
        record(title, body)


def studied(folder: Path, asked: argparse.Namespace) -> str:
    """The table of the study, its confirmation and the model that was trained again."""
    started = time.perf_counter()
    with server(folder / "home") as (process, address), Watch(process, every_seconds=2.0) as watch:
        with httpx2.Client(base_url=f"{address}/api/v1/", timeout=60, trust_env=False) as http:
            trials = finished(http, _document(_train_file(folder, asked.rows), asked))
            verdict = http.get(f"studies/{NAME}/confirmation").json()["verdict"]
        seconds = time.perf_counter() - started
        _thaw(folder, address, "best", NAME, "-o", str(folder / "best.yaml"))
    _thaw(folder, address, "train", str(folder / "best.yaml"), "--out", str(folder / "model"))
    again = json.loads((folder / "model" / "result.json").read_text())
    states = Counter(f"{trial['state']} {trial['params'].get('method', 'head alone')}" for trial in trials)
    expected = verdict["expected"]
    rows: list[list[object]] = [
        ["trials", ", ".join(f"{count} {state}" for state, count in sorted(states.items()))],
        ["wall time", f"{seconds:,.0f} s"],
        ["peak memory", megabytes(watch.peak_bytes)],
        ["recommended", json.dumps(next(arm["params"] for arm in verdict["arms"] if arm["trial"] == verdict["recommended"]))],
        ["confirmed accuracy", f"{expected['value']:.4f} ({expected['low']:.4f} to {expected['high']:.4f})"],
        ["the head alone, by logistic regression", HEAD_ALONE],
        ["trained again from the export", f"{again['reached']!r}, in the trial {again['expected']!r}"],
        ["its accuracy on the test file", again["test"]["metrics"]["accuracy"]],
    ]
    return "\n\n".join([table(["", ""], rows), *verdict["words"]])


def _train_file(folder: Path, rows: int | None) -> Path:
    """The training file, or some rows of it."""
    source = SHARED / "text/banking77/train.csv"
    if rows is None:
        return source
    with source.open(newline="", encoding="utf-8") as file:
        head, *found = csv.reader(file)
    random.Random(0).shuffle(found)
    with (folder / "train.csv").open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([head, *found[:rows]])
    return folder / "train.csv"


def _document(train: Path, asked: argparse.Namespace) -> Mapping[str, Any]:
    return {
        "name": NAME,
        "task": "text_classification",
        "data": {"path": str(train), "validation": 0.1, "test": str(SHARED / "text/banking77/test.csv")},
        "model": {"name": str(SHARED / "weights/minilm-l6-v2")},
        "search_space": {
            "method": {"type": "categorical", "choices": ["full", "lora"]},
            "lr": {"type": "float", "low": 1e-4, "high": 2e-3, "log": True},
            "frozen_layers": {"type": "int", "low": 3, "high": 6, "when": {"method": ["full"]}},
            "lora_layers": {"type": "categorical", "choices": [2, 3, 4], "when": {"method": ["lora"]}},
            "lora_r": {"type": "categorical", "choices": [8, 16], "when": {"method": ["lora"]}},
            "warmup_fraction": {"type": "categorical", "choices": [0.06, 0.1]},
        },
        "fixed": {
            "epochs": asked.epochs, "batch_size": 32, "max_length": 64, "pooling": "mean", "optimizer": "adamw", "schedule": "cosine",
            "weight_decay": 0.01, "dropout": 0.1,
        },
        "baseline": {"method": "full", "frozen_layers": 6, "lr": 1e-3, "warmup_fraction": 0.06},
        "objective": {"metric": "accuracy", "direction": "maximize"},
        "sampler": {"name": "tpe", "seed": 0},
        "pruner": {"name": "asha", "min_steps": 1, "reduction_factor": 3},
        "budget": {"trials": asked.trials},
        "confirm": {"top": 1, "seeds": asked.seeds},
    }  # fmt: skip


def _thaw(folder: Path, address: str, *arguments: str) -> None:
    environment = os.environ | {"THAW_SERVER": address, "THAW_HOME": str(folder / "home")}
    subprocess.run([sys.executable, "-m", "service.cli", *arguments], env=environment, check=True, stdout=subprocess.DEVNULL)


if __name__ == "__main__":
    main()
