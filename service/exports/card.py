"""The model card of an exported configuration."""

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import PurePath
from types import MappingProxyType
from typing import Any

from service.domain.export import Exported
from service.domain.verdict import Estimate, constant_of
from service.exports.configuration import obstacle, thinned
from trainer.configuration import DataConfig, DatasetInfo, counted
from trainer.protocol import Finished
from trainer.tasks.base import Metric, TaskSpec
from trainer.tasks.capabilities import CardData, CardTable, ModelCard, NamesWrongExamples, TrainingScript, methods_of
from trainer.tasks.registry import spec_of


def score(metric: Metric | None, value: float) -> str:
    """A value as text, in percent if the metric is a share. `metric` is None for a number that is not a metric of the task."""
    return f"{100 * value:.2f} %" if metric is not None and metric.is_share else f"{value:.4g}"


def interval(metric: Metric | None, estimate: Estimate | None) -> str:
    """An estimate as text, with its interval."""
    if estimate is None:
        return "not known"
    return f"{score(metric, estimate.value)} ({score(metric, estimate.low)} to {score(metric, estimate.high)})"


def difference(metric: Metric | None, estimate: Estimate | None) -> str:
    """A difference with its interval, in percentage points if the metric is a share."""
    return (
        "not known"
        if estimate is None
        else f"{gain(metric, estimate.value)} ({gain(metric, estimate.low)} to {gain(metric, estimate.high)})"
    )


def gain(metric: Metric | None, value: float) -> str:
    """A difference of two values with its sign, in percentage points if the metric is a share."""
    return f"{100 * value:+.2f} points" if metric is not None and metric.is_share else f"{value:+.4g}"


def size(count: float) -> str:
    """A number of bytes as text, with a decimal unit."""
    for unit in ("B", "kB", "MB"):
        if count < 1000:
            return f"{count:.0f} {unit}"
        count /= 1000
    return f"{count:.1f} GB"


# Characters with a meaning in Markdown or HTML, and the slash after a colon, without which no renderer links an address.
SPECIAL = re.compile(r"([\\`*_\[\]<>|#~&!@$]|(?<=:)/)")
LONGEST = 200  # characters of a text in a heading or a table
LONGEST_SENTENCE = 2_000
BARS = "▁▂▃▄▅▆▇█"


def plain(text: object, longest: int = LONGEST) -> str:
    """The text in one line of at most `longest` characters, escaped for Markdown and HTML."""
    flat = "".join(character if character.isprintable() else " " for character in str(text))
    short = flat if len(flat) <= longest else flat[: longest - 1] + "…"
    return SPECIAL.sub(r"\\\1", short).replace("www.", r"www\.").strip()


def table(heads: Sequence[object], rows: Iterable[Sequence[object]]) -> str:
    """A Markdown table of plain texts. Columns after the first are right-aligned."""
    rule = "|".join([":---", *["---:"] * (len(heads) - 1)])
    return "\n".join([_row(heads), f"|{rule}|", *map(_row, rows)])


def _row(cells: Sequence[object]) -> str:
    return "| " + " | ".join(map(plain, cells)) + " |"


def bullets(items: Iterable[object]) -> str:
    """A Markdown list of plain texts."""
    return "\n".join(f"- {plain(item, LONGEST_SENTENCE)}" for item in items)


def sparkline(values: Sequence[float]) -> str:
    """One bar per value, with eight heights from the smallest value to the largest."""
    low, high = min(values) / 2, max(values) / 2  # halves, because the difference of two finite floats may overflow
    return "".join(BARS[round((value / 2 - low) / (high - low) * 7) if high > low else 0] for value in values)


LONGEST_OPENING = 10_000  # characters; an opening may list names
MOST_POINTS = 12  # epochs in the table of the learning curve


