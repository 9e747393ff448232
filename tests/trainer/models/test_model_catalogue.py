"""The catalogue's files say what torchvision's networks are."""

from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

import trainer.tasks.images.catalogue as catalogue
from trainer.tasks.images.networks.catalogue import FOLDER, describe, write
from trainer.tasks.images.networks.families import BY_MODEL


def test_there_is_a_file_for_each_model_and_no_other() -> None:
    assert catalogue.names() == tuple(sorted(BY_MODEL))


def test_a_file_says_what_the_network_is(every_model: str) -> None:
    assert catalogue.load(every_model) == describe(every_model)


def test_writing_the_catalogue_gives_the_files_that_are_kept(tmp_path: Path) -> None:
    (tmp_path / "gone.json").write_text("{}")
    write(tmp_path, ["small_cnn", "squeezenet1_1"])
    assert {file.name: file.read_bytes() for file in tmp_path.iterdir()} == {
        name: (FOLDER / name).read_bytes() for name in ("small_cnn.json", "squeezenet1_1.json")
    }


def test_the_smallest_image_is_the_smallest(sample: str, networks: SimpleNamespace) -> None:
    model = catalogue.load(sample)
    network = networks.seeded(sample, model.smallest_image).eval()
    with torch.no_grad():
        assert network(networks.images(1, model.smallest_image)).isfinite().all()
        if model.smallest_image > 8:
            with pytest.raises(RuntimeError):
                network(networks.images(1, model.smallest_image - 1))


@pytest.mark.parametrize("name", ["vit_b_32", "vit_h_14"])
def test_a_transformer_takes_whole_patches_only(name: str) -> None:
    model = catalogue.load(name)
    with torch.device("meta"):
        BY_MODEL[name].make(name, 10, 2 * model.image_step)
        with pytest.raises(AssertionError):
            BY_MODEL[name].make(name, 10, 2 * model.image_step + 1)
