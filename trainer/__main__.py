"""`python -m trainer [--device cpu|cuda:0] [--threads N]`: the warm trainer process of `trainer.host`."""

import argparse
import logging
import warnings

import torch
from PIL import Image

from trainer.host import serve


def main() -> None:
    """Settle device and threads, then serve."""
    parser = argparse.ArgumentParser(prog="python -m trainer", description="Speaks the JSON lines of trainer.contract.")
    usual = "cuda:0" if torch.cuda.is_available() else "cpu"
    parser.add_argument("--device", type=torch.device, default=usual, help="such as cpu or cuda:0")
    parser.add_argument("--threads", type=int, help="of PyTorch on the CPU")
    given = parser.parse_args()
    if given.threads is not None:
        torch.set_num_threads(given.threads)
    logging.basicConfig(level=logging.INFO, format="%(levelname)s %(name)s: %(message)s")
    warnings.simplefilter("error", Image.DecompressionBombWarning)
    serve(given.device)


if __name__ == "__main__":
    main()
