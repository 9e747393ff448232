"""Runs all engines on one list in turn, with second seeds and ablations."""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib.metadata import version

from bench.replay import costs, report
from bench.replay.orders import Engine, Order
from bench.replay.recorded import Recorded
from bench.replay.running import Replay, run
from bench.replay.workloads import Workload

Say = Callable[[str], None]
TRIED_EPOCHS = 3  # of the trial runs that select an opponent's settings
SAMPLES: Mapping[str, Mapping[Engine, int]] = {
    "A": {"naive": 16, "strong": 16, "ray": 8},
    "B": {"naive": 16, "strong": 12, "ray": 8},
    "C": {},
}
"""The number of trials of a list that an opponent runs, if not all."""
ROUNDS: Mapping[str, Mapping[Engine, int]] = {
    "A": {"thawline": 3},
    "B": {"thawline": 2},
    "C": {"thawline": 2},
}
SECOND_SEEDS = 16  # trials of the list that the usual loop runs again with other seeds
ABLATION: Mapping[str, tuple[str, ...]] = {"A": ("lanes", "cache"), "B": ("cache", "slots"), "C": ("slots",)}
TURNS: tuple[Engine, ...] = ("thawline", "naive", "strong", "ray")


@dataclass(frozen=True)
class Wanted:
    """Options that make a report smaller, and settings of the opponents; None: measure which settings are faster."""

    epochs: int | None = None
    at_most: int | None = None
    loader_workers: int | None = None
    slots: int | None = None
    thorough: int = 1  # factor for the samples of the opponents and the second seeds, if trials are short
    skip: tuple[str, ...] = ()  # engines and ablations to leave out


def replay_all(workload: Workload, recorded: Recorded, wanted: Wanted, say: Say) -> str:
    """The report of one list."""
    epochs, at_most = wanted.epochs, wanted.at_most

    def order(engine: Engine, seed: int = 0, **options: object) -> Order:
        count = min(wanted.thorough * SAMPLES[recorded.name].get(engine, recorded.count), recorded.count)
        numbers = recorded.sample(min(count, at_most or count))
        return Order(engine=engine, workload=workload, recorded=recorded.name, numbers=numbers, seed=seed, epochs=epochs, **options)

    def run_logged(order: Order) -> Replay:
        started = time.perf_counter()
        replay = run(order)
        which = f"{order.engine}, seed {order.seed}" + "".join(f", without {technique}" for technique in order.without)
        say(f"{workload.name}, list {order.recorded}, {which}: {time.perf_counter() - started:.1f} s")
        return replay

    loader_workers = better_loader(order("naive"), run_logged) if wanted.loader_workers is None else wanted.loader_workers
    ways = better_slots(order("ray"), loader_workers, run_logged) if wanted.slots is None else _ways(loader_workers)[wanted.slots - 1]
    naive = order("naive", loader_workers=loader_workers)
    orders = {
        "naive": naive,
        "strong": order("strong"),
        "ray": order("ray", **ways),
        "thawline": order("thawline"),
    }
    replays, turns = list[Replay](), [engine for engine in TURNS if engine not in wanted.skip]
    for turn in range(max(ROUNDS[recorded.name].values())):
        replays += [run_logged(orders[engine]) for engine in turns if turn < ROUNDS[recorded.name].get(engine, 1)]
    first = {engine: runs[0] for engine, runs in report.group(replays).items()}
    pairs = {"thawline minus naive": (first["thawline"], first["naive"]), "thawline minus strong": (first["thawline"], first["strong"])}
    other = run_logged(naive.model_copy(update={"seed": 1, "numbers": naive.numbers[: wanted.thorough * SECOND_SEEDS]}))
    pairs["naive minus naive with another seed"] = (first["naive"], other)
    without = {name: run_logged(order("thawline", without=(name,))) for name in ABLATION[recorded.name] if name not in wanted.skip}

    whole = report.group(replays)["thawline"]
    parts = [report.times(replays), setting(orders), report.activities(whole[-1]), report.parity(pairs)]
    if recorded.augmentation == "none":
        parts.append(report.work(replays, costs.count(workload), costs.peak()))
    if without:
        parts.append(report.ablation(whole, without))
    return "\n\n".join(part for part in parts if part)


def parity_alone(workload: Workload, recorded: Recorded, wanted: Wanted, say: Say) -> str:
    """Only the paired differences of one list, which do not depend on other load on the machine."""
    numbers = recorded.sample(min(recorded.count, wanted.at_most or recorded.count))

    def replayed(engine: Engine, seed: int) -> Replay:
        options = {"loader_workers": wanted.loader_workers or 0} if engine == "naive" else {}
        order = Order(engine=engine, workload=workload, recorded=recorded.name, numbers=numbers, seed=seed, epochs=wanted.epochs, **options)
        replay = run(order)
        say(f"{workload.name}, list {recorded.name}, {engine}, seed {seed}: {len(replay.outcome.trials)} trials")
        return replay

    ours, naive, other = replayed("thawline", 0), replayed("naive", 0), replayed("naive", 1)
    pairs = {"thawline minus naive": (ours, naive), "naive minus naive with another seed": (naive, other)}
    return "\n\n".join([report.parity(pairs), report.excess(*pairs.values())])


def better_loader(order: Order, run_logged: Callable[[Order], Replay]) -> int:
    """Whether the usual loop is faster with 0 or 2 DataLoader processes on this machine. Not included in its time."""
    tried = order.model_copy(update={"numbers": order.numbers[:1], "epochs": min(TRIED_EPOCHS, order.epochs or TRIED_EPOCHS)})
    return min((0, 2), key=lambda count: run_logged(tried.model_copy(update={"loader_workers": count})).outcome.busy_seconds)


def better_slots(order: Order, loader_workers: int, run_logged: Callable[[Order], Replay]) -> dict[str, int]:
    """Whether Ray is faster with one trial of two threads or two trials of one thread. Not included in its time."""
    tried = order.model_copy(update={"numbers": order.numbers[:4], "epochs": 1})
    return min(_ways(loader_workers), key=lambda way: run_logged(tried.model_copy(update=way)).outcome.busy_seconds)


def _ways(loader_workers: int) -> list[dict[str, int]]:
    return [{"slots": 1, "loader_workers": loader_workers}, {"slots": 2, "loader_workers": 0}]


def setting(orders: Mapping[str, Order]) -> str:
    """The selected settings of the opponents."""
    naive, ray = orders["naive"], orders["ray"]
    loaders = {0: "no processes of its own", 2: "two processes"}
    slots = {1: "one trial of two threads at a time", 2: "two trials of one thread at a time"}
    return (
        f"Tried before and used because quicker: the naive loop's DataLoader with {loaders[naive.loader_workers]}; Ray with "
        f"{slots[ray.slots]} and DataLoaders with {loaders[ray.loader_workers]}."
    )


def versions() -> list[str]:
    return [f"{name} {version(name)}" for name in ("torch", "optuna", "ray")]
