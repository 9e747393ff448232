"""The stand-alone script computes what the trainer computes, part by part, and what users wrote cannot become code in it."""

import ast
import hashlib
import itertools
import shutil
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from service.domain.export import Origin
from service.exports.configuration import requirements, script
from tests.export.conftest import NOTHING, SIZE, exported_of, facts_of, module_of, weights_of
from tests.trainer.test_deep_images import deep_png, tiff
from trainer import devices
from trainer.configuration import ListingFacts
from trainer.data.dataset import manifest_of
from trainer.data.images import augmentation, decoding
from trainer.data.images.dataset import arrange, find, listed
from trainer.loop import train
from trainer.protocol import Finished
from trainer.tasks.image_classification.config import Columns, ImageData, ImageModel, ImageTrainConfig, NearDuplicates, PixelRange

Config = Callable[..., ImageTrainConfig]


class Painted:
    """Images that lie ready, as the script wants them."""

    def __init__(self) -> None:
        self.keys = torch.tensor([int(hashlib.sha256(bytes([i])).hexdigest()[:15], 16) for i in range(12)])
        self.pixels = torch.randint(0, 256, (12, 3, SIZE, SIZE), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))

    def __getitem__(self, rows: torch.Tensor) -> torch.Tensor:
        return self.pixels[rows]


@pytest.mark.parametrize("kind", ["none", "flip", "crop"])
def test_images_are_augmented_as_the_trainer_does(kind: Any, config: Config) -> None:
    made, images, rows = (
        module_of(exported_of(config(augmentation=kind, augmentation_views=2, image_size=SIZE))),
        Painted(),
        torch.tensor([3, 1, 7]),
    )
    for epoch in (1, 2, 3):
        expected = augmentation.augment(images.pixels[rows], images.keys[rows], (epoch - 1) % 2, kind)
        assert torch.equal(made.training_pixels(images, rows, epoch), expected)


def test_trivial_augment_follows_from_content_and_view_alone(config: Config) -> None:
    made, images = module_of(exported_of(config(augmentation="trivial_augment", augmentation_views=2, image_size=SIZE))), Painted()
    rows, state = torch.arange(12), torch.get_rng_state()
    first = made.training_pixels(images, rows, 1)
    assert torch.equal(torch.get_rng_state(), state), "what dropout draws does not depend on it"
    assert torch.equal(made.training_pixels(images, rows.flip(0), 3), first.flip(0))
    assert not torch.equal(made.training_pixels(images, rows, 2), first) and not torch.equal(first, images.pixels)


def test_images_of_every_kind_are_decoded_as_the_trainer_does(config: Config, tmp_path: Path) -> None:
    made, random = module_of(exported_of(config(image_size=SIZE))), np.random.default_rng(0)
    grey = Image.fromarray(random.integers(0, 256, (50, 41), dtype=np.uint8))
    colour = Image.fromarray(random.integers(0, 256, (33, 70, 3), dtype=np.uint8))
    exif = Image.Exif()
    exif[0x0112] = 6  # turned by 90 degrees
    deep = Image.fromarray(random.integers(0, 65_536, (40, 40), dtype=np.uint16))
    palette = colour.convert("P")
    palette.info["transparency"] = 3
    saved: dict[str, tuple[Image.Image, dict[str, Any]]] = {
        "grey.png": (grey, {}), "turned.jpg": (colour, {"exif": exif}), "deep.png": (deep, {"exif": exif}), "palette.png": (palette, {}),
        "clear.png": (colour.convert("RGBA"), {}), "print.jpg": (colour.convert("CMYK"), {}), "two.gif": (colour, {}),
        "bits.bmp": (grey.convert("1"), {}),
    }  # fmt: skip
    for name, (image, options) in saved.items():
        image.save(tmp_path / name, **options)
        expected = decoding.Decoder().square((tmp_path / name).read_bytes(), SIZE).transpose(2, 0, 1)
        assert np.array_equal(made.decode(tmp_path / name).numpy(), expected), name


