"""The study page with 2,000 trials of 200 steps and 4 metrics, beside optuna-dashboard with the same trials.

    python -m bench.dashboard [--record] [--rounds 5] [--arrivals 30] [--viewers 50 --minutes 10] [--folder FOLDER]

Everything is measured in Chromium without a window, on a server of its own a round, by what the page itself sees: times count from
the start of the navigation to a frame that was painted, with the thread free to react.

"Usable": rows of the trial table are there and react (theirs: its first figure, for its page has no table). "First figure": the history
of the search. "Fully drawn": our page says so when all that it shows at first is painted; theirs holds its three figures. "Data" is what
came over the wire, headers included, without scripts, styles and pictures, which a browser keeps; those are counted beside it.
"Cold" is the first visit to a new server by a browser that has seen nothing, "warm" the second one.
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
    """Measure, print, and record when asked to."""
    args = _arguments()
    with _folder(args.folder) as name, chromium() as browser:
        folder = Path(name)
        print(f"databases in {folder}", flush=True)
        _make(folder, args.trials)
        parts = [f"Load of the machine before, of others: {os.getloadavg()[0]:.1f} processes that want a core."]
        if args.rounds:
            parts.append(loading.told(loading.measure(browser, folder, args.rounds)))
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
    """A folder with a copy of our database, for a part that writes to it."""
    (folder / name).mkdir(exist_ok=True)
    shutil.copy(folder / "thawline.db", folder / name / "thawline.db")
    return folder / name


if __name__ == "__main__":
    main()
