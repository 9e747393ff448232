"""Augmentation of whole batches; the change of an image is a function of its content and the view."""

import math
from collections.abc import Callable
from typing import Literal, assert_never

import torch
import torch.nn.functional as F
import torchvision.transforms.v2.functional as TF
from torch import Tensor

from trainer.transfers import sent

Augmentation = Literal["none", "flip", "crop", "trivial_augment"]

DRAWS = 4  # random numbers for each image and view
CROP_AREA = (0.08, 1.0)  # share of the image; with the ratios, Inception's crop (Szegedy et al. 2015) as in torchvision
CROP_RATIOS = [math.sqrt(math.exp(math.log(3 / 4) + math.log(16 / 9) * (i + 0.5) / 256)) for i in range(256)]  # square roots of w/h
BINS = 31  # strengths of TrivialAugmentWide
LUMA = (0.2989, 0.587, 0.114)


def augment(pixels: Tensor, keys: Tensor, view: int, augmentation: Augmentation) -> Tensor:
    """Augment pixels uint8 [B, 3, S, S] → the same shape, on the same device. `keys` int64 [B] identify contents, on the host.

    On one device the same key and view give the same pixels in any batch, so augmented views can be stored. `crop` includes `flip`.
    """
    match augmentation:
        case "none":
            return pixels
        case "flip":
            return _flip(pixels, _draws(keys, view))
        case "crop":
            return _crop(pixels, _draws(keys, view))
        case "trivial_augment":
            return _trivial_augment(pixels, _draws(keys, view))
        case _:
            assert_never(augmentation)


def _draws(keys: Tensor, view: int) -> Tensor:
    """Uniform numbers in [0, 1), float32 [B, DRAWS]: SplitMix64 (Steele et al. 2014) of key and counter.

    A counter-based generator: each number depends on its key and counter alone, not on the batch.
    """
    counters = torch.arange(view * DRAWS, (view + 1) * DRAWS) + 1
    z = keys[:, None] + counters * _signed(0x9E3779B97F4A7C15)  # modulo 2^64: int64 overflow wraps around
    z = (z ^ _shifted(z, 30)) * _signed(0xBF58476D1CE4E5B9)
    z = (z ^ _shifted(z, 27)) * _signed(0x94D049BB133111EB)
    return _shifted(z ^ _shifted(z, 31), 40).float() / 2**24


def _signed(number: int) -> int:
    return number - 2**64 if number >= 2**63 else number


def _shifted(z: Tensor, bits: int) -> Tensor:
    return (z >> bits) & ((1 << (64 - bits)) - 1)  # a logical shift; torch's is arithmetic


def _flip(pixels: Tensor, draws: Tensor) -> Tensor:
    turned = sent(draws[:, 0] < 0.5, pixels.device)  # [B]
    return torch.where(turned[:, None, None, None], pixels.flip(-1), pixels)


def _crop(pixels: Tensor, draws: Tensor) -> Tensor:
    low, high = CROP_AREA
    side = (low + (high - low) * draws[:, 0]).sqrt()  # [B], of a square with that area
    ratio = torch.tensor(CROP_RATIOS)[(draws[:, 1] * len(CROP_RATIOS)).long()]
    width, height = (side * ratio).clamp(max=1), (side / ratio).clamp(max=1)
    mirrored = (draws[:, 2] * 2 < 1).float() * -2 + 1  # [B], -1 or 1; the fractional part of the same draw places the crop
    left = (draws[:, 2] * 2 % 1) * 2 * (1 - width) - (1 - width)  # [B], the centre, in [-1, 1]
    top = draws[:, 3] * 2 * (1 - height) - (1 - height)
    zero = torch.zeros_like(width)
    maps = torch.stack([torch.stack([width * mirrored, zero, left], 1), torch.stack([zero, height, top], 1)], 1)
    return _resampled(pixels, maps, "bilinear", "border")


def _resampled(pixels: Tensor, maps: Tensor, mode: str, padding: str) -> Tensor:
    """Resample each image by its affine map [B, 2, 3] from output to input coordinates, both in [-1, 1] from edge to edge.

    The grid is computed by elementwise operations: a matrix product may round differently in a batch of another size.
    """
    size = pixels.shape[-1]
    maps = sent(maps, pixels.device)
    places = (torch.arange(size, device=pixels.device) * 2 + 1) / size - 1  # [S], centres of pixels
    grid = maps[:, None, None, :, 0] * places[None, None, :, None]
    grid = grid + maps[:, None, None, :, 1] * places[None, :, None, None] + maps[:, None, None, :, 2]  # [B, S, S, 2]
    found = F.grid_sample(pixels.float(), grid, mode=mode, padding_mode=padding, align_corners=False)
    return found.round_().clamp_(0, 255).to(torch.uint8)


# TrivialAugment (Müller and Hutter 2021) with torchvision's wide space: one operation of random strength for each image.

Change = Callable[[Tensor, Tensor], Tensor]  # pixels [B, 3, S, S] uint8, strengths [B] → pixels


def _trivial_augment(pixels: Tensor, draws: Tensor) -> Tensor:
    chosen = (draws[:, 0] * len(OPERATIONS)).long()  # [B]
    bins = (draws[:, 1] * BINS).long()
    signs = torch.where(draws[:, 2] < 0.5, -1, 1)
    changed = pixels.clone()
    for index, (strengths, change) in enumerate(OPERATIONS):
        if len(own := (chosen == index).nonzero()[:, 0]):  # on the host, without a synchronisation
            strength = torch.tensor(strengths)[bins[own]]
            if change in SIGNED:
                strength = strength * signs[own]
            where = sent(own, pixels.device)
            changed[where] = change(pixels[where], strength)
    return changed


