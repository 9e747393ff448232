"""The exported script: which configurations are plain, what the script of one does, and the script of another that needs Thawline."""

import ast
import dataclasses
import itertools
import json
import os
import shutil
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision.models import get_model

from service.domain.export import Exported, Origin
from service.exports.configuration import obstacle, requirements, run_of, script
from tests.export.conftest import NOTHING, SIZE, exported_of, found_of, module_of, weights_of
from trainer.configuration import LeftOut, ListingFacts, LoadedWeights
from trainer.data.images import decoding
from trainer.data.images.dataset import find
from trainer.data.images.listing.folders import COPY, HIDDEN, READ_ALREADY
from trainer.loop import train
from trainer.protocol import Finished
from trainer.tasks.image_classification.config import ImageClassificationConfig
from trainer.tasks.image_classification.script import script as plain_script
from trainer.tasks.image_classification.task import TASK
from trainer.tasks.images.config import Columns, ImageData, ImageExamples, ImageModel, PixelRange

Config = Callable[..., ImageClassificationConfig]
PARTS = ("train", "validation", "test")
FILE = LoadedWeights(format="safetensors")
LEFT_OUT = {reason: ListingFacts(left_out=(LeftOut(reason=reason, count=1),)) for reason in (COPY, READ_ALREADY, HIDDEN)}
OF_A_FILE = ImageModel(name="resnet18", weights="/w/a.safetensors")

PLAIN: Mapping[str, tuple[Mapping[str, Any], Mapping[str, Any]]] = {
    "random weights": ({}, {}),
    "published weights": ({"model": ImageModel(name="vit_b_16", weights="DEFAULT")}, {"weights": LoadedWeights(format="torch")}),
    "a weights file": ({"model": OF_A_FILE}, {"weights": FILE}),
    "frozen stages": ({"frozen_layers": 4}, {}),
    "dropout and label smoothing": ({"dropout": 0.2, "label_smoothing": 0.1}, {}),
    "flipped": ({"augmentation": "flip"}, {}),
    "cropped": ({"augmentation": "crop"}, {}),
    "trivial augment": ({"augmentation": "trivial_augment"}, {}),
    "as many views as epochs": ({"augmentation": "flip", "augmentation_views": 3}, {}),
    "bfloat16": ({"precision": "bfloat16"}, {}),
    "tf32": ({"precision": "tf32"}, {}),
    "one cycle": ({"schedule": "one_cycle", "optimizer": "sgd"}, {}),
    "the data's own split": ({}, {"listing": ListingFacts(given=("train", "test"), folders=(("train", "train"), ("test", "test")))}),
    "hidden files": ({}, {"listing": LEFT_OUT[HIDDEN]}),
    "skipping unreadable files, of which there are none": ({"data": ImageData(path="/d", unreadable="skip")}, {}),
}
NOT_PLAIN: Mapping[str, tuple[Mapping[str, Any], Mapping[str, Any]]] = {
    "the images are listed in a table": ({"data": ImageData(path="/d.csv")}, {}),
    "does not state the part of each image": ({}, {"listing": None}),
    "HEIC": ({}, {"listing": ListingFacts(heic=True)}),
    "in the data folder twice": ({}, {"listing": LEFT_OUT[COPY]}),
    "files that are in the data folder twice": ({}, {"listing": LEFT_OUT[READ_ALREADY]}),
    "files that cannot be read": ({"data": ImageData(path="/d", unreadable="skip")}, {"unreadable": ImageExamples(count=1)}),
    "more than 8 bits": ({}, {"pixel_range": PixelRange(low=0, high=4095, source="bit_depth")}),
    "no network small_cnn": ({"model": ImageModel(name="small_cnn")}, {}),
    "a part of their file": ({"model": OF_A_FILE}, {"weights": LoadedWeights(format="torch", container=("model",))}),
    "other names than torchvision's": ({"model": OF_A_FILE}, {"weights": LoadedWeights(format="torch", prefix="backbone.")}),
    "part of their file, or have other names": ({"model": OF_A_FILE}, {"weights": None}),
    "float16, with a scaled loss": ({"precision": "float16"}, {}),
    "weighted by class": ({"class_weights": "balanced"}, {}),
    "draws the classes equally often": ({"sampling": "balanced"}, {}),
    "views of an image repeat": ({"augmentation": "crop", "augmentation_views": 2}, {}),
}


