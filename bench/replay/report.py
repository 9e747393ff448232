"""The report on the replays of one list: times and ratios, parity, redundancy, and ablations."""

import statistics
from collections.abc import Mapping, Sequence
from itertools import product

from bench.replay.costs import Costs
from bench.replay.recorded import LISTS
from bench.replay.running import Replay
from bench.tables import mean_interval, megabytes, spread, table

TARGETS: Mapping[str, Mapping[str, float]] = {
    "A": {"naive": 200, "strong": 50},
    "B": {"naive": 2.5, "strong": 1.5},
    "C": {"naive": 1.2, "strong": 0.95},
}
"""Least ratio of an opponent's time to Thawline's."""
OURS = "thawline"


def times(replays: Sequence[Replay]) -> str:
    """A row per engine. The ratio is the opponent's time over Thawline's, with the range that the spreads allow."""
    recorded, by_engine = LISTS[replays[0].order.recorded], group(replays)
    ours = [replay.scaled(recorded.count) for replay in by_engine.get(OURS, ())]
    rows = [_row(engine, runs, recorded.count, ours, TARGETS[recorded.name].get(engine)) for engine, runs in by_engine.items()]
    posted = [
        replay.posted_seconds + replay.scaled(recorded.count) - replay.wall_seconds
        for replay in by_engine.get(OURS, ())
        if replay.posted_seconds is not None
    ]
    if posted:
        rows.append(
            [
                "thawline, from the post",
                len(posted),
                "",
                "",
                spread(posted),
                f"{3_600 * recorded.count / statistics.median(posted):,.0f}",
                "",
                "",
                "",
            ]
        )
    head = [
        "engine",
        "runs",
        "trials a run",
        "s a trial (95 % of the mean)",
        f"s for {recorded.count}",
        "trials an hour",
        "ratio",
        "target",
        "peak PSS",
    ]
    return table(head, rows)


def group(replays: Sequence[Replay]) -> dict[str, list[Replay]]:
    """The replays by engine, in the given order."""
    groups: dict[str, list[Replay]] = {}
    for replay in replays:
        groups.setdefault(replay.order.engine, []).append(replay)
    return groups


def _row(engine: str, runs: Sequence[Replay], count: int, ours: Sequence[float], target: float | None) -> list[object]:
    whole = [replay.scaled(count) for replay in runs]
    low, high = interval(runs)
    each = statistics.fmean(replay.outcome.busy_seconds / len(replay.outcome.trials) for replay in runs)
    extent = [statistics.median(whole) + (bound - each) * count for bound in (low, high)] if engine != OURS else whole
    ratios = [theirs / mine for theirs, mine in product([*extent, statistics.median(whole)], ours)] if engine != OURS else []
    ratio = _verdict(statistics.median(whole) / statistics.median(ours), ratios, target) if ratios else ""
    return [
        engine, len(runs), len(runs[0].outcome.trials), f"{each:.3g} ({low:.3g} to {high:.3g})", spread(whole) if engine == OURS
        else f"{statistics.median(whole):,.4g} ({extent[0]:,.4g} to {extent[1]:,.4g})",
        f"{3_600 * count / statistics.median(whole):,.0f}", ratio, f"at least {target:g}" if target else "",
        megabytes(max(replay.peak_bytes for replay in runs)),
    ]  # fmt: skip


def interval(runs: Sequence[Replay]) -> tuple[float, float]:
    """An interval of the mean seconds per trial. Concurrent trials count with their share of the time."""
    seconds = list[float]()
    for replay in runs:
        own = [trial.seconds for trial in replay.outcome.trials]
        share = replay.outcome.busy_seconds / sum(own) if sum(own) else 0.0
        seconds += [share * each for each in own]
    return mean_interval(seconds)


def _verdict(ratio: float, ratios: Sequence[float], target: float | None) -> str:
    missed = " **missed**" if target and ratio < target else ""
    return f"{ratio:,.3g} ({min(ratios):,.3g} to {max(ratios):,.3g}){missed}"


def differences(left: Replay, right: Replay) -> list[float]:
    """Differences of the final accuracy in percentage points, of the trials that both engines have completed."""
    return list(_differences(left, right).values())


