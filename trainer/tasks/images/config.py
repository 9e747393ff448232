"""Models of image tasks: data, model, hyperparameters of the input, and facts about the data. Imports no torch."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Literal, Self

from pydantic import ConfigDict, Field, FiniteFloat, field_validator, model_validator

from trainer.adapters.config import AdapterHyperparameters
from trainer.configuration import (
    ColumnName,
    DataConfig,
    DatasetInfo,
    Frozen,
    ModelConfig,
    Resolve,
    TrainConfig,
    counted,
    resolve_fields,
)

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)
IMAGE_SUFFIXES = frozenset(
    {
        ".apng", ".avif", ".avifs", ".bmp", ".dib", ".gif", ".j2c", ".j2k", ".jfif", ".jp2", ".jpc", ".jpe", ".jpeg", ".jpf", ".jpg",
        ".jpx", ".pbm", ".pgm", ".png", ".pnm", ".ppm", ".qoi", ".tif", ".tiff", ".webp",
    }
)  # fmt: skip
"""Lower-case suffixes of image files that are read with Pillow. `trainer.data.images.decoding.FORMATS` lists the formats."""
HEIC_SUFFIXES = frozenset({".heic", ".heics", ".heif", ".heifs", ".hif"})
"""Read only if the package pillow-heif is installed (the extra `heic`)."""
DEFAULT_MEGAPIXELS, HIGHEST_MEGAPIXELS = 50, 1_000  # of an image, by its header; decoding takes at least 3 MB of memory per megapixel


class Columns(Frozen):
    """Names of a table's columns. Case is ignored unless two columns differ only in case."""

    path: ColumnName = "path"
    label: ColumnName = "label"
    split: ColumnName | None = Field(
        default="split",
        description="column with train, val, validation, valid, dev or test in each row; used if the table has it; null: not used",
    )
    group: ColumnName | None = Field(
        default="group", description="rows of one group stay in one part of the split; used if the table has this column; null: not used"
    )

    @property
    def role_of_target(self) -> str:
        """The name of the field for the column of labels, in documents."""
        return "label"

    def of(self, role: str) -> str | None:
        """The column with that role: path, split, group or that of the target."""
        name: str | None = getattr(self, "label" if role == self.role_of_target else role)
        return name


class TargetColumns(Columns):
    """Columns of a table with a column of targets in place of labels."""

    model_config = ConfigDict(serialize_by_alias=True)
    label: ColumnName = Field(default="target", alias="target", description="numbers, or label names joined by data.label_separator")

    @property
    def role_of_target(self) -> str:
        """The name of the field for the column of targets, in documents."""
        return "target"


# Fields that version 0.1 lacked are excluded from JSON while they have their default, so that stored JSON and digests of configs do not
# change.


class ImageData(DataConfig):
    """Labelled images: a folder for each label, optionally inside train/, val/ and test/, or a table (.csv, .tsv) of paths and labels."""

    root: str | None = Field(
        default=None, min_length=1, max_length=4096, exclude_if=lambda root: root is None,
        description="base folder of a table's relative paths; null: the table's own folder",
    )  # fmt: skip
    columns: Columns = Field(default=Columns(), exclude_if=lambda columns: columns == Columns(), description="column names of a table")
    similar_labels: Literal["refuse", "keep"] = Field(
        default="refuse", exclude_if=lambda similar: similar == "refuse",
        description="labels that differ only in case, spaces, Unicode form or number format; keep: they are different labels",
    )  # fmt: skip
    bit_depth: int | None = Field(
        default=None, ge=1, le=32, exclude_if=lambda depth: depth is None,
        description="for images with more than 8 bits per sample: 0 becomes black and 2^bit_depth - 1 white; null: the lowest sample of "
        "the training images becomes black and the highest white. Images with 8 bits are not changed",
    )  # fmt: skip
    unreadable: Literal["refuse", "skip"] = Field(
        default="refuse",
        exclude_if=lambda unreadable: unreadable == "refuse",
        description="treatment of files that cannot be decoded: `skip` leaves them out, and reports their number and names",
    )
    unreadable_limit: FiniteFloat = Field(
        default=0.01,
        gt=0,
        le=1,
        exclude_if=lambda limit: limit == 0.01,
        description="with `skip`: largest share of files that may be left out (one file is always accepted), else the data is refused",
    )
    max_megapixels: FiniteFloat = Field(
        default=DEFAULT_MEGAPIXELS, gt=0, le=HIGHEST_MEGAPIXELS, exclude_if=lambda limit: limit == DEFAULT_MEGAPIXELS,
        description="larger images are refused by their header; each decoding thread needs 3 to 12 MB of memory per megapixel",
    )  # fmt: skip

    @classmethod
    def resolved(cls, section: Mapping[str, Any], resolve: Resolve) -> dict[str, Any]:
        """The section as written, with its relative paths resolved."""
        return resolve_fields(section, {"path": bool, "root": bool}, resolve)

    @property
    def paths(self) -> tuple[str, ...]:
        """The path, and the base folder of a table's paths."""
        return (self.path,) if self.root is None else (self.path, self.root)

    @model_validator(mode="after")
    def _root_and_columns_belong_to_a_table(self) -> Self:
        if not self.is_table and (self.root is not None or self.columns != type(self.columns)()):
            raise ValueError("root and columns apply to a table (.csv, .tsv), but the path is a folder; leave them out")
        return self


