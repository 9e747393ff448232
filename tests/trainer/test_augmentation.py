"""An image's change follows from its content and the view alone, and is what torchvision would do."""

from collections.abc import Callable
from typing import Literal

import pytest
import torch
import torchvision.transforms.v2.functional as TF
from torch import Tensor

from trainer.data.images import augmentation
from trainer.data.images.augmentation import augment

Kind = Literal["none", "flip", "crop", "trivial_augment"]
CHANGING: tuple[Kind, ...] = ("flip", "crop", "trivial_augment")


def batch(count: int, side: int = 24) -> tuple[Tensor, Tensor]:
    """Smooth images with structure, and keys."""
    generator = torch.Generator().manual_seed(0)
    coarse = torch.rand(count, 3, 6, 6, generator=generator) * 255
    pixels = torch.nn.functional.interpolate(coarse, size=(side, side), mode="bilinear").to(torch.uint8)
    return pixels, torch.randint(2**60, (count,), generator=generator)


@pytest.mark.parametrize("kind", CHANGING)
def test_the_same_image_and_view_give_the_same_pixels_in_any_batch(kind: Kind) -> None:
    pixels, keys = batch(67)
    whole = augment(pixels, keys, 3, kind)
    order = torch.randperm(67, generator=torch.Generator().manual_seed(1))
    assert torch.equal(augment(pixels[order], keys[order], 3, kind), whole[order])
    for row in range(0, 67, 9):
        torch.rand(row)  # torch's own random numbers have no say
        assert torch.equal(augment(pixels[row : row + 1], keys[row : row + 1], 3, kind)[0], whole[row])


@pytest.mark.parametrize("kind", CHANGING)
def test_another_view_or_content_changes_otherwise(kind: Kind) -> None:
    pixels, keys = batch(64)
    first = augment(pixels, keys, 0, kind)
    other_view, other_keys = augment(pixels, keys, 1, kind), augment(pixels, keys + 1, 0, kind)
    for other in (other_view, other_keys):
        changed = (other != first).flatten(1).any(1).float().mean()
        assert changed > 0.25, f"{changed:.0%} of the images differ"


@pytest.mark.parametrize("kind", CHANGING)
def test_pixels_stay_bytes_of_the_same_shape_and_the_originals_stay_as_they_are(kind: Kind) -> None:
    pixels, keys = batch(32)
    before = pixels.clone()
    changed = augment(pixels, keys, 0, kind)
    assert changed.shape == pixels.shape and changed.dtype == torch.uint8
    assert torch.equal(pixels, before) and not torch.equal(changed, before)


def test_none_changes_nothing() -> None:
    pixels, keys = batch(4)
    assert torch.equal(augment(pixels, keys, 5, "none"), pixels)


def test_about_half_of_the_images_are_flipped_and_the_rest_is_untouched() -> None:
    pixels, keys = batch(400, side=8)
    changed = augment(pixels, keys, 0, "flip")
    flipped = (changed == pixels.flip(-1)).flatten(1).all(1)
    same = (changed == pixels).flatten(1).all(1)
    assert bool((flipped | same).all())
    assert 0.42 < flipped.float().mean() < 0.58


def test_random_numbers_are_uniform_and_differ_between_views() -> None:
    _, keys = batch(2_000, side=8)
    draws = torch.cat([augmentation._draws(keys, view) for view in range(5)])  # [10_000, 4]
    shares = torch.stack([((draws >= i / 10) & (draws < (i + 1) / 10)).float().mean(0) for i in range(10)])
    assert float((shares - 0.1).abs().max()) < 0.02
    assert float(torch.corrcoef(draws.T).fill_diagonal_(0).abs().max()) < 0.05


@pytest.mark.parametrize("side", [16, 33])
def test_a_crop_shows_a_part_of_the_image_between_its_own_values(side: int) -> None:
    ramp = torch.linspace(0, 255, side).to(torch.uint8).expand(200, 3, side, side).contiguous()  # grows from left to right
    keys = torch.arange(200) * 7_919
    changed = augment(ramp, keys, 0, "crop")[:, 0].float()
    widths = (changed[:, 0, -1] - changed[:, 0, 0]).abs() / 255
    rising = (changed[:, 0, -1] > changed[:, 0, 0]).float().mean()
    assert float((changed.amax(1) - changed.amin(1)).max()) <= 1, "rows of a crop along the ramp are alike"
    assert 0.15 < widths.min() < 0.45 and widths.max() > 0.9
    assert 0.4 < rising < 0.6