def _scaled(top: float) -> list[float]:
    return [top * i / (BINS - 1) for i in range(BINS)]


def _unchanged(pixels: Tensor, strength: Tensor) -> Tensor:
    return pixels


def _maps(count: int) -> Tensor:
    return torch.eye(2, 3).repeat(count, 1, 1)


def _shear_x(pixels: Tensor, strength: Tensor) -> Tensor:
    maps = _maps(len(pixels))
    maps[:, 0, 1] = maps[:, 0, 2] = strength  # the top left corner is fixed
    return _resampled(pixels, maps, "nearest", "zeros")


def _shear_y(pixels: Tensor, strength: Tensor) -> Tensor:
    maps = _maps(len(pixels))
    maps[:, 1, 0] = maps[:, 1, 2] = strength
    return _resampled(pixels, maps, "nearest", "zeros")


def _translate_x(pixels: Tensor, strength: Tensor) -> Tensor:
    maps = _maps(len(pixels))
    maps[:, 0, 2] = -strength.trunc() * 2 / pixels.shape[-1]
    return _resampled(pixels, maps, "nearest", "zeros")


def _translate_y(pixels: Tensor, strength: Tensor) -> Tensor:
    maps = _maps(len(pixels))
    maps[:, 1, 2] = -strength.trunc() * 2 / pixels.shape[-1]
    return _resampled(pixels, maps, "nearest", "zeros")


def _rotate(pixels: Tensor, strength: Tensor) -> Tensor:
    angles = [math.radians(degrees) for degrees in strength.tolist()]
    cosines, sines = torch.tensor([math.cos(angle) for angle in angles]), torch.tensor([math.sin(angle) for angle in angles])
    zero = torch.zeros_like(cosines)
    maps = torch.stack([torch.stack([cosines, -sines, zero], 1), torch.stack([sines, cosines, zero], 1)], 1)
    return _resampled(pixels, maps, "nearest", "zeros")


def _blended(pixels: Tensor, other: Tensor | float, strength: Tensor) -> Tensor:
    """Interpolate: `other` at strength -1, the pixels at 0; extrapolate above 0."""
    share = sent(1 + strength, pixels.device)[:, None, None, None]
    return (share * pixels + (1 - share) * other).clamp_(0, 255).to(torch.uint8)


def _grey(pixels: Tensor) -> Tensor:
    red, green, blue = pixels.unbind(1)
    return (LUMA[0] * red + LUMA[1] * green + LUMA[2] * blue).floor_()[:, None]  # [B, 1, S, S], integers


def _brightness(pixels: Tensor, strength: Tensor) -> Tensor:
    return _blended(pixels, 0.0, strength)


def _colour(pixels: Tensor, strength: Tensor) -> Tensor:
    return _blended(pixels, _grey(pixels), strength)


def _contrast(pixels: Tensor, strength: Tensor) -> Tensor:
    total = _grey(pixels).long().sum((1, 2, 3), keepdim=True)  # integers: the sum does not depend on its order
    return _blended(pixels, total.float() / (pixels.shape[-1] * pixels.shape[-2]), strength)


def _sharpness(pixels: Tensor, strength: Tensor) -> Tensor:
    size, wide = pixels.shape[-1], pixels.int()
    around = sum(wide[..., i : size - 2 + i, j : size - 2 + j] for i in range(3) for j in range(3))  # sums over 3 x 3
    blurred = pixels.clone()
    blurred[..., 1:-1, 1:-1] = ((around + 4 * wide[..., 1:-1, 1:-1]) / 13).round().to(torch.uint8)  # weight 5 of 13 for the centre
    return _blended(pixels, blurred, strength)


def _posterize(pixels: Tensor, strength: Tensor) -> Tensor:
    masks = torch.tensor([256 - 2 ** (8 - int(bits)) for bits in strength.tolist()], dtype=torch.uint8)
    return pixels & sent(masks, pixels.device)[:, None, None, None]


def _solarize(pixels: Tensor, strength: Tensor) -> Tensor:
    return torch.where(pixels >= sent(strength, pixels.device)[:, None, None, None], 255 - pixels, pixels)


def _autocontrast(pixels: Tensor, strength: Tensor) -> Tensor:
    stretched: Tensor = TF.autocontrast(pixels)
    return stretched


def _equalize(pixels: Tensor, strength: Tensor) -> Tensor:
    levelled: Tensor = TF.equalize(pixels)
    return levelled


SIGNED: frozenset[Change] = frozenset(
    {_shear_x, _shear_y, _translate_x, _translate_y, _rotate, _brightness, _colour, _contrast, _sharpness}
)
OPERATIONS: tuple[tuple[list[float], Change], ...] = (
    (_scaled(0), _unchanged),
    (_scaled(0.99), _shear_x), (_scaled(0.99), _shear_y),
    (_scaled(32), _translate_x), (_scaled(32), _translate_y),  # pixels
    (_scaled(135), _rotate),  # degrees
    (_scaled(0.99), _brightness), (_scaled(0.99), _colour), (_scaled(0.99), _contrast), (_scaled(0.99), _sharpness),
    ([8.0 - round(i / 5) for i in range(BINS)], _posterize),  # bits kept
    ([255.0 - 8.5 * i for i in range(BINS)], _solarize),  # threshold
    (_scaled(0), _autocontrast), (_scaled(0), _equalize),
)  # fmt: skip