@pytest.mark.parametrize("kind", ["grey.png", "colour.png", "clear.png", "grey.tif", "float.tif"])
def test_deep_images_are_scaled_as_the_trainer_does(kind: str, config: Config, tmp_path: Path) -> None:
    samples = np.random.default_rng(0).integers(0, 4000, (40, 40, {"colour.png": 3, "clear.png": 2}.get(kind, 1))).astype(np.uint16)
    flat = samples[..., 0].astype(np.float32) if kind == "float.tif" else samples[..., 0]
    content = deep_png(samples if samples.shape[2] > 1 else samples[..., 0]) if kind.endswith("png") else tiff(flat)
    (tmp_path / kind).write_bytes(content)
    facts = NOTHING.model_copy(update={"pixel_range": PixelRange(low=100, high=3000, source="training_images")})
    made = module_of(exported_of(config(image_size=SIZE), facts))
    expected = decoding.Decoder(scale=(100, 3000)).square(content, SIZE).transpose(2, 0, 1)
    assert np.array_equal(made.decode(tmp_path / kind).numpy(), expected) and expected.std() > 30


def test_files_that_the_study_left_out_are_left_out(config: Config, photographs: Path) -> None:
    (photographs / "cat" / "cut.png").write_bytes((photographs / "cat" / "2.png").read_bytes()[:300])
    (photographs / "dog" / "empty.png").write_bytes(b"")
    Image.new("1", (8_000, 8_000)).save(photographs / "dog" / "large.png")
    chosen = config(data=ImageData(path=str(photographs), unreadable="skip", unreadable_limit=0.2))
    facts = facts_of(chosen)
    made = module_of(exported_of(chosen, facts))
    assert list(made.find_images(str(photographs))) == [content.sha256 for content in find(chosen.data).contents]


@pytest.fixture
def photographs(tmp_path: Path) -> Path:
    """Thirty noisy squares in two classes, one of them twice, some in a folder below."""
    random = np.random.default_rng(1)
    for label, number in itertools.product(("cat", "dog"), range(15)):
        file = tmp_path / "pets" / label / ("more" if number > 11 else "") / f"{number}.png"
        file.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(random.integers(0, 256, (16, 16, 3), dtype=np.uint8)).save(file)
    shutil.copy(tmp_path / "pets" / "cat" / "1.png", tmp_path / "pets" / "cat" / "copy.png")
    (tmp_path / "pets" / "cat" / ".hidden.png").write_bytes(b"")
    return tmp_path / "pets"


@pytest.fixture
def as_table(photographs: Path) -> Path:
    """The same images as a CSV file."""
    rows = [f"{file.relative_to(photographs)},{file.parts[len(photographs.parts)]}" for file in photographs.rglob("[0-9c]*.png")]
    (photographs / "pets.csv").write_text("\n".join(["path,label", *rows]), encoding="utf-8-sig")
    return photographs / "pets.csv"


@pytest.mark.parametrize("source", ["photographs", "as_table"])
def test_images_are_found_and_split_as_the_trainer_does(source: str, config: Config, request: pytest.FixtureRequest) -> None:
    chosen = config(data=ImageData(path=str(request.getfixturevalue(source)), validation=0.2, test=0.3, seed=4))
    made, dataset = module_of(exported_of(chosen, facts_of(chosen))), find(chosen.data)
    found = made.find_images(chosen.data.path)
    assert list(found) == [content.sha256 for content in dataset.contents]
    assert [len(files) for _, files, _ in found.values()] == [len(content.files) for content in dataset.contents]
    assert made.split(found) == {content.sha256: content.part for content in dataset.contents}


def test_near_duplicates_are_on_the_side_where_the_study_had_them(config: Config, photographs: Path) -> None:
    random = np.random.default_rng(5)
    for number in range(6):  # photographs, three times each
        photograph = Image.fromarray(random.integers(0, 256, (6, 6, 3), dtype=np.uint8)).resize((90, 90), Image.Resampling.BICUBIC)
        for quality in (60, 75, 90):
            photograph.save(photographs / "dog" / f"photograph {number} {quality}.jpg", quality=quality)
    chosen = config(data=ImageData(path=str(photographs), validation=0.3, test=0.2, seed=1))
    listing = listed(chosen.data)
    dataset = arrange(chosen.data, listing)
    assert dataset.near_duplicates.groups == 6 and dataset.near_duplicates.crossing > 0
    facts = facts_of(chosen).model_copy(update={"near_duplicates": dataset.near_duplicates})
    made = module_of(exported_of(chosen, facts, manifest=manifest_of(listing, dataset)))
    found = made.find_images(chosen.data.path)
    assert made.split(found) == {content.sha256: content.part for content in dataset.contents}

    without = module_of(exported_of(chosen, facts))
    with pytest.raises(SystemExit):
        without.split(found)