def case(config: Config, changes: tuple[Mapping[str, Any], Mapping[str, Any]], **more: Any) -> Exported:
    of_config, of_facts = changes
    return exported_of(config(**of_config), NOTHING.model_copy(update={"weights_sha256": "1" * 64, **of_facts}), **more)


@pytest.mark.parametrize("name", PLAIN)
def test_a_plain_configuration_has_a_script_without_thawline(name: str, config: Config) -> None:
    exported = case(config, PLAIN[name])
    assert obstacle(exported) is None
    assert imports(script(exported)) == PLAIN_IMPORTS
    assert "scripts that import it" in requirements(exported.model_copy(update={"lock": {"thawline": "0.1.0"}}))


@pytest.mark.parametrize("reason", NOT_PLAIN)
def test_another_configuration_has_a_short_script_that_says_why_it_needs_thawline(reason: str, config: Config) -> None:
    exported = case(config, NOT_PLAIN[reason])
    assert reason in str(obstacle(exported))
    text = script(exported)
    assert reason in text.partition("import")[0] and imports(text) == {"sys", "tempfile", "pathlib", "service"}
    assert len([line for line in text.partition('"""\n\n')[2].splitlines() if line]) <= 10


@pytest.mark.parametrize("manifest", [None, "AAAA", "AAAA.A", "AAAA.////"])
def test_without_a_sound_manifest_a_configuration_is_not_plain(manifest: str | None, config: Config) -> None:
    assert "part of each image" in str(obstacle(exported_of(config(), manifest=manifest)))


PLAIN_IMPORTS = {"argparse", "glob", "hashlib", "json", "math", "os", "sys", "pathlib", "torch", "PIL", "torchvision"}


def imports(text: str) -> set[str]:
    nodes = [node for node in ast.walk(ast.parse(text)) if isinstance(node, ast.Import | ast.ImportFrom)]
    return {name.partition(".")[0] for node in nodes for name in _names(node)}


def _names(node: ast.Import | ast.ImportFrom) -> list[str]:
    return [alias.name for alias in node.names] if isinstance(node, ast.Import) else [node.module or ""]


SOURCES: Mapping[str, tuple[str, str]] = {
    "safetensors": ("/w/a.safetensors", "safetensors"), "torch": ("/w/a.pth", "torch"), "published": ("IMAGENET1K_V1", "torch"),
}  # fmt: skip
RATES: tuple[Mapping[str, Any], ...] = ({}, {"schedule": "cosine"}, {"schedule": "one_cycle"}, {"schedule": "step", "warmup_fraction": 0.1})


def test_no_plain_script_is_longer_than_150_lines_or_uses_an_undefined_name(config: Config, tmp_path: Path) -> None:
    longest = 0
    names = itertools.product(("vgg16", "vit_b_16", "swin_t", "resnet18"), SOURCES, ("f1", "accuracy", "loss"), RATES, ((0.9, 0.95), None))
    for number, (model, source, metric, rate, interval) in enumerate(names):
        weights, form = SOURCES[source]
        chosen = config(model=ImageModel(name=model, weights=weights), dropout=0.1, frozen_layers=2, augmentation="crop", **rate)
        facts = NOTHING.model_copy(update={"weights_sha256": "1" * 64, "weights": LoadedWeights(format=form)})
        exported = exported_of(chosen, facts, metric=metric)
        text = plain_script(dataclasses.replace(run_of(exported), single_run=interval))
        longest = max(longest, len(text.splitlines()))
        (tmp_path / f"train_{number}.py").write_text(text)
    assert 130 < longest <= 150
    ruff = [str(Path(sys.executable).parent / "ruff"), "check", "--isolated", "--target-version", "py310", "--line-length", "140"]
    checked = subprocess.run(
        [*ruff, "--select", "E,F,I,W,B,C4,RET", "--ignore", "B905,B023,E501", tmp_path], capture_output=True, text=True
    )
    assert checked.returncode == 0, checked.stdout


