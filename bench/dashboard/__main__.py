"""Measures the study page with 2,000 trials of 200 steps and 4 metrics, compared with optuna-dashboard on the same trials.

    python -m bench.dashboard [--record] [--rounds 5] [--arrivals 30] [--viewers 50 --minutes 10] [--folder FOLDER]

All measurements are made in headless Chromium, with a new server per round. Times run from the start of the navigation to a painted
frame after which the page reacts to input.

"Usable": the trial table has rows and reacts (optuna-dashboard: the first figure, because its page has no table). "First figure": the
history of the search. "Fully drawn": the initial content is painted (optuna-dashboard: its three figures). "Data": bytes received,
headers included, without scripts, styles and images, which the browser caches and which are counted separately. "Cold" is the first
visit to a new server with an empty browser cache, "warm" the second one.
"""

import argparse
import os
import shutil
import tempfile
from contextlib import nullcontext
from pathlib import Path

from bench.dashboard import database, living, loading, optunas, viewers
from bench.dashboard.browsing import chromium
from bench.dashboard.serving import ours
from bench.tables import machine, record


def main() -> None:
    """Run the benchmark, and print or record the results."""
    args = _arguments()
    with _folder(args.folder) as name, chromium() as browser:
        folder = Path(name)
        print(f"databases in {folder}", flush=True)
        _make(folder, args.trials)
        parts = [f"Load of the machine before, of others: {os.getloadavg()[0]:.1f} processes that want a core."]
        if args.rounds:
            parts.append(loading.summary(loading.measure(browser, folder, args.rounds)))
            print(parts[-1], flush=True)
        if args.arrivals:
            with ours(_copy(folder, "arrivals")) as server:
                parts.append(living.measure(browser, folder / "arrivals", server, args.arrivals))
                print(parts[-1], flush=True)
        if args.minutes:
            with ours(_copy(folder, "viewers")) as server:
                parts.append(viewers.measure(browser, folder / "viewers", server, args.viewers, args.minutes))
                print(parts[-1], flush=True)
        version = browser.version
    if args.record:
        record(f"Dashboard, {args.trials:,} trials of 200 steps and 4 metrics: {machine(f'Chromium {version}')}", "\n\n".join(parts))


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--record", action="store_true")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--arrivals", type=int, default=30)
    parser.add_argument("--viewers", type=int, default=50)
    parser.add_argument("--minutes", type=float, default=0)
    parser.add_argument("--trials", type=int, default=2_000)
    parser.add_argument("--folder", help="of databases that were made before, or that are to be kept")
    return parser.parse_args()


def _folder(given: str | None) -> "tempfile.TemporaryDirectory[str] | nullcontext[str]":
    return nullcontext(str(Path(given).absolute())) if given else tempfile.TemporaryDirectory(prefix="thaw-dashboard-")


def _make(folder: Path, trials: int) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for file, maker in (("thawline.db", database.make), ("optuna.db", optunas.make)):
        if not (folder / file).exists():
            maker(f"sqlite:///{folder / file}", trials)


def _copy(folder: Path, name: str) -> Path:
    """A folder with a copy of the Thawline database, for a part that writes to it."""
    (folder / name).mkdir(exist_ok=True)
    shutil.copy(folder / "thawline.db", folder / name / "thawline.db")
    return folder / name


if __name__ == "__main__":
    main()
