"""`python -m trainer [--device cpu|cuda:0] [--threads N] [--cache FOLDER] [--cache-bytes N]`: the warm process of `trainer.host`."""

import argparse
import logging
import time
from pathlib import Path

import torch

from trainer.cache import Cache
from trainer.host import serve


def main() -> None:
    """Settle device, threads and cache, then serve."""
    parser = argparse.ArgumentParser(prog="python -m trainer", description="Speaks the JSON lines of trainer.protocol.")
    usual = "cuda:0" if torch.cuda.is_available() else "cpu"
    parser.add_argument("--device", type=torch.device, default=usual, help="such as cpu or cuda:0")
    parser.add_argument("--threads", type=int, help="of PyTorch on the CPU")
    parser.add_argument("--cache", type=Path, help="folder of decoded examples and stored outputs that all trainers share; none by default")
    parser.add_argument("--cache-bytes", type=int, default=20 * 10**9, help="that the folder may hold; 0 turns the cache off")
    parser.add_argument("--disk-floor-bytes", type=int, default=0, help="with less free, no checkpoint is written and nothing is cached")
    given = parser.parse_args()
    if given.threads is not None:
        torch.set_num_threads(given.threads)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s", datefmt="%Y-%m-%dT%H:%M:%SZ")
    logging.Formatter.converter = time.gmtime
    logging.captureWarnings(True)
    serve(given.device, Cache(given.cache, given.cache_bytes, given.disk_floor_bytes), given.disk_floor_bytes)


if __name__ == "__main__":
    main()
