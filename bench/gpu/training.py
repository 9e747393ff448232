"""Speed of single runs: steps and epochs, changes to a step, the planner, several trials on one card, and repeatability."""

import itertools
import time
from collections.abc import Mapping
from functools import partial
from typing import Any, get_args

import torch

from bench.gpu.material import cache, call_seconds, config, outcome, pace_of, step_seconds
from bench.gpu.parts import Bench, NotHere, Unexpected
from bench.gpu.plain import PlainLoop, Way
from bench.gpu.works import await_ready, trainer_process
from service.worker.devices import cores, lay_out
from service.worker.discovery import find_devices
from trainer.features import Direct
from trainer.features import planner as planning_of
from trainer.features.frozen_prefix import FrozenPrefix
from trainer.graphs import GraphMode
from trainer.loop import train
from trainer.preparation import Expected, prepare
from trainer.protocol import EpochMetrics, Failed, Run, Unavailable
from trainer.sequences import dense
from trainer.tasks.image_classification.config import ImageClassificationConfig
from trainer.tasks.images import catalogue

IMAGES = 6000
SIZES = {"resnet50": (224, (256, 32)), "vit_b_16": (224, (128, 32)), "small_cnn": (32, (256, 32))}  # pixels, batch sizes
TINY_SIZES = {"small_cnn": (16, (16, 8))}
PRECISIONS = ("bfloat16", "float32", "tf32", "float16")  # in the order of their importance
SWITCHES: Mapping[str, Mapping[str, Any]] = {"compiled": {"compile": True}}
"""Settings of a run that are meant to make it faster. Those that this version of the product does not have are `not here`."""


def train_speed(bench: Bench) -> None:
    """Images a second of each network at two batch sizes and in each precision, beside a plain loop."""
    known = get_args(ImageClassificationConfig.model_fields["precision"].annotation)
    precisions = [one for one in PRECISIONS if one in known and (bench.on_gpu or one in ("bfloat16", "float32"))]
    name, (size, batches) = next(iter(_sizes(bench).items()))
    bench.case(f"{name}, {size} px, epoch, batch {batches[1]}", partial(_epoch, bench, name, size, batches[1]), 10)
    for precision, place, (name, (size, batches)) in itertools.product(precisions, (0, 1), _sizes(bench).items()):
        batch = batches[place]
        bench.case(f"{name}, {size} px, {precision}, batch {batch}", partial(_beside, bench, name, size, batch, precision), 8)


def _sizes(bench: Bench) -> Mapping[str, tuple[int, tuple[int, int]]]:
    return TINY_SIZES if bench.tiny else SIZES


def _seconds(bench: Bench) -> float:
    return 0.05 if bench.tiny else 1.2


def _count(bench: Bench) -> int:
    return bench.sized(IMAGES, 80)


def _beside(bench: Bench, name: str, size: int, batch: int, precision: str) -> Mapping[str, object]:
    """The product's step and the plain loop's, in the same process. The loop runs with the settings of torch that the product made."""
    run = config(bench, name, size, _count(bench), batch_size=batch, precision=precision)
    ours = step_seconds(train(run, device=bench.device, cache=cache(bench), share=False), bench.device, _seconds(bench))
    loop = PlainLoop(name, size, batch, Way(precision), bench.device)
    plain, host = call_seconds(loop.stepper(), bench.device, _seconds(bench))
    return {
        "images_per_second": batch / ours, "plain_images_per_second": batch / plain, "of_plain": plain / ours,
        "ms_a_step": 1e3 * ours, "plain_ms_a_step": 1e3 * plain, "plain_host_ms": 1e3 * host,
    }  # fmt: skip


def _epoch(bench: Bench, name: str, size: int, batch: int) -> Mapping[str, object]:
    """The last of three epochs by activity, and validation beside the plain loop's forward pass at three batch sizes."""
    run = config(bench, name, size, _count(bench), batch_size=batch, precision="bfloat16", epochs=3)
    found = outcome(train(run, device=bench.device, cache=cache(bench), share=False))
    before, last = map(pace_of, found.epochs[-2:])
    seconds = {activity: last.seconds[activity] - before.seconds[activity] for activity in last.seconds}
    values: dict[str, object] = {
        "images_per_second": last.samples_per_second, "seconds": seconds, "utilization": last.utilization,
        "peak_bytes": found.finished.peak_memory, "device_bytes": found.finished.device_memory,
    }  # fmt: skip
    validated = found.prepared.facts.sizes["validation"] if found.prepared is not None else 0
    if seconds["measure"] > 0:
        values["validation_images_per_second"] = validated / seconds["measure"]
    for size_of_batch in (32, 256, 1024) if not bench.tiny else (8,):
        loop = PlainLoop(name, size, size_of_batch, Way("bfloat16"), bench.device)
        took, _ = call_seconds(loop.evaluator(), bench.device, _seconds(bench) / 3)
        values[f"plain_validation_images_per_second_{size_of_batch}"] = size_of_batch / took
    return values