def files_of(config: ImageClassificationConfig) -> dict[str, Counter[tuple[str, int]]]:
    """The files and classes that a run of the trainer uses, by part."""
    contents = find(config.data).contents
    return {p: Counter((str(f.file), one.label) for one in contents if one.part == p for f in one.files) for p in PARTS}


def found_by(made: ModuleType, path: str) -> dict[str, Counter[tuple[str, int]]]:
    """The same of the script."""
    examples = made.find_images(path)
    assert all(example[2] == part for part in examples for example in examples[part])
    return {part: Counter((str(file), label) for file, label, _ in examples[part]) for part in examples}


def test_the_script_uses_the_images_of_the_study_in_the_same_parts(config: Config, photographs: Path) -> None:
    chosen = config(data=ImageData(path=str(photographs), validation=0.2, test=0.3, seed=4))
    found = found_by(module_of(found_of(chosen)), str(photographs))
    assert found == files_of(chosen)
    assert [sum(found[part].values()) for part in PARTS] == [sum(files_of(chosen)[part].values()) for part in PARTS]
    assert sum(map(len, found.values())) == 121 and not set(found["test"]) & (set(found["train"]) | set(found["validation"]))


def test_near_duplicates_are_in_the_part_where_the_study_has_them(config: Config, photographs: Path) -> None:
    random = np.random.default_rng(5)
    for number in range(6):  # photographs, three times each
        photograph = Image.fromarray(random.integers(0, 256, (6, 6, 3), dtype=np.uint8)).resize((90, 90), Image.Resampling.BICUBIC)
        for quality in (60, 75, 90):
            photograph.save(photographs / "red" / f"photograph {number} {quality}.jpg", quality=quality)
    chosen = config(data=ImageData(path=str(photographs), validation=0.3, test=0.2, seed=1))
    exported = found_of(chosen)
    near = exported.facts.model_dump()["near_duplicates"]
    assert near["groups"] == 6 and near["crossing"] > 0
    assert found_by(module_of(exported), str(photographs)) == files_of(chosen)


@pytest.mark.parametrize("folders", [("train", "Valid", "test"), ("train", "test"), ("train", "dev")])
def test_a_split_of_the_data_itself_is_kept(folders: tuple[str, ...], config: Config, tmp_path: Path) -> None:
    random, root = np.random.default_rng(4), tmp_path / "pets"
    for top, label, number in itertools.product(folders, ("cat", "dog"), range(8)):
        file = root / top / label / f"{number}.png"
        file.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(random.integers(0, 256, (16, 16, 3), dtype=np.uint8)).save(file)
    shutil.move(root / "train" / "cat", tmp_path / "linked")
    (root / "train" / "cat").mkdir()
    (root / "train" / "cat" / "a link").symlink_to(tmp_path / "linked")
    chosen = config(data=ImageData(path=str(root), validation=0.3, seed=2))
    exported = found_of(chosen)
    made = module_of(exported)
    assert found_by(made, str(root)) == files_of(chosen)

    (root / "train" / "dog" / "2.png").rename(root / folders[-1] / "dog" / "moved.png")
    with pytest.raises(SystemExit, match="not those of the study"):
        made.find_images(str(root))

    shutil.copy(root / "train" / "dog" / "1.png", root / folders[-1] / "dog" / "copy.png")
    assert "twice" in str(obstacle(found_of(chosen)))


