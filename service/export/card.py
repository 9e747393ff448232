"""The model card (Mitchell et al. 2019): what a model is for, what it was made of, what it is worth, and how to make it again."""

from collections.abc import Iterator
from pathlib import PurePath

from service.domain.export import ByClass, Exported
from service.domain.thinning import thinned
from service.export import figures
from service.export.markdown import LONGEST_SENTENCE, bullets, plain, sparkline, table
from trainer.contract import Finished, Hyperparameters, NearDuplicates

MOST_IN_A_MATRIX = 20  # classes
MOST_POINTS = 12  # epochs in the table of the learning curve


def card(exported: Exported, trained: Finished | None = None) -> str:
    """A Markdown document. `trained` is the run of the model that the card lies beside; None when it goes with the configuration alone."""
    title = f"# {plain(exported.config.model.name)} fine-tuned: {plain(exported.origin.study_name)}"
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
        *_classes(exported, trained),
        *_environment(exported),
        *_reproduction(exported),
    ]
    return "\n\n".join(sections) + "\n"


def _worth(exported: Exported) -> Iterator[str]:
    yield "## What to expect"
    metric, reached, confirmed = exported.reached.objective.metric, exported.reached, exported.confirmed
    if confirmed is None:
        found = figures.score(metric, reached.value)
        yield f"Trial {exported.origin.trial} reached {metric} {found} on the validation images that chose it. Expect less on new images."
        return
    yield bullets(confirmed.words)
    optimism = "not known" if confirmed.optimism is None else figures.gain(metric, confirmed.optimism.value)
    rows = [
        (
            f"{metric}, mean over {confirmed.seeds} seeds, on {confirmed.test_images} test images",
            figures.interval(metric, confirmed.expected),
        ),
        ("the same for new images of the same kind", figures.interval(metric, confirmed.new_images)),
        ("where one more run with a fresh seed falls", figures.interval(metric, confirmed.single_run)),
        ("uplift over the baseline, on these test images", figures.difference(metric, confirmed.uplift)),
        ("uplift over the baseline, on new images", figures.difference(metric, confirmed.uplift_new_images)),
        ("how much better the best of the search looked (optimism)", optimism),
        ("did tuning help", {None: "not known", "yes": "yes", "no": "no", "unclear": "unclear"}[confirmed.helped]),
    ]
    yield table(("", "value (95 % interval)"), rows)
    yield "The configurations that were compared; those marked `=` cannot be told apart from the best."
    yield table(("trial", "runs", metric, "behind the best", ""), _arms(exported))


def _arms(exported: Exported) -> Iterator[tuple[object, ...]]:
    metric, confirmed = exported.reached.objective.metric, exported.confirmed
    for arm in confirmed.arms if confirmed else ():
        marks = [
            ("baseline", arm.baseline),
            ("=", arm.tied),
            ("recommended", arm.trial == exported.origin.trial),
            ("failed", arm.failed is not None),
        ]
        behind = "" if arm.behind is None else figures.difference(metric, arm.behind)
        mean = "-" if arm.mean is None else figures.interval(metric, arm.mean)
        yield arm.trial, len(arm.test), mean, behind, ", ".join(word for word, holds in marks if holds)


def _this_model(exported: Exported, trained: Finished | None) -> Iterator[str]:
    if trained is None:
        return
    metric = exported.reached.objective.metric
    yield "## This model"
    rows = [("validation", figures.score(metric, trained.metrics[metric]))] if metric in trained.metrics else []
    if trained.test is not None:
        rows.append(("test", figures.score(metric, trained.test.metrics[metric])))
    rows += [("seconds of training", f"{trained.train_seconds:.1f}"), ("peak memory", figures.size(trained.peak_memory))]
    yield table(("images", metric), rows)
    if (within := is_within(exported, trained)) is not None:
        yield f"The test score lies {'within' if within else '**outside**'} the stated interval of one run."


def is_within(exported: Exported, trained: Finished) -> bool | None:
    """Whether the run's test score falls where the file says that one run falls; None where it says nothing, or nothing was scored."""
    if exported.confirmed is None or exported.confirmed.single_run is None or trained.test is None:
        return None
    stated, reached = exported.confirmed.single_run, trained.test.metrics[exported.reached.objective.metric]
    return stated.low <= reached <= stated.high


def _data(exported: Exported) -> Iterator[str]:
    facts, data = exported.facts, exported.config.data
    yield "## Data"
    yield f"Image classification, {len(facts.classes)} classes: {', '.join(map(plain, facts.classes[:MOST_IN_A_MATRIX]))}" + (
        f" and {len(facts.classes) - MOST_IN_A_MATRIX} more." if len(facts.classes) > MOST_IN_A_MATRIX else "."
    )
    counts = [(part, facts.images.get(part, 0)) for part in ("train", "validation", "test")]
    yield table(("part", "images"), counts)
    yield bullets(
        [
            f"From {PurePath(data.path).name}, split by content within each class with seed {data.seed}.",
            f"Fingerprint (SHA-256): {facts.fingerprint}",
            *_near_duplicates(facts.near_duplicates),
        ]
    )


