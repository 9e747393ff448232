"""`python -m trainer [--device cpu|cuda:0] [--threads N] [--cpus LIST] [--cache FOLDER]`: the trainer process, see `trainer.host`."""

import argparse
import logging
import os
import time
from fractions import Fraction
from pathlib import Path
from typing import get_args

import torch

from trainer.cache import Cache
from trainer.graphs import GraphMode
from trainer.host import IDLE_SECONDS, HostOptions, serve


def main() -> None:
    """Set device, threads and cache from the command line, then serve."""
    parser = argparse.ArgumentParser(
        prog="python -m trainer", description="Read orders from standard input and write messages to standard output, both as JSON lines."
    )
    usual = "cuda:0" if torch.cuda.is_available() else "cpu"
    parser.add_argument("--device", type=torch.device, default=usual, help="device to train on, such as cpu or cuda:0")
    parser.add_argument("--threads", type=int, help="number of PyTorch threads on the CPU")
    parser.add_argument("--cpus", type=_numbers, help="CPUs to run on, such as those of the device's NUMA node: 0,1,2; default: all")
    parser.add_argument("--cache", type=Path, help="folder for decoded examples and stored outputs, shared by all trainers; default: none")
    parser.add_argument("--cache-bytes", type=int, default=20 * 10**9, help="maximum size of the cache folder; 0 turns the cache off")
    parser.add_argument(
        "--disk-floor-bytes", type=int, default=0, help="write no checkpoint and cache nothing when less disk space is free"
    )
    parser.add_argument(
        "--device-share",
        type=_share,
        default=1.0,
        help="share of the GPU's memory that this process may fill with caches, such as 1/2",
    )
    parser.add_argument(
        "--idle-release-seconds", type=float, default=IDLE_SECONDS, help="seconds without an order until caches on the GPU are dropped"
    )
    parser.add_argument(
        "--step-graphs",
        choices=get_args(GraphMode),
        default="off",
        help="perform training steps on a GPU by CUDA graphs; auto: where a measurement finds them faster",
    )
    parser.add_argument(
        "--report-examples", type=int, default=0, help="most wrong examples whose text or picture is in a report; default: none"
    )
    given = parser.parse_args()
    if given.cpus and hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, given.cpus)  # before the first parallel operation, because threads inherit it
    if given.threads is not None:
        torch.set_num_threads(given.threads)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s", datefmt="%Y-%m-%dT%H:%M:%SZ")
    logging.Formatter.converter = time.gmtime
    logging.captureWarnings(True)
    options = HostOptions(
        share=given.device_share,
        idle_seconds=given.idle_release_seconds,
        step_graphs=given.step_graphs,
        report_examples=given.report_examples,
    )
    serve(given.device, Cache(given.cache, given.cache_bytes, given.disk_floor_bytes), given.disk_floor_bytes, options)


def _share(text: str) -> float:
    share = float(Fraction(text))
    if not 0 < share <= 1:
        raise ValueError
    return share


def _numbers(text: str) -> set[int]:
    return {int(number) for number in text.split(",")}


if __name__ == "__main__":
    main()