class ImageTableData(ImageData):
    """Images with targets: a table (.csv, .tsv) of paths and targets."""

    columns: TargetColumns = Field(
        default=TargetColumns(), exclude_if=lambda columns: columns == TargetColumns(), description="column names of the table"
    )


Channel = tuple[FiniteFloat, FiniteFloat, FiniteFloat]


class ImageModel(ModelConfig):
    """A model of the catalogue, where its weights come from, and how its input is normalised."""

    mean: Channel | None = Field(
        default=None, description="mean of the RGB channels, on the scale 0 to 1; null: that of the weights, else ImageNet's"
    )
    std: Channel | None = Field(default=None, description="standard deviation, likewise")

    @field_validator("std")
    @classmethod
    def _spread_is_positive(cls, std: Channel | None) -> Channel | None:
        if std is not None and min(std) <= 0:
            raise ValueError("each standard deviation must be above 0")
        return std


class ImageHyperparameters(AdapterHyperparameters):
    """Hyperparameters of the input of image tasks."""

    augmentation: Literal["none", "flip", "crop", "trivial_augment"] = "none"
    augmentation_views: int = Field(
        default=0,
        ge=0,
        le=10_000,
        description="number of stored augmented views of an image (view = epoch mod views); 0: a new view in each epoch",
    )
    image_size: int = Field(
        default=224, ge=8, le=2_048, description="pixels; the shorter side is resized to it, then the centre is cropped"
    )


class ImageTrainConfig(ImageHyperparameters, TrainConfig):
    """The part of a run's configuration that all image tasks have."""

    data: ImageData
    model: ImageModel


class NearDuplicates(Frozen):
    """Groups of images with different files and nearly equal content. Each group is kept in one part of the split."""

    groups: int = Field(ge=0, description="number of groups, each of two or more different files")
    images: int = Field(ge=0, description="number of images in all groups")
    crossing: int = Field(ge=0, description="groups that a split by content alone would have divided")
    mixed: int = Field(ge=0, description="groups with more than one label: an image in them may have a wrong label")
    too_large: int = Field(
        default=0, ge=0, description="further groups, which are not kept in one part, since their label could not be split otherwise"
    )
    examples: tuple[tuple[str, ...], ...] = Field(
        default=(), description="names of the images in some groups, groups with mixed labels first"
    )
    across: int = Field(
        default=0,
        ge=0,
        exclude_if=lambda across: across == 0,
        description="groups with images in several parts of a given split, which are not moved",
    )


class ImageExamples(Frozen):
    """The number of images with some property, and names of some of them."""

    count: int = Field(ge=0)
    examples: tuple[str, ...] = Field(default=(), description="names relative to the data's path, some with the reason after a colon")


class PixelRange(Frozen):
    """Conversion of images with more than 8 bits per sample: `low` becomes black, `high` white, and samples beyond are clipped."""

    low: FiniteFloat
    high: FiniteFloat
    source: Literal["training_images", "bit_depth"] = Field(description="found in the training images, or declared as data.bit_depth")
    images: int = Field(default=0, ge=0, description="number of images with more than 8 bits per sample; the other images are not changed")
    clipped: ImageExamples | None = Field(default=None, description="images with samples beyond the range; None if not checked")