def card(exported: Exported, trained: Finished | None = None, report: Mapping[str, Any] = MappingProxyType({})) -> str:
    """The model card as Markdown. `trained` is the run of the model that it describes; None for a card of the configuration alone.

    `report` is that of the trial on the validation examples. The card has the texts of its most wrong ones.
    """
    title = f"# {plain(exported.training.model.name)} fine-tuned: {plain(exported.origin.study_name)}"
    sections = [
        title,
        f"**{plain(exported.note, LONGEST_SENTENCE)}**",
        *_worth(exported),
        *_this_model(exported, trained),
        *_data(exported),
    ]
    sections += [
        *_configuration(exported),
        *_curve(exported),
        *_results(exported),
        *_most_wrong(exported, report),
        *_environment(exported),
        *_reproduction(exported),
        *_use(exported),
        *_loading(exported),
    ]
    return "\n\n".join(sections) + "\n"


def _worth(exported: Exported) -> Iterator[str]:
    yield "## What to expect"
    metric, reached, confirmed = exported.reached.objective.metric, exported.reached, exported.confirmed
    measure, examples = _measure(exported), f"{_task(exported).example}s"
    if confirmed is None:
        found = score(measure, reached.value)
        yield (
            f"Trial {exported.origin.trial} reached {metric} {found} on the validation {examples} that chose it. "
            f"Expect {'less' if reached.objective.direction == 'maximize' else 'a higher value, which is worse,'} on new {examples}."
        )
        yield from _constant(exported)
        return
    yield bullets(confirmed.words)
    optimism = "not known" if confirmed.optimism is None else gain(measure, confirmed.optimism.value)
    rows = [
        (
            f"{metric}, mean over {confirmed.seeds} seeds, on {counted(confirmed.test_images, f'test {_task(exported).example}')}",
            interval(measure, confirmed.expected),
        ),
        (f"the same for new {examples} of the same kind", interval(measure, confirmed.new_images)),
        ("where one more run with a fresh seed falls", interval(measure, confirmed.single_run)),
        (f"uplift over the baseline, on these test {examples}", difference(measure, confirmed.uplift)),
        (f"uplift over the baseline, on new {examples}", difference(measure, confirmed.uplift_new_images)),
        ("how much better the best of the search looked (optimism)", optimism),
        (
            "did tuning help (the recommended configuration against the baseline)",
            {None: "not known", "yes": "yes", "no": "no", "unclear": "unclear"}[confirmed.helped],
        ),
    ]
    yield table(("", "value (95 % interval)"), rows)
    yield (
        "The configurations that were compared; those marked `=` cannot be told apart from the best by a paired t test, "
        "whose 5 % are divided among all comparisons with the best."
    )
    yield table(("trial", "runs", metric, "behind the best", ""), _arms(exported))


def _measure(exported: Exported) -> Metric:
    """The metric of the objective."""
    return _task(exported).metrics[exported.reached.objective.metric]


def _constant(exported: Exported) -> Iterator[str]:
    """The score of the best constant prediction, for a result without confirmation. The sentences of a verdict include it."""
    reached = exported.reached
    if (found := constant_of(exported.facts, "validation", reached.objective.metric)) is not None:
        yield plain(" ".join(filter(None, (found.score.sentence, found.judged(reached.value)))), LONGEST_SENTENCE)


def _arms(exported: Exported) -> Iterator[tuple[object, ...]]:
    measure, confirmed = _measure(exported), exported.confirmed
    for arm in confirmed.arms if confirmed else ():
        marks = [
            ("baseline", arm.baseline),
            ("=", arm.tied),
            ("recommended", arm.trial == exported.origin.trial),
            ("failed", arm.failed is not None),
        ]
        behind = "" if arm.behind is None else difference(measure, arm.behind)
        mean = "-" if arm.mean is None else interval(measure, arm.mean)
        yield arm.trial, len(arm.test), mean, behind, ", ".join(mark for mark, holds in marks if holds)


def _this_model(exported: Exported, trained: Finished | None) -> Iterator[str]:
    if trained is None:
        return
    metric, measure = exported.reached.objective.metric, _measure(exported)
    yield "## This model"
    rows = [("validation", score(measure, trained.metrics[metric]))] if metric in trained.metrics else []
    if trained.test is not None:
        rows.append(("test", score(measure, trained.test.metrics[metric])))
    rows += [("seconds of training this model", f"{trained.train_seconds:.1f}"), ("peak memory of that", size(trained.peak_memory))]
    if trained.device_memory is not None:
        rows.append(("memory of the GPU that is needed, about", size(trained.device_memory)))
    yield table((f"{_task(exported).example}s", metric), rows)
    if (within := is_within(exported, trained)) is not None:
        yield f"The test score lies {'within' if within else '**outside**'} the stated interval of one run."