def test_other_images_and_other_weights_are_refused(config: Config, photographs: Path, tmp_path: Path) -> None:
    weights = weights_of("shufflenet_v2_x0_5", tmp_path, headless=False)
    chosen = config(data=ImageData(path=str(photographs)), model=ImageModel(name="shufflenet_v2_x0_5", weights=str(weights)))
    made = module_of(found_of(chosen))
    made.find_images(str(photographs))
    made.build(str(weights))
    with pytest.raises(SystemExit, match="nowhere"):
        made.find_images(str(tmp_path / "nowhere"))
    (photographs / "red" / "3.png").rename(photographs / "blue" / "moved.png")
    with pytest.raises(SystemExit, match="squares"):
        made.find_images(str(photographs))
    (photographs / "blue" / "moved.png").rename(photographs / "red" / "3.png")
    (photographs / "red" / "3.png").write_bytes((photographs / "red" / "3.png").read_bytes() + b"\0")
    with pytest.raises(SystemExit, match="squares"):
        made.find_images(str(photographs))
    weights.write_bytes(weights.read_bytes() + b"\0")
    with pytest.raises(SystemExit, match="not the weights file of the study"):
        made.build(str(weights))


def test_published_weights_of_another_file_are_refused(config: Config) -> None:
    chosen = config(model=ImageModel(name="resnet18", weights="DEFAULT"))
    loaded = LoadedWeights(format="torch", name="ResNet18_Weights.IMAGENET1K_V1")
    made = module_of(exported_of(chosen, NOTHING.model_copy(update={"weights": loaded, "weights_sha256": "0" * 64})))
    assert made.WEIGHTS == "IMAGENET1K_V1"
    with pytest.raises(SystemExit, match=r"ResNet18_Weights\.IMAGENET1K_V1 are not the weights of the study"):
        made.build(made.WEIGHTS)


def pixels_of(made: ModuleType, file: Path, part: str) -> torch.Tensor:
    """uint8 [S, S, 3], as they are before the normalisation."""
    pixels, labels = made.decode([(file, 1, part)])
    assert labels.tolist() == [1] and pixels.shape == (1, 3, SIZE, SIZE)
    mean, std = (torch.tensor(value)[:, None, None] for value in (made.MEAN, made.STD))
    found: torch.Tensor = ((pixels[0] * std + mean) * 255).round().to(torch.uint8).permute(1, 2, 0)
    return found


def test_images_of_every_kind_are_decoded_as_the_trainer_does(config: Config, tmp_path: Path) -> None:
    made, random = module_of(exported_of(config())), np.random.default_rng(0)
    grey = Image.fromarray(random.integers(0, 256, (50, 41), dtype=np.uint8))
    colour = Image.fromarray(random.integers(0, 256, (33, 70, 3), dtype=np.uint8))
    exif = Image.Exif()
    exif[0x0112] = 6  # turned by 90 degrees
    palette = colour.convert("P")
    palette.info["transparency"] = 3
    saved: dict[str, tuple[Image.Image, dict[str, Any]]] = {
        "grey.png": (grey, {}), "turned.jpg": (colour, {"exif": exif}), "turned.png": (colour, {"exif": exif}),
        "palette.png": (palette, {}),
        "clear.png": (colour.convert("RGBA"), {}), "print.jpg": (colour.convert("CMYK"), {}), "two.gif": (colour, {}),
        "bits.bmp": (grey.convert("1"), {}), "turned.tif": (colour, {"exif": exif}),
    }  # fmt: skip
    for name, (image, options) in saved.items():
        image.save(tmp_path / name, **options)
        expected = decoding.Decoder().square((tmp_path / name).read_bytes(), SIZE)
        assert np.array_equal(pixels_of(made, tmp_path / name, "test").numpy(), expected), name


