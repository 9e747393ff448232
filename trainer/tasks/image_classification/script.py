"""Writes the Python file that trains an exported configuration without Thawline: the template `script.py.in` with the run's values."""

import base64
import binascii
from collections.abc import Iterator
from importlib.resources import files
from string import Template
from typing import Any, assert_never

import trainer.tasks.images.catalogue as catalogue
from trainer.configuration import ListingFacts, LoadedWeights
from trainer.data.images.listing.folders import COPY, READ_ALREADY
from trainer.tasks.capabilities import ExportedRun
from trainer.tasks.image_classification.config import ImageClassificationConfig, ImageClassificationInfo
from trainer.tasks.images.config import IMAGE_SUFFIXES, IMAGENET_MEAN, IMAGENET_STD

ScriptRun = ExportedRun[ImageClassificationConfig, ImageClassificationInfo]


def obstacle(run: ScriptRun) -> str | None:
    """The reason why the template would not train this configuration as the study did; None for a plain configuration."""
    return next((reason for reason, applies in _obstacles(run).items() if applies), None)


def _obstacles(run: ScriptRun) -> dict[str, bool]:
    config, info = run.config, run.info
    listing = info.listing or ListingFacts()
    is_old = info.listing is None or info.normalisation is None
    return {
        "the images are listed in a table": config.data.is_table,
        "the exported file does not state the part of each image, as with more than 100,000 images or a study of version 0.1": (
            is_old or not _part_of_each(run.manifest)
        ),
        "some images are HEIC files, which torchvision does not read": listing.heic,
        "the study left out files that are in the data folder twice": any(one.reason in (COPY, READ_ALREADY) for one in listing.left_out),
        "the study left out files that cannot be read": info.unreadable is not None,
        "some images have more than 8 bits per sample": info.pixel_range is not None,
        f"torchvision has no network {config.model.name}": catalogue.load(config.model.name).family == "small",
        "the weights are only a part of their file, or have other names than torchvision's": (
            config.model.pretrained and not _is_state_dict(info.weights)
        ),
        "the trial was computed in float16, with a scaled loss": _precision(run) == "float16",
        f"the trial was fine-tuned with the method {config.method}": config.method != "full",
        "learning rates differ by stage": config.layer_decay != 1,
        "the last stages started from random values": config.reinit_layers > 0,
        "the loss is weighted by class": config.class_weights != "none",
        "the loss is focal": config.focal_gamma > 0,
        f"the script does not compute the objective {run.metric}": run.metric not in SCORES,
        "an epoch draws the classes equally often": config.sampling != "none",
        "the augmented views of an image repeat": config.augmentation != "none" and 0 < config.augmentation_views < config.epochs,
    }


def _is_state_dict(weights: LoadedWeights | None) -> bool:
    """Whether the file contains the network's tensors under torchvision's names."""
    return weights is not None and not (weights.container or weights.prefix or weights.wrappers)


def script(run: ScriptRun) -> str:
    """A Python file that trains a plain configuration, on one device or under torchrun. Text from users is in it as literals only."""
    template = Template(files(__package__).joinpath("script.py.in").read_text(encoding="utf-8"))
    values = {name: literal(value) for name, value in _values(run)}
    return template.substitute(values, **_expressions(run), **_lines(run))


def _values(run: ScriptRun) -> Iterator[tuple[str, Any]]:
    config, info = run.config, run.info
    listing = info.listing or ListingFacts()
    yield "study", run.study
    yield "trial", run.trial
    yield "metric", run.metric
    yield "data", config.data.path
    yield "folders", listing.folders or (("",),)
    yield "suffixes", " ".join(sorted(suffix[1:] for suffix in IMAGE_SUFFIXES))
    yield "fingerprint", info.fingerprint
    yield "split", info.split
    yield "part_of_each", _part_of_each(run.manifest)
    yield "classes", info.classes
    yield "head", _head(config)
    yield "frozen", frozen_prefixes(config)
    yield "weights", _weights(run)
    yield "weights_sha256", info.weights_sha256
    yield "size", config.image_size
    yield "mean", config.model.mean or IMAGENET_MEAN
    yield "std", config.model.std or IMAGENET_STD
    yield "seed", config.seed
    yield "epochs", config.epochs
    yield "batch_size", config.batch_size
    yield "label_smoothing", config.label_smoothing
    yield "dropout", 0.0 if _has_dropout(config) else config.dropout
    yield "bfloat16", _precision(run) == "bfloat16"


def _part_of_each(manifest: str | None) -> str:
    """The digit of each content's part, in the order of their SHA-256: 0 train, 1 validation, 2 test. Empty without a sound manifest.

    Up to three digits follow for contents that do not exist, since the manifest packs four parts into a byte.
    """
    try:
        packed = base64.b64decode((manifest or "").partition(".")[2], validate=True)
    except (binascii.Error, ValueError):
        return ""
    digits = "".join(str(byte >> bits & 3) for byte in packed for bits in (0, 2, 4, 6))
    return "" if "3" in digits else digits