def _differences(left: Replay, right: Replay) -> dict[int, float]:
    theirs = {trial.number: trial.metrics for trial in right.outcome.trials if trial.metrics}
    return {
        trial.number: 100 * (trial.metrics["accuracy"] - theirs[trial.number]["accuracy"])
        for trial in left.outcome.trials
        if trial.metrics and trial.number in theirs
    }


def parity(pairs: Mapping[str, tuple[Replay, Replay]]) -> str:
    """Paired differences of the same configurations between engines, and between two seeds of one engine."""
    rows = list[Sequence[object]]()
    for title, (left, right) in pairs.items():
        found = differences(left, right)
        if found:
            sizes = [abs(each) for each in found]
            low, high = mean_interval(sizes)
            size = f"{statistics.fmean(sizes):.3g} ({low:.3g} to {high:.3g})"
            rows.append([title, len(found), f"{statistics.median(found):+.3g}", size, f"{max(sizes):.3g}"])
    return table(["final accuracy, points", "n", "median", "mean size (95 %)", "largest"], rows)


def excess(across: tuple[Replay, Replay], between_seeds: tuple[Replay, Replay]) -> str:
    """How much larger the differences between engines are than those between seeds, paired by configuration."""
    numbers = [set(trial.number for trial in replay.outcome.trials if trial.metrics) for replay in (*across, *between_seeds)]
    shared = set.intersection(*numbers)
    sizes = [{number: abs(found) for number, found in _differences(*pair).items() if number in shared} for pair in (across, between_seeds)]
    more = [sizes[0][number] - sizes[1][number] for number in sorted(shared)]
    low, high = mean_interval(more)
    return (
        f"Size between engines minus size between seeds, configuration by configuration (n = {len(more)}): "
        f"{statistics.fmean(more):+.2f} points (95 %: {low:+.2f} to {high:+.2f})."
    )


def ablation(whole: Sequence[Replay], without: Mapping[str, Replay]) -> str:
    """Thawline with one technique switched off."""
    usual = statistics.median(replay.wall_seconds for replay in whole)
    rows = [["all on", f"{usual:.4g}", "1", megabytes(max(replay.peak_bytes for replay in whole))]]
    for technique, replay in without.items():
        rows.append(
            [f"without {technique}", f"{replay.wall_seconds:.4g}", f"{replay.wall_seconds / usual:.3g}", megabytes(replay.peak_bytes)]
        )
    return table(["thawline", "s", "times as long", "peak PSS"], rows)


def work(replays: Sequence[Replay], costs: Costs, peak: float) -> str:
    """Executed operations over unique ones, and unique operations per second over the machine's peak."""
    rows = list[Sequence[object]]()
    for engine, runs in group(replays).items():
        order, trials = runs[0].order, runs[0].outcome.trials
        depths = {trial.number: trial.depth for trial in trials}
        executed, unique = costs.executed(order.configs, depths), costs.unique(order.configs.values())
        rates = [unique / replay.wall_seconds for replay in runs]
        rows.append(
            [engine, len(trials), f"{executed / 1e12:.4g}", f"{unique / 1e12:.4g}", f"{executed / unique:.3g}",
             f"{max(rates) / 1e9:.3g}", f"{100 * max(rates) / peak:.2g} %"]
        )  # fmt: skip
    head = ["engine", "trials", "executed TFLOP", "unique TFLOP", "redundancy", "unique GFLOP/s", f"of the peak, {peak / 1e9:.0f} GFLOP/s"]
    return table(head, rows)


def activities(replay: Replay) -> str:
    """The share of the time per activity, as reported by Thawline's trainer."""
    activities = replay.outcome.activities
    if not activities:
        return ""
    listed = ", ".join(f"{name} {seconds:.3g} s" for name, seconds in activities.items())
    saved = f"Stored outputs spared {replay.outcome.saved_seconds:.3g} s, by the trainers' reckoning."
    aside = "added up over trials, of which several may run side by side"
    once = f"Before the first trial and after the last one: {replay.start_seconds:.3g} s."
    return f"Where our {replay.wall_seconds:.4g} s went ({aside}): {listed}. {once} {saved}"