@pytest.mark.parametrize("kind", ["flip", "crop", "trivial_augment"])
def test_only_training_images_are_augmented(kind: str, config: Config, photographs: Path) -> None:
    made, file = module_of(exported_of(config(augmentation=kind))), photographs / "red" / "1.png"
    plain = pixels_of(made, file, "validation")
    assert torch.equal(pixels_of(made, file, "test"), plain)
    views = [pixels_of(made, file, "train") for _ in range(30)]
    changed = [view for view in views if not torch.equal(view, plain)]
    assert len(changed) >= 5
    if kind == "flip":
        assert len(changed) < 25 and all(torch.equal(view, plain.flip(1)) for view in changed)
    if kind == "crop":
        assert len({view.numpy().tobytes() for view in views}) == 30


@pytest.mark.parametrize("metric", ["accuracy", "precision", "recall", "f1", "loss"])
def test_the_script_computes_the_metric_as_the_trainer_does(metric: str, config: Config, photographs: Path) -> None:
    chosen = config(data=ImageData(path=str(photographs), validation=0.4))
    exported = found_of(chosen).model_copy(update={"reached": exported_of(chosen, metric=metric).reached})
    made = module_of(exported)
    examples = made.find_images(str(photographs))["validation"]
    labels = torch.tensor([label for _, label, _ in examples])

    class Guesses(torch.nn.Module):
        """Logits that are wrong for some images, and highest for the last class in none."""

        def forward(self, pixels: torch.Tensor) -> torch.Tensor:
            logits: torch.Tensor = pixels.mean((2, 3))
            logits[:, 2] = -9.0
            return logits

    pixels, _ = made.decode(examples)
    tallies = TASK.tally(Guesses()(pixels), labels)
    [expected] = TASK.measure(tallies[None], labels, exported.facts)
    assert made.score(Guesses(), examples) == pytest.approx(expected.metrics[metric], abs=1e-6)
    assert 0 < expected.metrics["accuracy"] < 1


TASK_OF_COLOURS: Mapping[str, Any] = {
    "epochs": 10, "batch_size": 8, "lr": 0.01, "optimizer": "sgd", "schedule": "cosine", "augmentation": "flip", "seed": 3,
}  # fmt: skip
CLOSE = 0.1  # of two runs with different random numbers, on 24 validation images of classes that are told apart with ease


@pytest.fixture
def coloured(config: Config, photographs: Path) -> ImageClassificationConfig:
    """A configuration that learns the colours of the squares within its epochs."""
    return config(data=ImageData(path=str(photographs), validation=0.2, test=0.2), **TASK_OF_COLOURS)