def is_within(exported: Exported, trained: Finished) -> bool | None:
    """Whether the run's test score lies in the stated interval of a single run; None without such an interval or score."""
    if exported.confirmed is None or exported.confirmed.single_run is None or trained.test is None:
        return None
    stated, reached = exported.confirmed.single_run, trained.test.metrics[exported.reached.objective.metric]
    return stated.low <= reached <= stated.high


def _data(exported: Exported) -> Iterator[str]:
    facts, data, described, example = exported.facts, exported.training.data, _card_data(exported), _task(exported).example
    yield "## Data"
    yield plain(described.opening, LONGEST_OPENING)
    yield table(("part", f"{example}s"), [(part, facts.sizes.get(part, 0)) for part in ("train", "validation", "test")])
    yield from _blocks(described.counts)
    yield bullets(
        [
            f"From {PurePath(data.path).name}{_drawn(facts, data, described.split)}.",
            *(facts.listing.sentences() if facts.listing else ()),
            f"Fingerprint (SHA-256): {facts.fingerprint}",
            *described.notes,
            *facts.notes,
        ]
    )


def _task(exported: Exported) -> TaskSpec:
    return spec_of(exported.config.task)


def _card_data(exported: Exported) -> CardData:
    """The task's sections on data and model."""
    task = _task(exported)
    if isinstance(task, ModelCard):
        return task.card_data(exported.training, exported.facts)
    return CardData(opening=f"Task: {task.name}.")


def _blocks(blocks: Iterable[str | CardTable]) -> Iterator[str]:
    for block in blocks:
        yield table(block.heads, block.rows) if isinstance(block, CardTable) else plain(block, LONGEST_SENTENCE)


def _drawn(facts: DatasetInfo, data: DataConfig, split: str) -> str:
    """The split of the parts that the data does not define itself; empty if it defines all of them."""
    given = facts.listing.given if facts.listing else ()
    if "validation" in given and ("test" in given or data.test == 0):
        return ""
    return f", {'the rest ' if given else ''}split by {split} with seed {data.seed}"


def _configuration(exported: Exported) -> Iterator[str]:
    config, searched = exported.training, exported.origin.params
    yield "## Configuration"
    rows: list[tuple[object, ...]] = [
        ("model", config.model.name, ""),
        ("weights", _weights(exported), ""),
        *((name, value, "") for name, value in _card_data(exported).model),
    ]
    fields, methods = _task(exported).Hyperparameters.model_fields, methods_of(_task(exported))
    unused = {
        name for name in methods.settings if any(getattr(config, other) not in of for other, of in methods.conditions.get(name, {}).items())
    }
    hidden = {"compile", *unused}
    names = [name for name in fields if name in searched or name not in hidden or getattr(config, name) != fields[name].default]
    rows += [(name, getattr(config, name), "yes" if name in searched else "") for name in names]
    yield table(("", "value", "searched"), rows)


def _weights(exported: Exported) -> str:
    weights, sha256 = exported.training.model.weights, exported.facts.weights_sha256
    if not exported.training.model.pretrained:
        return "random"
    loaded = exported.facts.weights
    taken = ([f"{loaded.name}"] if loaded and loaded.name else []) + (
        [f"key {'.'.join(loaded.container)}"] if loaded and loaded.container else []
    )
    named = [*taken, *([f"SHA-256 {sha256}"] if sha256 else [])]
    return PurePath(weights).name + (f" ({', '.join(named)})" if named else "")