def _near_duplicates(near: NearDuplicates | None) -> Iterator[str]:
    if near is None:
        yield "Near-duplicates were not looked for."
    elif near.groups == 0:
        yield "No near-duplicates were found."
    else:
        torn = f"a split by content alone would have torn {near.crossing} of them apart"
        mixed = f" {near.mixed} of them have more than one label: look at those images." if near.mixed else ""
        yield f"Near-duplicates: {near.images} images in {near.groups} groups, each kept on one side of the split; {torn}.{mixed}"


def _configuration(exported: Exported) -> Iterator[str]:
    config, searched = exported.config, exported.origin.params
    yield "## Configuration"
    rows: list[tuple[object, ...]] = [("model", config.model.name, ""), ("weights", _weights(exported), "")]
    rows += [(name, getattr(config, name), "yes" if name in searched else "") for name in Hyperparameters.model_fields]
    yield table(("", "value", "searched"), rows)


def _weights(exported: Exported) -> str:
    weights, sha256 = exported.config.model.weights, exported.facts.weights_sha256
    return "random" if weights is None else f"{PurePath(weights).name}" + (f" (SHA-256 {sha256})" if sha256 else "")


def _curve(exported: Exported) -> Iterator[str]:
    metric = exported.reached.objective.metric
    if not exported.curve:
        return
    values = [point.metrics[metric] for point in exported.curve]
    yield "## Learning curve"
    yield f"Of trial {exported.origin.trial}, on the validation images."
    yield f"```text\n{metric} {sparkline(values)} {figures.score(metric, values[-1])}\n```"
    shown = [exported.curve[place] for place in thinned(values, MOST_POINTS)]
    names = [name for name in dict.fromkeys((metric, "loss", "train_loss", "lr")) if any(name in point.metrics for point in shown)]
    yield table(("epoch", *names), [(point.step, *(_cell(name, point.metrics.get(name)) for name in names)) for point in shown])


def _cell(name: str, value: float | None) -> str:
    return "" if value is None else figures.score(name, value)


def _classes(exported: Exported, trained: Finished | None) -> Iterator[str]:
    confirmed = exported.confirmed
    fared, where = exported.by_class, f"of trial {exported.origin.trial}, on the validation images"
    if confirmed is not None and confirmed.by_class is not None:
        fared, where = confirmed.by_class, f"over {confirmed.seeds} runs, on the test images"
    if fared is None:
        return
    yield "## Class by class"
    yield f"Recall {where}."
    yield table(("class", "recall"), [(name, f"{100 * share:.1f} %") for name, share in fared.recall.items()])
    yield from _confusion(exported.facts.classes, fared)


def _confusion(classes: tuple[str, ...], fared: ByClass) -> Iterator[str]:
    if fared.confusion_matrix is not None and len(classes) <= MOST_IN_A_MATRIX:
        yield "Confusion matrix of the same: a row a true class, a column a predicted one."
        yield table(("", *classes), [(name, *row) for name, row in zip(classes, fared.confusion_matrix, strict=True)])
    elif fared.mistakes:
        yield "The most frequent mistakes of the same."
        yield table(("true class", "taken for", "images"), [(one.actual, one.predicted, one.images) for one in fared.mistakes])


def _environment(exported: Exported) -> Iterator[str]:
    yield "## Environment"
    versions = {name: version for name, version in exported.lock.items() if name not in exported.environment}
    yield table(("", "version or value"), sorted({**exported.environment, **versions}.items()))
    if (cost := exported.cost) is not None:
        spent = f"in {cost.train_seconds:.1f} seconds, with {figures.size(cost.peak_memory)} of memory"
        yield f"{cost.trainable:,} parameters were trained, {spent}."


def _reproduction(exported: Exported) -> Iterator[str]:
    study = "STUDY"
    yield "## How to make it again"
    yield f"""```sh
thaw best {study} -o best.yaml                        # the configuration, with all that is said here
thaw train best.yaml --out model/                    # refuses other images and other weights; the trial's metric again
thaw verify best.yaml                                # a fresh seed: does the test score fall where it should?
thaw best {study} --format requirements -o requirements.txt
thaw best {study} --format python -o train.py         # needs torch and torchvision alone
python train.py
torchrun --nproc-per-node 4 train.py                 # on four GPUs: each batch is divided among them
```"""
    yield f"`{study}` is {plain(exported.origin.study)}, or the name of the study."
