"""`python -m bench.text`: fine-tunes a BERT on banking77 with Thawline, and with Optuna around the Transformers Trainer.

    python -m bench.text --list heads --sample 2      # the list's points for the Trainer; Thawline trains all of them
    python -m bench.text --list lora --record

Each list is a fixed sequence of configurations, the same for both sides, on the same split. The Trainer side runs in a process of its
own and does what its documentation shows: texts are tokenized once, batches are padded to their longest text, frozen layers have
`requires_grad` False, LoRA is PEFT's, and accuracy is measured after each epoch. Thawline runs as in production: server, worker and
store in a new home. Wall times run from the start of the first process to the last result; the Trainer's time for a whole list is
extrapolated from a random sample of it, drawn with a fixed seed.
"""

import argparse
import json
import random
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench.replay.served import finished, server
from bench.replay.watching import Watch
from bench.tables import machine, megabytes, record, table

SHARED = Path(__file__).resolve().parents[1] / "../shared/data"
STAGES = 7  # embeddings and six layers
MAX_LENGTH = 64
POOLING = "mean"

Point = Mapping[str, Any]


@dataclass(frozen=True)
class Recorded:
    """A list of configurations, and the least ratio of the Trainer's time to Thawline's."""

    count: int
    fixed: Point
    target: float

    def points(self, draw: random.Random) -> Iterator[Point]:
        """Values of the list's hyperparameters."""
        for _ in range(self.count):
            yield {"batch_size": draw.choice([16, 32]), **self._own(draw)}

    def _own(self, draw: random.Random) -> Point:
        raise NotImplementedError


class Heads(Recorded):
    """Only the head is trained."""

    def _own(self, draw: random.Random) -> Point:
        return {"lr": _log_uniform(draw, 1e-4, 3e-2), "optimizer": draw.choice(["adamw", "sgd"])}


class Mixed(Recorded):
    """The last layers are trained, or all."""

    def _own(self, draw: random.Random) -> Point:
        return {"lr": _log_uniform(draw, 1e-5, 3e-4), "frozen_layers": STAGES - draw.choice([0, 1, 2, 4, STAGES])}


class Lora(Recorded):
    """LoRA in the last layers."""

    def _own(self, draw: random.Random) -> Point:
        return {"lr": _log_uniform(draw, 1e-4, 3e-3), "lora_layers": draw.choice([1, 2, 4, 6]), "lora_r": draw.choice([4, 8, 16])}


LISTS: Mapping[str, Recorded] = {
    "heads": Heads(64, {"epochs": 3, "frozen_layers": STAGES}, 100.0),
    "mixed": Mixed(24, {"epochs": 3}, 3.0),
    "lora": Lora(12, {"epochs": 2, "method": "lora", "lora_alpha": 16, "lora_dropout": 0.0, "lora_targets": "attention"}, 1.5),
}


def _log_uniform(draw: random.Random, low: float, high: float) -> float:
    return float(low * (high / low) ** draw.random())