def geometric(name: str) -> Callable[[Tensor, float], Tensor]:
    def change(image: Tensor, strength: float) -> Tensor:
        degrees = float(torch.rad2deg(torch.atan(torch.tensor(strength))))
        angle, move, shear, centre = {
            "shear_x": (0.0, [0, 0], [degrees, 0.0], [0, 0]),
            "shear_y": (0.0, [0, 0], [0.0, degrees], [0, 0]),
            "translate_x": (0.0, [int(strength), 0], [0.0, 0.0], None),
            "translate_y": (0.0, [0, int(strength)], [0.0, 0.0], None),
        }[name]
        found: Tensor = TF.affine(image, angle=angle, translate=move, scale=1.0, shear=shear, center=centre)
        return found

    return change


SIGNED_SHARES = [-0.99, -0.33, 0.0, 0.5, 0.9]
AS_TORCHVISION: dict[str, tuple[Callable[[Tensor, float], Tensor], list[float]]] = {
    "shear_x": (geometric("shear_x"), SIGNED_SHARES),
    "shear_y": (geometric("shear_y"), SIGNED_SHARES),
    "translate_x": (geometric("translate_x"), [-20.3, -4.3, 0.0, 5.3, 10.7]),
    "translate_y": (geometric("translate_y"), [-20.3, -4.3, 0.0, 5.3, 10.7]),
    "rotate": (lambda image, strength: TF.rotate(image, strength), [-135.0, -40.5, 0.0, 22.5, 90.0]),
    "brightness": (lambda image, strength: TF.adjust_brightness(image, 1 + strength), SIGNED_SHARES),
    "colour": (lambda image, strength: TF.adjust_saturation(image, 1 + strength), SIGNED_SHARES),
    "contrast": (lambda image, strength: TF.adjust_contrast(image, 1 + strength), SIGNED_SHARES),
    "sharpness": (lambda image, strength: TF.adjust_sharpness(image, 1 + strength), SIGNED_SHARES),
    "posterize": (lambda image, strength: TF.posterize(image, int(strength)), [2.0, 4.0, 6.0, 8.0]),
    "solarize": (lambda image, strength: TF.solarize(image, strength), [0.0, 63.75, 127.5, 255.0]),
    "autocontrast": (lambda image, strength: TF.autocontrast(image), [0.0]),
    "equalize": (lambda image, strength: TF.equalize(image), [0.0]),
}


@pytest.mark.parametrize("name", AS_TORCHVISION)
def test_an_operation_on_a_batch_equals_torchvisions_on_each_image(name: str) -> None:
    expected, strengths = AS_TORCHVISION[name]
    pixels, _ = batch(len(strengths), side=33)
    changed = getattr(augmentation, f"_{name}")(pixels, torch.tensor(strengths))
    for row, strength in enumerate(strengths):
        differing = (changed[row].int() - expected(pixels[row], strength).int()).abs() > 1  # rounding may differ by one
        assert float(differing.float().mean()) < 0.02, f"{name} at {strength}"


def test_every_operation_is_drawn_about_equally_often() -> None:
    _, keys = batch(2_800, side=8)
    chosen = (augmentation._draws(keys, 0)[:, 0] * len(augmentation.OPERATIONS)).long()
    counts = chosen.bincount(minlength=14)
    assert len(counts) == 14 and int(counts.min()) > 140 and int(counts.max()) < 260


@pytest.mark.gpu
@pytest.mark.parametrize("kind", CHANGING)
def test_on_a_gpu_too_the_batch_has_no_say(kind: Kind) -> None:
    pixels, keys = batch(67)
    pixels = pixels.to("cuda:0")
    whole = augment(pixels, keys, 3, kind)
    assert whole.is_cuda and torch.equal(augment(pixels[9:10], keys[9:10], 3, kind)[0], whole[9])
