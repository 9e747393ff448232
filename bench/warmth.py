"""Measures the effect of a long-lived trainer process and of the cache, by switching them off one after the other.

    python -m bench.warmth [--record] [--data digits|signs] [--trials 4] [--rounds 3]

The same short trials of two epochs, which train the head alone and the whole network in turn, run on trainer processes as a worker
starts them:

- "warm": one process for all trials, with the cache on disk, as in the service;
- "a process a trial": interpreter, torch and the model's code are loaded again for each trial; the cache is used;
- "a process a trial, nothing kept": the same without the cache, so that every trial decodes the images and computes the frozen stages.

The table lists trials of the head alone separately, because they read stored outputs of the frozen stages and no pixels. Each round
starts with an empty cache, and the time to fill it is included.
"""

import argparse
import os
import shutil
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from bench.replay.workloads import Workload, digits, signs
from bench.tables import machine, record, spread, table
from service.settings import Settings
from service.worker.devices import Slot
from service.worker.process import TrainerProcess
from trainer.protocol import Failed, Finished, Run, RunPrepared
from trainer.tasks.image_classification.config import ImageClassificationConfig

WAYS = ("warm", "a process a trial", "a process a trial, nothing kept")
EPOCHS = 2


def configs(workload: Workload, trials: int) -> list[ImageClassificationConfig]:
    """Trials of two epochs; even ones train the head alone, odd ones the whole network."""
    shared = {"data": workload.data, "model": workload.model, "image_size": workload.image_size, "epochs": EPOCHS}
    return [ImageClassificationConfig(**shared, seed=number, frozen_layers=workload.stages * (1 - number % 2)) for number in range(trials)]


def seconds_of(way: str, settings: Settings, runs: Sequence[ImageClassificationConfig]) -> tuple[list[float], list[str]]:
    """Seconds per trial, including the start of its process, and the origin of its pixels."""
    slot = Slot(0, None, os.cpu_count() or 1)
    took, origins = [], []
    process: TrainerProcess | None = None
    for config in runs:
        began = time.perf_counter()
        if process is None or way != "warm":
            if process is not None:
                process.close(grace_seconds=5)
            process = TrainerProcess(slot.command(settings), slot.environment(os.environ))
        origins.append(_train(process, config))
        took.append(time.perf_counter() - began)
    if process is not None:
        process.close(grace_seconds=5)
    return took, origins


def _train(process: TrainerProcess, config: ImageClassificationConfig) -> str:
    """Train, and return the origin of the pixels."""
    while not process.ready:
        process.read(0.2)
    process.send(Run(config=config))
    origin, finished = "", False
    while not process.ready:
        match process.read(0.2):
            case RunPrepared(reuse=reuse) if reuse is not None:
                origin = reuse.pixels
            case Finished():
                finished = True
            case Failed() as failed:
                raise RuntimeError(failed.detail)
            case _:
                pass
    assert finished
    return origin


def main() -> None:
    """Run all variants in each round."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--record", action="store_true", help="append the table to bench/RESULTS.md")
    parser.add_argument("--data", choices=("digits", "signs"), default="signs")
    parser.add_argument("--trials", type=int, default=4)
    parser.add_argument("--rounds", type=int, default=3)
    given = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="thaw-warmth-"))
    try:
        workload = signs() if given.data == "signs" else digits(folder / "digits")
        runs = configs(workload, given.trials)
        took: dict[str, list[list[float]]] = {way: [] for way in WAYS}
        seen: dict[str, list[str]] = {}
        for number in range(given.rounds):
            for way in WAYS:
                home = folder / f"{number}-{WAYS.index(way)}"
                settings = Settings(home=home, cache_bytes=0 if way == WAYS[2] else 20_000_000_000)
                seconds, seen[way] = seconds_of(way, settings, runs)
                took[way].append(seconds)
                print(f"{way}: {', '.join(f'{one:.2f}' for one in seconds)} s; pixels {', '.join(seen[way])}", flush=True)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    body = _body(took, seen, given.trials)
    print(body)
    if given.record:
        record(f"Warmth: {workload.title}: {machine()}", body)


def _body(took: dict[str, list[list[float]]], seen: dict[str, list[str]], trials: int) -> str:
    later = range(1, trials)  # the first trial of a round starts the process and fills the cache
    heads, wholes = [one for one in later if one % 2 == 0], [one for one in later if one % 2]
    rows = []
    for way in WAYS:
        totals = [sum(seconds) for seconds in took[way]]
        ratios = [sum(mine) / sum(warm) for mine, warm in zip(took[way], took["warm"], strict=True)]
        apart = [[seconds[one] for seconds in took[way] for one in places] for places in (heads, wholes)]
        rows.append((way, len(totals), spread(totals), spread(ratios), *(spread(one) for one in apart), seen[way][-1]))
    head = (
        "way", "n", f"s for {trials} trials", "of the warm way", "s a later trial, head alone", "s a later trial, all trained", "pixels",
    )  # fmt: skip
    return f"Two epochs a trial. `python -m bench.warmth`.\n\n{table(head, rows)}"


if __name__ == "__main__":
    main()