def configurations(name: str) -> list[Point]:
    """The whole list, with the fixed values filled in."""
    recorded = LISTS[name]
    return [{**recorded.fixed, **point} for point in recorded.points(random.Random(f"banking77 {name}"))]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--list", choices=LISTS, dest="recorded", action="append", help="by default all")
    parser.add_argument("--sample", type=int, default=2, help="points that the Trainer trains")
    parser.add_argument("--seeds", type=int, default=1, help="seeds with which the Trainer trains its sample, for the parity of metrics")
    parser.add_argument("--epochs", type=int, help="in place of the list's, to try things out")
    parser.add_argument("--rows", type=int, help="training rows in place of all, to try things out")
    parser.add_argument("--record", action="store_true", help="append to RESULTS.md")
    parser.add_argument("--trainer", help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.trainer is not None:
        _train(json.loads(asked.trainer))
        return
    for name in asked.recorded or LISTS:
        body = compared(name, asked)
        rows = "" if asked.rows is None else f" ({asked.rows:,} training rows)"
        title = f"Texts, list {name}: banking77{rows}, MiniLM, {MAX_LENGTH} tokens: {machine(*_versions())}"
        print(f"\n## {title}\n\n{body}\n", flush=True)
        if asked.record:
            record(title, body)


def _versions() -> Sequence[str]:
    import torch
    import transformers

    return f"torch {torch.__version__}", f"transformers {transformers.__version__}"


def compared(name: str, asked: argparse.Namespace) -> str:
    """The table of one list."""
    points = [{**point, **({} if asked.epochs is None else {"epochs": asked.epochs})} for point in configurations(name)]
    sample = sorted(random.Random(0).sample(range(len(points)), min(asked.sample, len(points))))
    with tempfile.TemporaryDirectory() as folder:
        data, weights = _material(Path(folder), asked.rows)
        ours = _thawline(Path(folder), data, weights, points)
        theirs = _trainer(data, weights, [points[place] for place in sample], asked.seeds)
    whole = theirs.start + theirs.busy / (len(sample) * asked.seeds) * len(points)
    rows = [
        [
            "Trainer in Optuna", len(sample) * asked.seeds, f"{whole:,.0f}", f"{whole / ours.wall:.3g}", LISTS[name].target,
            megabytes(theirs.peak),
        ],
        ["Thawline", len(points), f"{ours.wall:,.1f}", "", "", megabytes(ours.peak)],
    ]  # fmt: skip
    parity = [
        [place, f"{ours.accuracy[place]:.4f}", " ".join(f"{value:.4f}" for value in theirs.accuracies[number :: len(sample)])]
        for number, place in enumerate(sample)
    ]
    best = f"Best of the {len(points)}: {max(ours.accuracy):.4f}; median {statistics.median(ours.accuracy):.4f}."
    return "\n\n".join(
        [
            table(["engine", "trials run", f"s for {len(points)}", "ratio", "at least", "peak memory"], rows),
            table(["point", "accuracy of Thawline", "of the Trainer, by seed"], parity),
            best,
        ]
    )


def _material(folder: Path, rows: int | None) -> tuple[Mapping[str, str], str]:
    """Files of the split, which both sides read, and the model folder."""
    import csv

    shared = SHARED.resolve()
    source, model = shared / "text/banking77/train.csv", shared / "weights/minilm-l6-v2"
    with source.open(newline="", encoding="utf-8") as file:
        found = list(csv.reader(file))[1:]
    random.Random(0).shuffle(found)
    validation, train = found[:1_000], found[1_000 : None if rows is None else 1_000 + rows]
    paths = {}
    for part, own in (("train", train), ("validation", validation)):
        paths[part] = str(folder / f"{part}.csv")
        with open(paths[part], "w", newline="", encoding="utf-8") as file:
            csv.writer(file).writerows([("text", "label"), *own])
    return paths, str(model)


@dataclass(frozen=True)
class Ours:
    wall: float
    peak: int
    accuracy: Sequence[float]


def _thawline(folder: Path, data: Mapping[str, str], weights: str, points: Sequence[Point]) -> Ours:
    import httpx2

    varied = [{key: value for key, value in point.items() if len({str(other.get(key)) for other in points}) > 1} for point in points]
    fixed = {key: value for key, value in points[0].items() if key not in varied[0]}
    document = {
        "name": "texts",
        "task": "text_classification",
        "data": {"path": data["train"], "validation": data["validation"]},
        "model": {"name": weights},
        "search_space": {key: _parameter([point[key] for point in varied]) for key in varied[0]},
        "fixed": {"max_length": MAX_LENGTH, "pooling": POOLING, "precision": "float32", **fixed},
        "objective": {"metric": "accuracy", "direction": "maximize"},
        "sampler": {"name": "random", "seed": 0},
        "budget": {"trials": len(points)},
    }
    started = time.perf_counter()
    with server(folder / "home") as (process, address), Watch(process) as watch:
        with httpx2.Client(base_url=f"{address}/api/v1/", timeout=60, trust_env=False) as http:
            trials = finished(http, document, varied)
        wall = time.perf_counter() - started
    return Ours(wall, watch.peak_bytes, [trial["metrics"]["accuracy"] for trial in sorted(trials, key=lambda one: int(one["number"]))])


def _parameter(values: Sequence[Any]) -> Mapping[str, Any]:
    if isinstance(values[0], float):
        return {"type": "float", "low": min(values), "high": max(values), "log": True}
    return {"type": "categorical", "choices": sorted(set(values))}


@dataclass(frozen=True)
class Theirs:
    start: float  # seconds that do not depend on the number of points
    busy: float
    peak: int
    accuracies: Sequence[float]  # by seed, then by point


def _trainer(data: Mapping[str, str], weights: str, points: Sequence[Point], seeds: int) -> Theirs:
    order = json.dumps({"data": data, "weights": weights, "points": points, "seeds": seeds})
    started = time.perf_counter()
    with (
        subprocess.Popen(
            [sys.executable, "-m", "bench.text", "--trainer", order], stdout=subprocess.PIPE, text=True, start_new_session=True
        ) as child,
        Watch(child.pid) as watch,
    ):
        assert child.stdout
        lines = [line for line in child.stdout if line.startswith("{")]
        wall = time.perf_counter() - started
    if child.returncode:
        raise RuntimeError(f"the Trainer ended with {child.returncode}")
    said = json.loads(lines[-1])
    return Theirs(wall - said["busy"], said["busy"], watch.peak_bytes, said["accuracies"])


def _train(order: Mapping[str, Any]) -> None:
    """The Trainer's side: an Optuna study whose trials are the points, once for each seed."""
    import csv

    import optuna
    import torch
    from transformers import AutoTokenizer
    from transformers.utils import logging

    logging.set_verbosity_error()  # type: ignore[no-untyped-call]
    logging.disable_progress_bar()  # type: ignore[no-untyped-call]
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    tokenizer, sets, parts = AutoTokenizer.from_pretrained(order["weights"]), {}, {}
    for part, path in order["data"].items():
        with open(path, newline="", encoding="utf-8") as file:
            parts[part] = list(csv.DictReader(file))
    labels = sorted({row["label"] for rows in parts.values() for row in rows})
    for part, rows in parts.items():
        encoded = tokenizer([row["text"] for row in rows], truncation=True, max_length=MAX_LENGTH)
        sets[part] = [
            {**{key: values[place] for key, values in encoded.items()}, "labels": labels.index(row["label"])}
            for place, row in enumerate(rows)
        ]
    torch.set_num_threads(2)
    accuracies, started = list[float](), time.perf_counter()
    for seed in range(order["seeds"]):
        study = optuna.create_study(direction="maximize")
        for point in order["points"]:
            study.enqueue_trial({}, user_attrs={"point": point})

        def objective(trial: optuna.Trial, seed: int = seed) -> float:
            accuracies.append(_fine_tuned(order["weights"], tokenizer, sets, len(labels), trial.user_attrs["point"], seed))
            return accuracies[-1]

        study.optimize(objective, n_trials=len(order["points"]))
    print(json.dumps({"busy": time.perf_counter() - started, "accuracies": accuracies}), flush=True)


def _fine_tuned(weights: str, tokenizer: Any, sets: Mapping[str, Any], classes: int, point: Point, seed: int) -> float:
    """The accuracy after the last epoch, by the Transformers Trainer."""
    import numpy as np
    import torch
    from transformers import DataCollatorWithPadding, Trainer, TrainingArguments, set_seed

    set_seed(seed)
    model = _mean_pooled(weights, classes)
    if point.get("method") == "lora":
        from peft import LoraConfig, inject_adapter_in_model

        layers = list(range(STAGES - 1 - point["lora_layers"], STAGES - 1))
        settings = LoraConfig(
            r=point["lora_r"], lora_alpha=point["lora_alpha"], lora_dropout=point["lora_dropout"],
            target_modules=["query", "key", "value", "attention.output.dense"], layers_to_transform=layers, layers_pattern="layer",
        )  # fmt: skip
        model.encoder = inject_adapter_in_model(settings, model.encoder)
    else:
        parts = [model.encoder.embeddings, *model.encoder.encoder.layer]
        for part in parts[: point["frozen_layers"]]:
            part.requires_grad_(False)
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    lr = point["lr"]
    optimizer: torch.optim.Optimizer = (
        torch.optim.SGD(trained, lr, momentum=0.9) if point.get("optimizer") == "sgd" else torch.optim.AdamW(trained, lr, weight_decay=0.0)
    )
    with tempfile.TemporaryDirectory() as folder:
        trainer = Trainer(
            model=model,
            args=TrainingArguments(
                output_dir=folder, per_device_train_batch_size=point["batch_size"], per_device_eval_batch_size=64,
                num_train_epochs=point["epochs"],
                lr_scheduler_type="constant", eval_strategy="epoch", save_strategy="no", report_to=[], use_cpu=True, disable_tqdm=True,
                logging_strategy="no", seed=seed, dataloader_pin_memory=False,
            ),
            train_dataset=sets["train"],
            eval_dataset=sets["validation"],
            data_collator=DataCollatorWithPadding(tokenizer),
            compute_metrics=lambda found: {"accuracy": float((np.asarray(found.predictions).argmax(1) == found.label_ids).mean())},
            optimizers=(optimizer, torch.optim.lr_scheduler.LambdaLR(optimizer, lambda _: 1.0)),
        )  # fmt: skip
        trainer.train()
        accuracies = [entry["eval_accuracy"] for entry in trainer.state.log_history if "eval_accuracy" in entry]
    return float(accuracies[-1])


def _mean_pooled(weights: str, classes: int) -> Any:
    """A BERT with the mean over the tokens and a linear layer, as sentence-transformers' models are fine-tuned."""
    import torch
    from torch import Tensor, nn
    from transformers import AutoModel

    class MeanPooled(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.encoder = AutoModel.from_pretrained(weights, dtype=torch.float32, add_pooling_layer=False)
            self.classifier = nn.Linear(self.encoder.config.hidden_size, classes)

        def forward(
            self, input_ids: Tensor, attention_mask: Tensor, token_type_ids: Tensor | None = None, labels: Tensor | None = None
        ) -> Any:
            states = self.encoder(input_ids=input_ids, attention_mask=attention_mask, token_type_ids=token_type_ids).last_hidden_state
            mask = attention_mask[..., None].to(states.dtype)
            logits = self.classifier((states * mask).sum(1) / mask.sum(1))
            loss = None if labels is None else nn.functional.cross_entropy(logits, labels)
            return {"loss": loss, "logits": logits}

    return MeanPooled()


if __name__ == "__main__":
    main()
