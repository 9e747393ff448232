"""What a data set is refused by when it is no longer the one that was checked: the names of the images that have changed."""

import base64
import hashlib
import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from PIL import Image, ImageEnhance
from safetensors.torch import load_file, save_file

from tests.trainer.narrowed import image_info
from tests.trainer.test_host import started
from trainer.cache import Cache
from trainer.data import dataset
from trainer.data.examples import BadData
from trainer.data.images.dataset import find
from trainer.loop import train
from trainer.preparation import Expected, PreparedRun, inspect, prepare
from trainer.protocol import Checked
from trainer.tasks.image_classification.config import ImageClassificationConfig
from trainer.tasks.images.config import ImageData, ImageModel

CPU = torch.device("cpu")
Configure = Callable[..., ImageClassificationConfig]
Paint = Callable[..., Path]


@pytest.fixture
def config(paint: Paint, configure: Configure) -> ImageClassificationConfig:
    """Of a run on sixty painted squares, twenty a colour."""
    return configure(data=ImageData(path=str(paint()), test=0.2))


@pytest.fixture
def root(config: ImageClassificationConfig) -> Path:
    return Path(config.data.path)


@pytest.fixture
def checked(config: ImageClassificationConfig) -> Checked:
    return inspect(config, CPU, Cache.none())


def trained_on(config: ImageClassificationConfig, checked: Checked) -> PreparedRun:
    return prepare(config, CPU, Expected(checked.facts, checked.manifest), Cache.none())


def refusal(config: ImageClassificationConfig, checked: Checked) -> str:
    with pytest.raises(BadData, match="differ from the expected ones") as caught:
        trained_on(config, checked)
    return str(caught.value)


def test_the_data_that_was_checked_is_taken(config: ImageClassificationConfig, checked: Checked) -> None:
    assert trained_on(config, checked).info == checked.facts