class Normalisation(Frozen):
    """Mean and standard deviation by which a run normalises its images, and their source."""

    mean: Channel
    std: Channel
    source: Literal["study", "weights", "metadata", "assumed", "default"] = Field(
        description="study: from the study; weights: of the published weights; metadata: from the metadata of the weights file; "
        "assumed: ImageNet's, since the weights file states none; default: ImageNet's, for random initial values"
    )


class ImageDatasetInfo(DatasetInfo):
    """Facts about images and weights."""

    example = "image"
    images: Mapping[str, int] = Field(description="number of images in train, validation and test")
    near_duplicates: NearDuplicates | None = Field(default=None, description="None if not searched for")
    normalisation: Normalisation | None = Field(
        default=None,
        exclude_if=lambda normalisation: normalisation is None,
        description="None in results of version 0.1, whose studies state it",
    )
    pixel_range: PixelRange | None = Field(
        default=None,
        exclude_if=lambda found: found is None,
        description="None if all images have 8 bits per sample, and for studies of version 0.1, which used the upper 8 of 16 bits",
    )
    constant: ImageExamples | None = Field(
        default=None,
        exclude_if=lambda found: found is None,
        description="images whose pixels are all equal after preprocessing; None if the check found none",
    )
    unreadable: ImageExamples | None = Field(
        default=None,
        exclude_if=lambda found: found is None,
        description="files left out by data.unreadable: skip, with the reasons; the fingerprint does not include them",
    )

    @property
    def sizes(self) -> Mapping[str, int]:
        """The number of images in train, validation and test."""
        return self.images

    @property
    def identity_fields(self) -> frozenset[str]:
        """Those of every task, the number of images and their near-duplicates."""
        return super().identity_fields | {"images", "near_duplicates"}

    @property
    def identity(self) -> Sequence[Mapping[str, Any]]:
        """Those of every task, and the pixel range where there is one, which version 0.1 lacked."""
        return [*super().identity, *([{"pixel_range": [pixels.low, pixels.high]}] if (pixels := self.pixel_range) is not None else [])]

    @property
    def notes(self) -> tuple[str, ...]:
        """Notes to the user about images and weights, of one or two sentences, for pages, logs and model cards."""
        return (*super().notes, *self._notes())

    def _notes(self) -> Iterator[str]:
        if (left_out := self.unreadable) is not None:
            yield f"{_images(left_out.count)} left out as unreadable{_named(left_out)}."
        if (pixels := self.pixel_range) is not None:
            origin = "the range of the training images" if pixels.source == "training_images" else "as data.bit_depth declares"
            rest = sum(self.images.values()) - pixels.images
            mixed = (
                f" The other {counted(rest, 'has', 'have')} 8 bits and {'is' if rest == 1 else 'are'} not changed."
                if pixels.images and rest > 0
                else ""
            )
            count = counted(pixels.images, "image has", "images have")
            yield f"{count} more than 8 bits a sample: {pixels.low:g} becomes black and {pixels.high:g} white, {origin}.{mixed}"
            if pixels.clipped is not None and pixels.clipped.count:
                yield f"{_images(pixels.clipped.count)} clipped, having samples beyond that range{_named(pixels.clipped)}."
        if (weights := self.weights) is not None and weights.unused:
            yield f"The weights are {'.'.join(weights.container)} of their file; also in it and not used: {', '.join(weights.unused)}."
        if self.normalisation is not None and self.normalisation.source == "assumed":
            yield (
                "The weights file does not state by which mean and standard deviation images are normalised, so ImageNet's are assumed; "
                "write model.mean and model.std if it was trained with others."
            )
        if self.constant is not None:
            yield f"{_images(self.constant.count)} of one colour throughout, with nothing to learn from{_named(self.constant)}."


def _images(count: int) -> str:
    return counted(count, "image is", "images are")


def _named(found: ImageExamples) -> str:
    more = f" and {found.count - len(found.examples):,} more" if found.count > len(found.examples) else ""
    return f": {'; '.join(found.examples)}{more}" if found.examples else ""