def _given(root: Path, folders: tuple[str, ...]) -> Path:
    random = np.random.default_rng(4)
    for top, label, number in itertools.product(folders, ("cat", "dog"), range(8)):
        file = root / top / label / f"{number}.png"
        file.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(random.integers(0, 256, (16, 16, 3), dtype=np.uint8)).save(file)
    shutil.copytree(root / "train" / "cat", root / "linked", dirs_exist_ok=True)
    shutil.copy(root / "train" / "dog" / "1.png", root / folders[-1] / "dog" / "copy.png")
    for number, file in enumerate(sorted((root / "linked").iterdir())):
        file.write_bytes(file.read_bytes() + bytes([number]))  # other contents, the same pixels
    (root / "train" / "cat" / "a link").symlink_to(root / "linked")
    shutil.move(root / "linked", root.parent / "linked")
    (root / "train" / "cat" / "a link").unlink()
    (root / "train" / "cat" / "a link").symlink_to(root.parent / "linked")
    (root / "train" / "cat" / "again").symlink_to(root.parent / "linked")
    return root


@pytest.mark.parametrize("folders", [("train", "Valid", "test"), ("train", "test"), ("train", "dev")])
def test_a_given_split_is_that_of_the_trainer(folders: tuple[str, ...], config: Config, tmp_path: Path) -> None:
    chosen = config(data=ImageData(path=str(_given(tmp_path / "pets", folders)), validation=0.3, seed=2))
    listing = listed(chosen.data)
    dataset = arrange(chosen.data, listing)
    assert dataset.listing.left_out, "a copy in two parts, and a folder that two links lead to"
    facts = facts_of(chosen).model_copy(update={"near_duplicates": dataset.near_duplicates})
    made = module_of(exported_of(chosen, facts, manifest=manifest_of(listing, dataset)))
    found = made.find_images(chosen.data.path)
    assert made.split(found) == {content.sha256: content.part for content in dataset.contents}
    assert [len(files) for _, files, _ in found.values()] == [len(content.files) for content in dataset.contents]

    (tmp_path / "pets" / "train" / "dog" / "2.png").rename(tmp_path / "pets" / folders[-1] / "dog" / "moved.png")
    with pytest.raises(SystemExit):
        made.find_images(chosen.data.path)


@pytest.mark.parametrize("more", ["split", "group", ""])
def test_a_table_with_other_columns_is_read_as_the_trainer_does(more: str, config: Config, photographs: Path, tmp_path: Path) -> None:
    files = sorted(photographs.rglob("[0-9]*.png"))
    values: dict[str, Callable[[int], str]] = {
        "split": lambda n: ("Train", "dev", "test")[n % 3],
        "group": lambda n: f"patient {n % 7}",
        "": lambda n: "x",
    }
    rows = [f"{file.parts[len(photographs.parts)]}; {file.relative_to(photographs)};{values[more](n)}" for n, file in enumerate(files)]
    table = tmp_path / "pets.tsv"
    table.write_text("\n".join([f" Class;file name;{more or 'photographer'}", *rows]), encoding="utf-8-sig")
    chosen = config(
        data=ImageData(path=str(table), root=str(photographs), columns=Columns(path="file name", label="class"), validation=0.3)
    )
    listing = listed(chosen.data)
    dataset = arrange(chosen.data, listing)
    facts = facts_of(chosen).model_copy(update={"near_duplicates": dataset.near_duplicates})
    made = module_of(exported_of(chosen, facts, manifest=manifest_of(listing, dataset)))
    found = made.find_images(chosen.data.path)
    assert list(found) == [content.sha256 for content in dataset.contents]
    assert made.split(found) == {content.sha256: content.part for content in dataset.contents}