def test_the_script_trains_on_training_images_alone_and_reaches_the_trainers_figure(
    coloured: ImageClassificationConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    [finished] = [line for line in train(coloured, device=torch.device("cpu"), share=False) if isinstance(line, Finished)]
    made, expected = module_of(found_of(coloured)), files_of(coloured)
    decoded, of_training = list[tuple[str, int, str]](), list[bool]()
    decode, cross_entropy = made.decode, torch.nn.functional.cross_entropy

    def recording(examples: list[tuple[Path, int, str]]) -> Any:
        decoded.extend((str(file), label, part) for file, label, part in examples)
        return decode(examples)

    def stepping(*arguments: Any, **options: Any) -> Any:
        of_training.append(decoded[-1][2] == "train")
        return cross_entropy(*arguments, **options)

    monkeypatch.setattr(made, "decode", recording)
    monkeypatch.setattr(torch.nn.functional, "cross_entropy", stepping)
    monkeypatch.setattr(sys, "argv", ["train.py", "--out", str(tmp_path / "out")])
    made.main()
    result = json.loads((tmp_path / "out" / "result.json").read_text())
    assert result["validation"]["accuracy"] == pytest.approx(finished.metrics["accuracy"], abs=CLOSE)
    assert finished.metrics["accuracy"] > 0.85 and result["test"]["accuracy"] > 0.85
    assert f"the trial had {0.5:.4f}" in capsys.readouterr().out

    seen = {part: Counter((file, label) for file, label, own in decoded if own == part) for part in PARTS}
    times = {"validation": coloured.epochs + 1, "test": 1}
    for part, often in times.items():
        assert seen[part] == Counter({key: count * often for key, count in expected[part].items()})
    used = expected["train"].total() - 1
    assert used % coloured.batch_size == 0, "so that the last batch of one image is left out"
    assert seen["train"].keys() == expected["train"].keys() and seen["train"].total() == coloured.epochs * used
    assert all(of_training) and len(of_training) == coloured.epochs * used // coloured.batch_size
    assert {part for _, _, part in decoded[-expected["test"].total() :]} == {"test"}, "the test images come last"

    network = torch_network(made)
    network.load_state_dict(torch.load(tmp_path / "out" / "model.pt", weights_only=True))
    assert made.score(network, made.find_images(coloured.data.path)["test"]) == result["test"]["accuracy"]


def torch_network(made: ModuleType) -> torch.nn.Module:
    """Torchvision's network, made without the script."""
    network: torch.nn.Module = get_model(made.NETWORK["name"], num_classes=len(made.CLASSES))
    return network


BLOCKED = """
import runpy, sys

class Refuse:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in ("trainer", "service", "search_spaces", "safetensors", "pydantic"):
            raise ImportError(f"the script must do without {name}")

sys.meta_path.insert(0, Refuse())
sys.argv = sys.argv[1:]
runpy.run_path(sys.argv[0], run_name="__main__")
"""


def run_alone(folder: Path, text: str, *launcher: str) -> tuple[int, str, dict[str, Any]]:
    """Run the script in an interpreter that cannot import anything of ours, and sees no variable of ours."""
    (folder / "train.py").write_text(text)
    (folder / "blocked.py").write_text(BLOCKED)
    environment = {"OMP_NUM_THREADS": "1", "PATH": os.environ["PATH"]}
    command = [sys.executable, "-I", *launcher, "blocked.py", "train.py", "--out", "out"]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=600, env=environment)
    assert (folder / "out" / "result.json").is_file(), done.stdout + done.stderr
    return done.returncode, done.stdout, json.loads((folder / "out" / "result.json").read_text())


@pytest.mark.slow
def test_the_script_runs_without_thawline_and_judges_its_test_score_by_the_interval(
    coloured: ImageClassificationConfig, tmp_path: Path
) -> None:
    run = run_of(found_of(coloured))
    code, said, result = run_alone(tmp_path, plain_script(dataclasses.replace(run, single_run=(0.85, 1.0))))
    assert code == 0 and "within the interval 0.8500 to 1.0000" in said, said
    assert result["test"]["accuracy"] >= 0.85 and result["classes"] == ["blue", "green", "red"] and result["processes"] == 1
    once = dataclasses.replace(run, config=coloured.model_copy(update={"epochs": 1}), single_run=(0.0, 0.2))
    code, said, _ = run_alone(tmp_path, plain_script(once))
    assert code == 1 and "OUTSIDE the interval 0.0000 to 0.2000" in said, said