def _head(config: ImageClassificationConfig) -> tuple[str, ...]:
    """The layers of the head with parameters, in order; the last one is replaced for the task's classes."""
    return tuple(dict.fromkeys(tensor.rpartition(".")[0] for tensor in catalogue.load(config.model.name).head.tensors))


def frozen_prefixes(config: ImageClassificationConfig) -> tuple[str, ...]:
    """Prefixes of the names of all frozen tensors; the prefix of a module ends with a dot."""
    prefixes = dict[str, None]()
    for stage in catalogue.load(config.model.name).stages[: config.frozen_layers]:
        for tensor in stage.tensors:
            prefixes[_prefix(tensor, stage.name)] = None
    return tuple(prefixes)


def _prefix(tensor: str, stage: str) -> str:
    """The stage if it is a module with the tensor, else the layer with the tensor, else the name of the tensor itself."""
    if tensor.startswith(f"{stage}."):
        return f"{stage}."
    owner, _, name = tensor.rpartition(".")
    return f"{owner}." if name in ("weight", "bias", "running_mean", "running_var", "num_batches_tracked") else tensor


def _weights(run: ScriptRun) -> str | None:
    """The path of the weights file, or torchvision's name of the weights: that of the loaded file if the config has `DEFAULT`."""
    model, loaded = run.config.model, run.info.weights
    if not model.pretrained or model.weights_file is not None:
        return model.weights_file
    return (model.weights if loaded is None or loaded.name is None else loaded.name).rpartition(".")[2]


def _has_dropout(config: ImageClassificationConfig) -> bool:
    """Whether torchvision's network has dropout in its head. The trainer inserts one before the last layer of other networks."""
    return catalogue.load(config.model.name).family in {"efficientnet", "mobilenet_v2", "mobilenet_v3", "squeezenet", "vgg"}


def _precision(run: ScriptRun) -> str | None:
    """The precision of the trial's run, with `auto` resolved."""
    return run.environment.get("precision") if run.config.precision == "auto" else run.config.precision


def literal(value: Any) -> str:
    """The value as a Python literal in ASCII, text in double quotes."""
    match value:
        case tuple():
            items = [literal(item) for item in value]
            return f"({items[0]},)" if len(items) == 1 else f"({', '.join(items)})"
        case str() if '"' not in value and "'" not in value:
            return f'"{ascii(value)[1:-1]}"'
        case _:
            return ascii(value)


AUGMENTATIONS = {
    "none": "[]",
    "flip": "[v2.RandomHorizontalFlip()]",
    "crop": "[v2.RandomResizedCrop(SIZE), v2.RandomHorizontalFlip()]",
    "trivial_augment": "[v2.TrivialAugmentWide()]",
}
OPTIMIZERS = {"sgd": "torch.optim.SGD", "rmsprop": "torch.optim.RMSprop", "adam": "torch.optim.Adam", "adamw": "torch.optim.AdamW"}
SCORES = {
    "accuracy": "(outputs.argmax(1) == labels).double().mean()",
    "precision": "(hits / found.clamp(min=1))[actual + found > 0].mean()",
    "recall": "(hits / actual.clamp(min=1))[actual + found > 0].mean()",
    "f1": "(2 * hits / (actual + found).clamp(min=1))[actual + found > 0].mean()",
    "loss": "nn.functional.cross_entropy(outputs, labels)",
}
"""Precision, recall and F1 are means over the classes that occur or were predicted."""
COUNTS = """\
    predicted = outputs.argmax(1)
    hits, actual, found = (torch.bincount(x, minlength=len(CLASSES)).double() for x in (labels[labels == predicted], labels, predicted))
"""


def _expressions(run: ScriptRun) -> dict[str, str]:
    config, family = run.config, catalogue.load(run.config.model.name).family
    network = f'{{"name": {literal(config.model.name)}, "num_classes": len(CLASSES)'
    network += f', "dropout": {config.dropout!r}' if _has_dropout(config) else ', "image_size": SIZE' if family == "vit" else ""
    adam = config.optimizer in ("adam", "adamw")
    own = f'"betas": ({config.beta1!r}, {config.beta2!r})' if adam else f'"momentum": {config.momentum!r}'
    return {
        "network": network + "}",
        "augmentation": AUGMENTATIONS[config.augmentation],
        "optimizer": OPTIMIZERS[config.optimizer],
        "options": f'{{"lr": {config.lr!r}, {own}, "weight_decay": {config.weight_decay!r}}}',
        "metric_value": SCORES[run.metric],
    }