def changes(bench: Bench) -> None:
    """The product's switches one at a time, and what else a plain loop gains by one change at a time."""
    name, (size, batches) = next(iter(_sizes(bench).items()))
    for batch in batches:
        base = Way("bfloat16")
        ways = {"weights channels last": Way("bfloat16", channels_last=True), "cuDNN free": Way("bfloat16", free=True)}
        for title, way in {"none": base, **ways, "one CUDA graph": Way("bfloat16", graph=True)}.items():
            bench.case(f"plain loop, {name}, batch {batch}: {title}", partial(_plain, bench, name, size, batch, way), 5)
        bench.case(f"product, {name}, batch {batch}: steps by CUDA graphs", partial(_graphed, bench, name, size, batch), 10)
        for title, switch in SWITCHES.items():
            bench.case(f"product, {name}, batch {batch}: {title}", partial(_switched, bench, name, size, batch, switch), 10)


def _plain(bench: Bench, name: str, size: int, batch: int, way: Way) -> Mapping[str, object]:
    if way.graph and not bench.on_gpu:
        raise NotHere("the device is no GPU")
    cudnn = torch.backends.cudnn
    cudnn.benchmark, cudnn.deterministic = way.free, not way.free
    seconds, host = call_seconds(PlainLoop(name, size, batch, way, bench.device).stepper(), bench.device, _seconds(bench))
    cudnn.benchmark, cudnn.deterministic = False, True
    return {"images_per_second": batch / seconds, "ms_a_step": 1e3 * seconds, "host_ms": 1e3 * host}


MODES: tuple[GraphMode, GraphMode] = ("off", "on")


def _graphed(bench: Bench, name: str, size: int, batch: int) -> Mapping[str, object]:
    if not bench.on_gpu:
        raise NotHere("the device is no GPU")
    run = config(bench, name, size, _count(bench), batch_size=batch, precision="bfloat16")
    off, on = (
        step_seconds(train(run, device=bench.device, cache=cache(bench), share=False, graphs=mode), bench.device, _seconds(bench))
        for mode in MODES
    )
    return {"images_per_second": batch / on, "without": batch / off, "of_without": off / on}


def _switched(bench: Bench, name: str, size: int, batch: int, switch: Mapping[str, Any]) -> Mapping[str, object]:
    if unknown := sorted(switch.keys() - ImageClassificationConfig.model_fields.keys()):
        raise NotHere(f"a run has no field {', '.join(unknown)}")
    off, on = (
        step_seconds(
            train(
                config(bench, name, size, _count(bench), batch_size=batch, precision="bfloat16", **given),
                device=bench.device, cache=cache(bench), share=False,
            ),
            bench.device, _seconds(bench),
        )
        for given in ({}, switch)
    )  # fmt: skip
    return {"images_per_second": batch / on, "without": batch / off, "of_without": off / on}


def planning(bench: Bench) -> None:
    """The rates that the planner measures beside those of large batches, and what it decides."""
    bench.case("rates", lambda: _rates(bench), 10)
    bench.case("decision", lambda: _decision(bench), 15)


def _frozen(bench: Bench, **changed: Any) -> ImageClassificationConfig:
    name, size = ("small_cnn", 16) if bench.tiny else ("resnet50", 224)
    stages = len(catalogue.load(name).stages)
    values = {"precision": "bfloat16", "batch_size": bench.sized(64, 8), "frozen_layers": stages - 1, **changed}
    return config(bench, name, size, _count(bench), pretrained=True, **values)