def test_a_script_for_heic_images_reads_them(config: Config, photographs: Path) -> None:
    Image.fromarray(np.full((16, 16, 3), 90, np.uint8)).save(photographs / "cat" / "phone.heic")
    chosen = config(data=ImageData(path=str(photographs)), image_size=SIZE)
    exported = exported_of(chosen, facts_of(chosen))
    made = module_of(exported)
    assert any(file.suffix == ".heic" for _, files, _ in made.find_images(chosen.data.path).values() for file in files)
    assert "pillow-heif" in requirements(exported) and "pillow-heif" in script(exported)
    expected = decoding.Decoder().square((photographs / "cat" / "phone.heic").read_bytes(), SIZE).transpose(2, 0, 1)
    assert np.array_equal(made.decode(photographs / "cat" / "phone.heic").numpy(), expected)


def test_other_images_and_other_weights_are_refused_by_name(
    config: Config, photographs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    chosen = config(
        data=ImageData(path=str(photographs)),
        model=ImageModel(name="small_cnn", weights=str(weights_of("small_cnn", tmp_path, headless=False))),
    )
    made = module_of(exported_of(chosen, facts_of(chosen, "0" * 64)))

    def refusal(call: Callable[..., object], *arguments: object) -> str:
        with pytest.raises(SystemExit) as end:
            call(*arguments)
        assert end.value.code == 2
        return capsys.readouterr().err

    assert str(chosen.model.weights) in refusal(made.read_weights, chosen.model.weights)
    assert "nowhere" in refusal(made.find_images, str(tmp_path / "nowhere"))
    made.find_images(str(photographs))
    image = photographs / "dog" / "3.png"
    image.write_bytes(image.read_bytes() + b"\0")
    assert str(photographs) in refusal(made.find_images, str(photographs))


@pytest.mark.parametrize("balanced", [{}, {"class_weights": "balanced"}, {"sampling": "balanced", "precision": "float16"}])
def test_training_gives_the_trainers_figures_to_the_last_bit(
    config: Config, photographs: Path, balanced: Mapping[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(devices, "matrix_formats", lambda device: frozenset({"float16"}))
    for image in sorted((photographs / "dog").glob("[0-9].png"))[5:]:
        image.unlink()
    chosen = config(
        data=ImageData(path=str(photographs), validation=0.3, test=0.2), augmentation="flip", optimizer="sgd", schedule="cosine",
        frozen_layers=1, dropout=0.2, label_smoothing=0.1, batch_size=4, epochs=2, seed=8, order_seed=9, **balanced,
    )  # fmt: skip
    [finished] = [line for line in train(chosen, device=torch.device("cpu"), share=False) if isinstance(line, Finished)]
    made = module_of(exported_of(chosen, facts_of(chosen)))
    found = made.find_images(chosen.data.path)
    images, parts = made.Images(found), made.split(found)
    training, validation = (
        torch.tensor([row for row, content in enumerate(found) for _ in found[content][1] if parts[content] == part])
        for part in ("train", "validation")
    )
    model = made.build(None, chosen.seed)
    made.train(model, images, training, validation, chosen.seed, chosen.order_seed)
    metrics, confusion = made.score(model, images, validation)
    assert metrics == {name: finished.metrics[name] for name in metrics}
    assert confusion == finished.report["confusion_matrix"]


EVERY: tuple[Mapping[str, Any], ...] = (
    {},
    {"model": ImageModel(name="vit_b_16", weights="IMAGENET1K_V1"), "image_size": 64, "frozen_layers": 13, "precision": "bfloat16"},
    {"model": ImageModel(name="vgg11", weights="/w/vgg.pth"), "optimizer": "rmsprop", "frozen_layers": 8, "schedule": "step"},
    {
        "model": ImageModel(name="convnext_tiny", weights="w/a.safetensors"),
        "optimizer": "adam",
        "augmentation": "trivial_augment",
        "dropout": 0.1,
    },
    {"class_weights": "balanced", "sampling": "balanced", "precision": "float16"},
    {"model": ImageModel(name="efficientnet_b0"), "optimizer": "sgd", "augmentation": "crop", "schedule": "one_cycle", "image_size": 64},
    {"data": ImageData(path="/data/pets", unreadable="skip")},
    {"data": ImageData(path="/data/pets.csv"), "augmentation": "flip", "schedule": "cosine", "warmup_fraction": 0.1},
)
LISTINGS = (
    None,
    ListingFacts(given=("train", "validation"), folders=(("train", "train"), ("val", "validation")), heic=True),
    ListingFacts(given=("train", "validation"), columns={"path": "path", "label": "label", "split": "split"}, separator=";"),
)


NEAR = {count: NearDuplicates(groups=count, images=5, crossing=1, mixed=0) for count in (0, 3, 5)}


@pytest.mark.parametrize("listing", LISTINGS, ids=["drawn", "folders", "table"])
@pytest.mark.parametrize("changes", EVERY, ids=range(len(EVERY)))
def test_every_script_is_well_formed_and_has_nothing_that_it_does_not_use(
    changes: Mapping[str, Any], listing: ListingFacts | None, config: Config, tmp_path: Path
) -> None:
    facts = NOTHING.model_copy(
        update={
            "listing": listing,
            "weights_sha256": "1" * 64,
            "classes": tuple(f"class {i}" for i in range(40)),
            "near_duplicates": NEAR.get(len(changes)),
            "pixel_range": PixelRange(low=0, high=240, source="training_images") if "data" in changes else None,
        }
    )
    text = script(exported_of(config(**changes), facts, manifest=f"{'AAAA' * 100}.{'BBBB' * 100}"))
    (tmp_path / "train.py").write_text(text)
    ruff = [str(Path(sys.executable).parent / "ruff"), "--isolated"]
    options = ["--line-length", "140", "--target-version", "py310"]
    rules = ["--select", "E,F,I,W,B,C4,SIM,RET", "--ignore", "B905,B023"]
    checked = subprocess.run([*ruff[:1], "check", "--isolated", *rules, *options, "train.py"], cwd=tmp_path, capture_output=True, text=True)
    formatted = subprocess.run(
        [*ruff[:1], "format", "--isolated", "--diff", *options, "train.py"], cwd=tmp_path, capture_output=True, text=True
    )
    assert checked.returncode == 0 and formatted.returncode == 0, checked.stdout + formatted.stdout
    names = {node.id for node in ast.walk(ast.parse(text)) if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Load)}
    constants = [
        target.id
        for node in ast.parse(text).body
        if isinstance(node, ast.Assign)
        for target in node.targets
        if isinstance(target, ast.Name)
    ]
    assert set(constants) <= names
    imported = {name for node in ast.walk(ast.parse(text)) if isinstance(node, ast.Import | ast.ImportFrom) for name in _roots(node)}
    assert not imported & {"trainer", "service", "search_spaces", "safetensors", "pydantic"}


def _roots(node: ast.Import | ast.ImportFrom) -> list[str]:
    names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else [node.module or ""]
    return [name.partition(".")[0] for name in names]


HOSTILE = '"""\n\'\'\'\r\\u0022; import os; os.system("x") #\u2028\u202e{}%s'


def test_what_users_wrote_is_nothing_but_literals(config: Config) -> None:
    harmless, hostile = (
        exported_of(
            config(data=ImageData(path=f"/data/{text}"), model=ImageModel(name="small_cnn", weights=f"/w/{text}.safetensors")),
            NOTHING.model_copy(update={"classes": (text, "b"), "weights_sha256": "0" * 64}),
            origin=Origin(study=text, study_name=text, trial=3, params={}),
            note=text,
            lock={"torch": text},
            environment={"precision": text},
        )
        for text in ("harmless", HOSTILE)
    )
    assert _skeleton(script(hostile)) == _skeleton(script(harmless))
    made: ModuleType = module_of(hostile)
    written = {"STUDY": HOSTILE, "CLASSES": (HOSTILE, "b"), "DATA": f"/data/{HOSTILE}"}
    assert {name: getattr(made, name) for name in written} == written
    assert "\u202e" not in script(hostile), "what turns a line round stays escaped"


def _skeleton(text: str) -> str:
    """The program without the text in it."""
    tree = ast.parse(text)
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            node.value = ""
    return ast.dump(tree)