PUBLISHED = """\
    published = models.get_model_weights(NETWORK["name"])[weights]
    if WEIGHTS_SHA256[:8] not in published.url:
        sys.exit(f"{published} are not the weights of the study")
    state = published.get_state_dict(check_hash=True)
"""
STATE_DICT = """\
    if hashlib.sha256(Path(weights).read_bytes()).hexdigest() != WEIGHTS_SHA256:
        sys.exit(f"{weights} is not the weights file of the study")
    state = torch.load(weights, map_location="cpu", weights_only=True)
"""
SAFETENSORS = """\
    if hashlib.sha256(content := Path(weights).read_bytes()).hexdigest() != WEIGHTS_SHA256:
        sys.exit(f"{weights} is not the weights file of the study")
    types = {"F64": torch.float64, "F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16, "I64": torch.int64}
    start, state = 8 + int.from_bytes(content[:8], "little"), {}  # safetensors: the header's length, the header, the tensors
    for name, entry in json.loads(content[8:start]).items():
        if name != "__metadata__":
            first, end = (start + offset for offset in entry["data_offsets"])
            state[name] = torch.frombuffer(bytearray(content[first:end]), dtype=types[entry["dtype"]]).reshape(entry["shape"])
"""
NEW = """\
    new = [layer for layer in HEAD if layer == HEAD[-1] or not state.get(f"{layer}.weight", torch.tensor(math.nan)).isfinite().all()]
"""
LOAD = """\
    state |= {name: tensor for name, tensor in model.state_dict().items() if name.rpartition(".")[0] in new}
    model.load_state_dict(STATE)
"""
POSITIONS = "models.vision_transformer.interpolate_embeddings(SIZE, model.patch_size, state)"
LOW_HIGH = "LOW, HIGH = {low}, {high}  # the test score of one run with a fresh seed is between them in 95 of 100 cases"
REACHED = "REACHED = {value}  # by the trial on the validation images: the best of many, and not confirmed"
WITHIN = """\
    within = LOW <= scores["test"][METRIC] <= HIGH
    print(f"test {METRIC} {scores['test'][METRIC]:.4f}: {'within' if within else 'OUTSIDE'} the interval {LOW:.4f} to {HIGH:.4f}")
    sys.exit(0 if within else 1)
"""
NOISE = """\
    print(f"validation {METRIC} {scores['validation'][METRIC]:.4f}; the trial had {REACHED:.4f}, and another seed differs by its noise")
"""


def _lines(run: ScriptRun) -> dict[str, str]:
    """The lines that depend on the weights, on the schedule, and on whether the study confirmed the configuration."""
    if run.single_run is None:
        agreement = {"noise": "the noise of another seed", "stated": REACHED.format(value=literal(run.reached)), "judge": NOISE}
    else:
        low, high = run.single_run
        agreement = {
            "noise": "the interval from LOW to HIGH",
            "stated": LOW_HIGH.format(low=literal(low), high=literal(high)),
            "judge": WITHIN,
        }
    counts = "" if run.metric in ("accuracy", "loss") else COUNTS
    return {**agreement, "score": counts, "load": _load(run), "schedule": _schedule(run.config)}


WARMUP = """\
    {names} = {steps}round({warmup!r} * EPOCHS * len(loader))
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimizer, lambda step: {rise} if step < warmup else {fall}
    )
"""


def _schedule(config: ImageClassificationConfig) -> str:
    """The schedule of the learning rate, as `trainer.optimization.lr_at` defines it."""
    rise, fall, warmup = "(step + 1) / warmup", "1.0", config.warmup_fraction or (0.3 if config.schedule == "one_cycle" else 0.0)
    cosine = f"math.cos(math.pi / 2 * {'(step - warmup) / (steps - warmup or 1)' if warmup else 'step / len(loader) / EPOCHS'}) ** 2"
    match config.schedule:
        case "constant":
            pass
        case "step":
            fall = f"{config.lr_gamma!r} ** (step // len(loader) // {config.lr_step_epochs})"
        case "cosine":
            fall = cosine
        case "one_cycle":
            rise, fall = "0.04 + 0.96 * step / warmup", f"max(4e-6, {cosine})"
        case _:
            assert_never(config.schedule)
    if not warmup:
        return f"    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: {fall})\n"
    names, steps = ("steps, warmup", "EPOCHS * len(loader), ") if "steps" in fall else ("warmup", "")
    return WARMUP.format(names=names, steps=steps, warmup=warmup, rise=rise, fall=fall)


def _load(run: ScriptRun) -> str:
    model, loaded = run.config.model, run.info.weights
    if loaded is None:
        return ""
    read = PUBLISHED if model.weights_file is None else SAFETENSORS if loaded.format == "safetensors" else STATE_DICT
    state = POSITIONS if catalogue.load(model.name).family == "vit" else "state"
    return read + (NEW if len(_head(run.config)) > 1 else "") + LOAD.replace("STATE", state)