@pytest.mark.slow
def test_the_script_divides_its_batches_among_the_processes_of_torchrun(coloured: ImageClassificationConfig, tmp_path: Path) -> None:
    frozen = {"model": ImageModel(name="resnet18"), "frozen_layers": 9, "optimizer": "adam"}  # on CPUs, BatchNorm has its share alone
    run = run_of(found_of(coloured.model_copy(update=frozen)))
    text = plain_script(dataclasses.replace(run, single_run=(0.85, 1.0)))
    code, said, result = run_alone(tmp_path, text, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2")
    assert (code, result["processes"], said.count("epoch 10/10")) == (0, 2, 1), said


def _weighted(config: Config, photographs: Path) -> ImageClassificationConfig:
    return config(data=ImageData(path=str(photographs), validation=0.3), class_weights="balanced", epochs=1)


def _small_and_even(config: Config, photographs: Path) -> ImageClassificationConfig:
    return config(data=ImageData(path=str(photographs), validation=0.3), model=ImageModel(name="small_cnn"), sampling="balanced", epochs=2)


def _table(config: Config, photographs: Path) -> ImageClassificationConfig:
    rows = [f"{file.relative_to(photographs)};{file.parts[len(photographs.parts)]}" for file in sorted(photographs.rglob("[0-9]*.png"))]
    (photographs / "squares.tsv").write_text("\n".join(["file name;class", *rows]))
    data = ImageData(path=str(photographs / "squares.tsv"), columns=Columns(path="file name", label="class"), validation=0.3)
    return config(data=data, model=ImageModel(name="small_cnn"), epochs=2)


@pytest.mark.slow
@pytest.mark.parametrize("make", [_weighted, _small_and_even, _table])
def test_the_script_with_thawline_gives_the_figure_of_the_trial(
    make: Callable[[Config, Path], ImageClassificationConfig], config: Config, photographs: Path, tmp_path: Path
) -> None:
    chosen = make(config, photographs)
    events = list(train(chosen, device=torch.device("cpu"), share=False))
    [finished] = [line for line in events if isinstance(line, Finished)]
    reached = exported_of(chosen).reached.model_copy(update={"value": finished.metrics["accuracy"]})
    exported = found_of(chosen).model_copy(update={"reached": reached, "environment": {"threads": str(torch.get_num_threads())}})
    assert obstacle(exported) is not None
    (tmp_path / "train.py").write_text(script(exported))
    environment = {**os.environ, "THAW_HOME": str(tmp_path / "home"), "PYTHONPATH": str(Path(__file__).parents[2])}
    command = [sys.executable, "train.py", "--out", "out"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=600, env=environment)
    assert done.returncode == 0, done.stdout + done.stderr
    result = json.loads((tmp_path / "out" / "result.json").read_text())
    assert result["reached"] == pytest.approx(finished.metrics["accuracy"], abs=1e-9)


HOSTILE = '"""\n\'\'\'\r\\u0022; import os; os.system("x") #\u2028\u202e{}%s$$study'


@pytest.mark.parametrize("model", ["shufflenet_v2_x0_5", "small_cnn"])
def test_what_users_wrote_is_nothing_but_literals(model: str, config: Config) -> None:
    harmless, hostile = (
        exported_of(
            config(data=ImageData(path=f"/data/{text}"), model=ImageModel(name=model, weights=f"/w/{text}.safetensors")),
            NOTHING.model_copy(update={"classes": (text, "b"), "weights_sha256": "0" * 64, "weights": FILE}),
            origin=Origin(study=text, study_name=text, trial=3, params={}),
            note=text,
            lock={"torch": text},
            environment={"precision": text},
        )
        for text in ("harmless", HOSTILE)
    )
    assert _skeleton(script(hostile)) == _skeleton(script(harmless))
    assert "\u202e" not in script(hostile), "what turns a line round stays escaped"
    if obstacle(hostile) is None:
        made = module_of(hostile)
        written = {"STUDY": HOSTILE, "CLASSES": (HOSTILE, "b"), "DATA": f"/data/{HOSTILE}", "WEIGHTS": f"/w/{HOSTILE}.safetensors"}
        assert {name: getattr(made, name) for name in written} == written
    else:
        [literal] = [node.value for node in ast.parse(script(hostile)).body if isinstance(node, ast.Assign)]
        assert json.loads(ast.literal_eval(literal)) == hostile.model_dump(mode="json")


def _skeleton(text: str) -> str:
    """The program without the text in it."""
    tree = ast.parse(text)
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            node.value = ""
    return ast.dump(tree)