def _curve(exported: Exported) -> Iterator[str]:
    metric = exported.reached.objective.metric
    if not exported.curve:
        return
    values = [point.metrics[metric] for point in exported.curve]
    yield "## Learning curve"
    yield f"Of trial {exported.origin.trial}, on the validation {_task(exported).example}s."
    yield f"```text\n{metric} {sparkline(values)} {score(_measure(exported), values[-1])}\n```"
    shown = [exported.curve[place] for place in thinned(values, MOST_POINTS)]
    metrics = _task(exported).metrics
    names = [name for name in dict.fromkeys((metric, "loss", "train_loss", "lr")) if any(name in point.metrics for point in shown)]
    rows = [(point.step, *(_cell(metrics.get(name), point.metrics.get(name)) for name in names)) for point in shown]
    yield table(("epoch", *names), rows)


def _cell(metric: Metric | None, value: float | None) -> str:
    return "" if value is None else score(metric, value)


def _results(exported: Exported) -> Iterator[str]:
    """The task's section on the reports of runs."""
    confirmed, task = exported.confirmed, _task(exported)
    if not isinstance(task, ModelCard):
        return
    section = None
    if confirmed is not None:
        where = f"over {confirmed.seeds} runs, on the test {task.example}s"
        section = task.card_results(exported.facts, confirmed.summary, where)
    if section is None:
        where = f"of trial {exported.origin.trial}, on the validation {task.example}s"
        section = task.card_results(exported.facts, exported.summary, where)
    if section is not None:
        yield f"## {plain(section.title)}"
        yield from _blocks(section.blocks)


def _most_wrong(exported: Exported, report: Mapping[str, Any]) -> Iterator[str]:
    task = _task(exported)
    if isinstance(task, NamesWrongExamples) and (section := task.card_examples(report)) is not None:
        yield f"## {plain(section.title)}"
        yield f"Of trial {exported.origin.trial}, on the validation {task.example}s."
        yield from _blocks(section.blocks)


USE = """```sh
thaw predict model/ INPUT --out predictions.csv         # INPUT: examples without targets, as the study's data but for the target
thaw convert model/ --to onnx                           # model.onnx, checked against the model; needs the extra onnx
thaw convert model/ --to int8 --data path=LABELLED      # model.int8.onnx, with its loss of the metric
```"""


def _use(exported: Exported) -> Iterator[str]:
    if _card_data(exported).predicts:
        yield "## How to use it"
        yield f"With `model/`, the folder that `thaw train` wrote:\n\n{USE}"


def _loading(exported: Exported) -> Iterator[str]:
    task = _task(exported)
    if isinstance(task, ModelCard) and (code := task.card_data(exported.training, exported.facts).loading):
        yield "## How to load it"
        yield f"`model/` is the folder that `thaw train` wrote.\n\n```python\n{code.rstrip()}\n```"


def _environment(exported: Exported) -> Iterator[str]:
    yield "## Environment"
    versions = {name: version for name, version in exported.lock.items() if name not in exported.environment}
    yield table(("", "version or value"), sorted({**exported.environment, **versions}.items()))
    if (cost := exported.cost) is not None:
        spent = f"in {cost.train_seconds:.1f} seconds, with {size(cost.peak_memory)} of memory"
        yield f"Trial {exported.origin.trial} trained {counted(cost.trainable, 'parameter')}, {spent}."


def _reproduction(exported: Exported) -> Iterator[str]:
    study, task = "STUDY", _task(exported)
    lines = [
        f"thaw best {study} -o best.yaml                        # the configuration, with all that is said here",
        f"thaw train best.yaml --out model/                    # refuses other {task.example}s and other weights; the trial's metric again",
        "thaw verify best.yaml                                # a fresh seed: does the test score fall where it should?",
        f"thaw best {study} --format requirements -o requirements.txt",
    ]
    if isinstance(task, TrainingScript) and (reason := obstacle(exported)) is None:
        lines += [
            f"thaw best {study} --format python -o train.py         # needs {task.script_needs} alone",
            "python train.py                                      # agrees within the noise of another seed",
            "torchrun --nproc-per-node 4 train.py                 # on four GPUs: each batch is divided among them",
        ]
    elif isinstance(task, TrainingScript):
        lines += [f"thaw best {study} --format python -o train.py         # one file that uses Thawline: {reason}", "python train.py"]
    yield "## How to make it again"
    yield "\n".join(("```sh", *lines, "```"))
    yield f"`{study}` is {plain(exported.origin.study)}, or the name of the study."