def _rates(bench: Bench) -> Mapping[str, object]:
    run = prepare(_frozen(bench), bench.device, Expected(), cache(bench))
    run.model.eval()
    prefix, direct = FrozenPrefix(run), Direct(run)
    rates = planning_of.rates(run, prefix, lambda rows: direct.batch(rows, 0))
    values: dict[str, object] = {"planned_us_an_image": 1e6 * rates.computing(0, prefix.frozen)}
    for batch in (32, 256) if not bench.tiny else (8,):
        rows = run.training[:batch]
        seconds, host = call_seconds(partial(_prefix, prefix, direct, rows), bench.device, _seconds(bench) / 3)
        values |= {f"us_an_image_at_{batch}": 1e6 * seconds / len(rows), f"host_us_at_{batch}": 1e6 * host / len(rows)}
    values["planned_gather_ns_a_kb"] = 1e12 * planning_of.gather_seconds_a_byte(bench.device, bench.device)
    rows_of = torch.zeros((bench.sized(4096, 64), 100_000), dtype=torch.bfloat16, device=bench.device)
    some = torch.randperm(len(rows_of))[: len(rows_of) // 16]
    seconds, _ = call_seconds(lambda: planning_of.gathered(rows_of, some, bench.device), bench.device, _seconds(bench) / 3)
    return {**values, "gather_ns_a_kb": 1e12 * seconds / (len(some) * rows_of.shape[1] * 2)}


def _prefix(prefix: FrozenPrefix, direct: Direct, rows: torch.Tensor) -> torch.Tensor:
    return dense(prefix.run(direct.batch(rows, 0), 0, prefix.frozen))


def _decision(bench: Bench) -> Mapping[str, object]:
    """What a run with much demand stores, and the seconds of its last epoch with and without stored outputs."""
    run = _frozen(bench, epochs=3)
    demand = {run.frozen_layers: 500.0}
    shared = outcome(train(run, device=bench.device, cache=cache(bench), demand=demand))
    alone = outcome(train(run, device=bench.device, cache=cache(bench), share=False))
    if shared.prepared is None or shared.prepared.reuse is None:
        raise Unexpected("the run has not reported what it reuses")
    reuse, (with_it, without) = shared.prepared.reuse, (_last_epoch_seconds(one.epochs) for one in (shared, alone))
    return {
        "frozen": run.frozen_layers, "stored_depth": reuse.depth, "place": reuse.place, 
        "saved_seconds": pace_of(shared.epochs[-1]).saved_seconds,
        "epoch_seconds": with_it, "epoch_seconds_computing": without, "of_computing": with_it / without,
    }  # fmt: skip


def _last_epoch_seconds(epochs: list[EpochMetrics]) -> float:
    before, last = (sum(pace_of(epoch).seconds.values()) for epoch in epochs[-2:])
    return last - before


def packing(bench: Bench) -> None:
    """One and two slots on the card, each with a trainer of its own."""
    cases = {"small_cnn": (16, 8)} if bench.tiny else {"small_cnn": (32, 32), "resnet50": (224, 32)}
    for name, (size, batch) in cases.items():
        for slots in (1, 2):
            bench.case(f"{name}, {size} px, batch {batch}: {slots} slots", partial(_packed, bench, name, size, batch, slots), 20)


def _packed(bench: Bench, name: str, size: int, batch: int, count: int) -> Mapping[str, object]:
    """Images a second of all slots while all of them train."""
    found = find_devices().devices[:1] if bench.on_gpu else ()
    if bench.on_gpu and not found:
        raise Unexpected("the product finds no GPU")
    run = config(bench, name, size, bench.sized(2000, 80), batch_size=batch, precision="bfloat16")
    processes = [trainer_process(bench, slot) for slot in lay_out(found, cores(), count)]
    speeds: dict[int, list[float]] = {number: [] for number in range(count)}
    try:
        for process in processes:
            await_ready(process, bench)
        for process in processes:
            process.send(Run(config=run))
        window = 0.0  # its end, by time.monotonic
        while not all(len(some) > 1 for some in speeds.values()) or time.monotonic() < window:
            for number, process in enumerate(processes):
                match process.read(0.01):
                    case EpochMetrics() as epoch:
                        speeds[number].append(pace_of(epoch).samples_per_second)
                    case Failed() | Unavailable() as failed:
                        raise Unexpected(failed.detail)
                    case _:
                        pass
            if not window and all(speeds.values()):
                window = time.monotonic() + _seconds(bench) * 2
                speeds = {number: [] for number in speeds}  # until now not all of them trained
    finally:
        for process in processes:
            process.close(grace_seconds=2)
    each = [sum(some) / len(some) for some in speeds.values()]
    return {"images_per_second": sum(each), "each": each}


def repeatability(bench: Bench) -> None:
    """The same run twice: whether loss and metrics are equal to the last bit."""
    names = ("small_cnn",) if bench.tiny else ("small_cnn", "resnet50", "vit_b_16", "efficientnet_b0", "swin_t", "convnext_tiny")
    for precision, name in itertools.product(("bfloat16", "float32"), names):
        bench.case(f"{name}, {precision}", partial(_repeated, bench, name, precision), 6)


def _repeated(bench: Bench, name: str, precision: str) -> Mapping[str, object]:
    size = bench.sized(64 if name == "small_cnn" else 224, 16)
    run = config(
        bench,
        name,
        size,
        bench.sized(400, 60),
        batch_size=bench.sized(32, 8),
        precision=precision,
        epochs=1,
        augmentation="crop",
        dropout=0.1,
    )
    one, other = (outcome(train(run, device=bench.device, cache=cache(bench), share=False)).finished.metrics for _ in range(2))
    differs = {metric: abs(one[metric] - other[metric]) for metric in one if one[metric] != other[metric]}
    return {"equal": not differs, "differs": differs}