def test_one_byte_of_one_image_names_it(config: ImageClassificationConfig, checked: Checked, root: Path) -> None:
    image = root / "green" / "7.png"
    content = bytearray(image.read_bytes())
    content[len(content) // 2] ^= 1
    image.write_bytes(content)
    assert ": changed or new: green/7.png; missing: 1 of the 60 that were expected; SHA-256 " in refusal(config, checked)


def test_an_image_that_still_shows_the_same_but_was_compressed_again_is_named(
    config: ImageClassificationConfig, checked: Checked, root: Path
) -> None:
    image = root / "red" / "3.png"
    Image.open(image).save(image, optimize=True, compress_level=1)
    assert "changed or new: red/3.png; missing: 1 of" in refusal(config, checked)


def test_two_images_that_changed_places_are_both_named(config: ImageClassificationConfig, checked: Checked, root: Path) -> None:
    one, other, aside = root / "blue" / "1.png", root / "red" / "2.png", root / "aside"
    one.rename(aside)
    other.rename(one)
    aside.rename(other)
    assert "changed or new: blue/1.png, red/2.png; missing: 2 of" in refusal(config, checked)


def test_an_image_in_another_folder_is_named_by_its_new_place(config: ImageClassificationConfig, checked: Checked, root: Path) -> None:
    (root / "red" / "0.png").rename(root / "blue" / "stray.png")
    assert "changed or new: blue/stray.png; missing: 1 of" in refusal(config, checked)


def test_a_label_in_a_table_is_named_by_its_image(configure: Configure, root: Path) -> None:
    rows = [f"{file.relative_to(root).as_posix()},{file.parent.name}" for file in sorted(root.rglob("*.png"))]
    table = root / "all.csv"
    table.write_text("\n".join(["path,label", *rows]) + "\n")
    config = configure(data=ImageData(path=str(table)))
    before = inspect(config, CPU, Cache.none())
    table.write_text(table.read_text().replace("green/11.png,green", "green/11.png,red"))
    assert "changed or new: green/11.png; missing: 1 of" in refusal(config, before)


def test_deleted_images_are_counted(config: ImageClassificationConfig, checked: Checked, root: Path) -> None:
    for number in range(3):
        (root / "red" / f"{number}.png").unlink()
    reported = refusal(config, checked)
    assert "missing: 3 of the 60 that were expected" in reported and "changed or new" not in reported


def test_an_added_image_is_named_even_if_it_is_a_copy(config: ImageClassificationConfig, checked: Checked, root: Path) -> None:
    Image.new("RGB", (16, 16), (1, 2, 3)).save(root / "red" / "added.png")
    shutil.copy(root / "blue" / "1.png", root / "blue" / "twin.png")
    reported = refusal(config, checked)
    assert "changed or new: blue/twin.png, red/added.png; SHA-256" in reported and "missing" not in reported


def test_renamed_images_are_the_same_data(config: ImageClassificationConfig, checked: Checked, root: Path) -> None:
    (root / "red" / "0.png").rename(root / "red" / "renamed.png")
    assert trained_on(config, checked).info == checked.facts


def test_of_many_changed_images_ten_are_named(config: ImageClassificationConfig, checked: Checked, root: Path) -> None:
    for number in range(13):
        image = root / "red" / f"{number}.png"
        image.write_bytes(image.read_bytes() + b"more")
    reported = refusal(config, checked)
    assert "and 3 more; missing: 13 of" in reported and len(re.findall(r"red/\d+\.png", reported)) == 10


def test_a_name_that_is_not_utf8_can_be_told(config: ImageClassificationConfig, checked: Checked, root: Path) -> None:
    Path(f"{root}/red/caf\udce9.png").write_bytes((root / "red" / "1.png").read_bytes() + b"more")
    assert "changed or new: red/caf?.png" in refusal(config, checked)


def test_a_weights_file_that_has_changed_is_named(configure: Configure, tmp_path: Path) -> None:
    weights = tmp_path / "start.safetensors"
    config = configure(model=ImageModel(name="small_cnn", weights=str(weights)))
    assert list(train(configure(epochs=1), device=CPU, model_file=weights))
    before = inspect(config, CPU, Cache.none())
    tensors = load_file(weights)
    next(iter(tensors.values())).view(-1)[0] += 1
    save_file(tensors, weights)
    assert f"the weights {weights} differ from the expected ones" in refusal(config, before)


def test_a_manifest_reads_as_the_contract_says(paint: Paint, configure: Configure) -> None:
    root = paint(count=11)
    Image.open(root / "red" / "0.png").save(root / "red" / "again.png", compress_level=1)
    shutil.copy(root / "red" / "1.png", root / "red" / "1-copy.png")
    config = configure(data=ImageData(path=str(root), test=0.3))
    reported = inspect(config, CPU, Cache.none())
    near_duplicates = image_info(reported.facts).near_duplicates
    assert reported.manifest is not None and near_duplicates is not None and near_duplicates.groups == 1
    files = [(hashlib.sha256(file.read_bytes()).hexdigest(), file.parent.name) for file in root.rglob("*.png")]
    digests, parts = (base64.b64decode(part) for part in reported.manifest.split("."))
    assert digests == b"".join(sorted(hashlib.sha256(json.dumps(pair).encode()).digest()[:4] for pair in files))
    contents = sorted({content for content, _ in files})
    names = ("train", "validation", "test")
    split = {content: names[parts[row // 4] >> 2 * (row % 4) & 3] for row, content in enumerate(contents)}
    assert split == {content.sha256: content.part for content in find(config.data).contents}


def test_a_split_that_came_out_otherwise_is_refused(config: ImageClassificationConfig, checked: Checked) -> None:
    assert checked.manifest is not None
    digests, parts = checked.manifest.split(".")
    packed = bytearray(base64.b64decode(parts))
    packed[5] ^= 1
    other = checked.model_copy(update={"manifest": f"{digests}.{base64.b64encode(packed).decode()}"})
    with pytest.raises(BadData, match="is split differently than expected"):
        trained_on(config, other)


@pytest.mark.parametrize("text", ["", "no manifest", "YWJj", "%%%.%%%", "YWJj.YWJj"])
def test_a_manifest_that_somebody_wrote_is_refused_and_never_believed(
    config: ImageClassificationConfig, checked: Checked, text: str
) -> None:
    with pytest.raises(BadData, match=r"manifest of the expected data cannot be read|split differently"):
        trained_on(config, checked.model_copy(update={"manifest": text}))
    changed = checked.facts.model_copy(update={"fingerprint": "0" * 64})
    with pytest.raises(BadData, match=r"cannot be read|changed or new"):
        trained_on(config, checked.model_copy(update={"manifest": text, "facts": changed}))


def test_more_files_than_are_listed_have_no_manifest(config: ImageClassificationConfig, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dataset, "MOST_LISTED", 59)
    reported = inspect(config, CPU, Cache.none())
    assert reported.manifest is None and trained_on(config, reported).info == reported.facts


def test_the_warm_process_checks_and_refuses_by_it(config: ImageClassificationConfig, root: Path) -> None:
    ImageEnhance.Brightness(Image.open(root / "red" / "5.png")).enhance(1.02).save(root / "red" / "5-copy.png")
    with started() as host:
        host.until("ready")
        host.say("check", config=config.model_dump(mode="json"))
        reported = Checked.model_validate(host.until("checked")[-1])
        near_duplicates = image_info(reported.facts).near_duplicates
        assert near_duplicates is not None and near_duplicates.examples
        assert [set(names) for names in near_duplicates.examples] == [{"red/5-copy.png", "red/5.png"}]
        host.until("ready")
        (root / "blue" / "4.png").write_bytes((root / "blue" / "4.png").read_bytes() + b"more")
        host.run(config, expected=reported.facts.model_dump(mode="json"), manifest=reported.manifest)
        failed = host.until("failed")[-1]
    assert failed["reason"] == "bad_data" and "changed or new: blue/4.png" in failed["detail"]
