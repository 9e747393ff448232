"""The command line: `python -m bench.gpu works|speed --out OUT [--seconds N] [--only PARTS] [--tiny]`."""

import argparse
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from bench.gpu.needs import ROOT, absent, advice, requirements

SECONDS = {"works": 180.0, "speed": 360.0}
TABLE_SECONDS = 2.0


def main(arguments: Sequence[str] | None = None) -> int:
    """Perform a run. Returns the exit code: 1 if a row is `failed` or `stopped`, 2 if the run cannot start, else 0."""
    started_at = time.monotonic()
    parser = argparse.ArgumentParser(prog="python -m bench.gpu", description="Benchmark of the GPU paths on one card.")
    parser.add_argument("run", choices=tuple(SECONDS), help="works: whether they work; speed: how fast they are")
    parser.add_argument("--out", type=Path, required=True, help="folder for rows, table and logs")
    parser.add_argument("--seconds", type=float, help="limit of the whole run; default: 180 for works, 360 for speed")
    parser.add_argument("--only", help="some of the parts, with commas between")
    parser.add_argument("--tiny", action="store_true", help="small data and a CPU")
    given = parser.parse_args(arguments)
    if lacking := absent(requirements("trainer")):
        print(advice(lacking), file=sys.stderr)
        return 2
    if lacking := absent(requirements("service")):
        print(f"{advice(lacking)}\nThe parts that need them are left out.", file=sys.stderr)
    if given.tiny:
        os.environ.setdefault("GOMP_SPINCOUNT", "0")  # threads that spin would take the cores of the tests beside this one
    os.environ["OPENBLAS_NUM_THREADS"] = "1"  # inherited; its threads would be lost when a part is forked
    os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, (str(ROOT), os.environ.get("PYTHONPATH"))))
    return _run(given, started_at)


def _run(given: argparse.Namespace, started_at: float) -> int:
    from bench.gpu.parts import Bench, forkserver, perform

    context = forkserver()  # imports torch at the same time as this process
    import torch

    from bench.gpu import speed, works
    from bench.gpu.rows import Rows, as_table, read

    parts = {"works": works.PARTS, "speed": speed.PARTS}[given.run]
    if given.only:
        wanted = set(given.only.split(","))
        if unknown := wanted - {part.name for part in parts}:
            print(f"no part is named {', '.join(sorted(unknown))}; the parts are {', '.join(part.name for part in parts)}", file=sys.stderr)
            return 2
        parts = tuple(part for part in parts if part.name in wanted)
    if not given.tiny and not torch.cuda.is_available():
        print("torch finds no GPU; the rows of `works` state why, and --tiny runs on a CPU", file=sys.stderr)
        if given.run == "speed":
            return 2
    given.out.mkdir(parents=True, exist_ok=True)
    out, file = given.out.resolve(), given.out.resolve() / f"rows-{given.run}.jsonl"
    file.unlink(missing_ok=True)
    folder = Path(tempfile.mkdtemp(prefix="thaw-gpu-"))
    try:
        bench = Bench(Rows(file, started_at), out, folder, given.tiny, "cpu" if given.tiny else "cuda:0")
        perform(parts, bench, started_at + (given.seconds or SECONDS[given.run]) - TABLE_SECONDS, context)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        rows = read(file)
        found = as_table(rows)
        (out / f"table-{given.run}.md").write_text(found + "\n")
        print(found)
    return int(any(row.state in ("failed", "stopped") for row in rows))


if __name__ == "__main__":
    sys.exit(main())
