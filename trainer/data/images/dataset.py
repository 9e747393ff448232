"""Lists and splits a data set of images by content."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import ClassVar, Literal

from trainer.cache import Cache
from trainer.configuration import LeftOut, ListingFacts, Part
from trainer.data.contents import Distinct, Unopened, digests, distinct
from trainer.data.dataset import Content, Dataset, Listing, split_contents, split_digest
from trainer.data.examples import BadData, Example, MissingData, UnfitData
from trainer.data.groups import GroupCounts, Groups
from trainer.data.images import reading
from trainer.data.images.decoding import Decoder, Scale
from trainer.data.images.listing import refuse_similar_labels, refuse_unwritable_names, scan
from trainer.data.images.listing.folders import COPY
from trainer.data.images.near_duplicates import near_duplicates
from trainer.data.images.reading import left_out
from trainer.data.split import Split, split, stratified
from trainer.data.targets import TargetReader, TargetValue
from trainer.tasks.images.config import ImageData, ImageExamples, NearDuplicates, PixelRange

MISSING = ("missing_data", "unreadable_data", "empty_data")  # the last one: a mount point without its mount is an empty folder
EXAMPLES, NAMES = 5, 5  # groups listed in the dataset info, and images named of each


@dataclass(frozen=True, slots=True)
class ImageDataset(Dataset):
    """Labelled images sorted by the SHA-256 of their content."""

    by_content: ClassVar[tuple[str, ...]] = ("contents", "targets")

    near_duplicates: NearDuplicates = field(repr=False)
    decoder: Decoder
    targets: tuple[TargetValue, ...] = field(repr=False)  # by content
    pixel_range: PixelRange | None  # None if no image has more than 8 bits a sample, or the decoder takes their upper 8 bits

    @property
    def classes(self) -> tuple[str, ...]:
        """The class names in the order of the model's outputs."""
        return self.labels

    @property
    def duplicate_facts(self) -> NearDuplicates:
        """Numbers of the groups of near-duplicates."""
        return self.near_duplicates

    def examples(self, rows: Sequence[int]) -> ImageExamples:
        """The number of files with the contents of those rows, and the names of some."""
        files = [_printable(self.contents[row].files[0].name) for row in rows]
        return ImageExamples(count=sum(len(self.contents[row].files) for row in rows), examples=tuple(files[:EXAMPLES]))


def find(data: ImageData, cache: Cache | None = None) -> ImageDataset:
    """List and split the data set at the path. Raises BadData.

    Reads the files that have changed since this process last read them. Near-duplicates lie in one part; they are computed from the
    pixels unless this process or the cache has them already.
    """
    return arrange(data, listed(data, cache), cache)


def listed(data: ImageData, cache: Cache | None = None, *, accepted: bool = False, target: TargetReader | None = None) -> Listing:
    """The images at the path, without those that `data.unreadable: skip` leaves out. `target` as of `scan`. Raises BadData.

    With `accepted`, for data that passed an earlier check, class names are not checked again: so a study that was accepted by a version
    with fewer checks can continue.
    """
    try:
        found = scan(data, target=target)
        if not accepted:
            refuse_unwritable_names(data, found, target)
            refuse_similar_labels(data, found, target)
    except UnfitData as error:
        missing = error.code in MISSING or (accepted and error.code == "missing_files")
        raise (MissingData if missing else BadData)(str(error)) from error
    sha256s = digests(found.examples, Decoder.of(data).max_file_bytes)
    unreadable = left_out(data, found.examples, sha256s, cache or Cache.none())
    kept = [(image, sha256) for image, sha256 in zip(found.examples, sha256s, strict=True) if image not in unreadable]
    reasons = tuple(sorted(_printable(f"{image.name}: {reason}") for image, reason in unreadable.items()))
    images, contents = tuple(image for image, _ in kept), tuple(str(sha256) for _, sha256 in kept)
    return _listing(found.labels, images, contents, found.facts.model_dump_json(), reasons)


@lru_cache(maxsize=4)  # each trial of a search lists the same data set
def _listing(
    classes: tuple[str, ...], images: tuple[Example, ...], sha256s: tuple[str, ...], facts: str, unreadable: tuple[str, ...]
) -> Listing:
    contents = distinct(classes, images, sha256s)
    return Listing.of(classes, contents, ListingFacts.model_validate_json(facts), unreadable)


def arrange(
    data: ImageData,
    listing: Listing,
    cache: Cache | None = None,
    pixel_range: PixelRange | Literal["find"] | None = "find",
    target: TargetReader | None = None,
) -> ImageDataset:
    """Split the images. `pixel_range` is the range (or None) of an earlier check, or "find" to compute it from the training images.

    The split is stratified by the strata of `target`; without it by label.

    Raises BadData if a class has too few images, and with the names of images that cannot be decoded.
    """
    _by_content(data, listing, target)  # refuses data that cannot be split before anything is decoded
    # The range of the training images needs the split, and the split needs the near-duplicates. So while images are compared, each image
    # of more than 8 bits is scaled by its own range.
    deep = any(_sample_ranges(data, listing)) if pixel_range == "find" else pixel_range is not None
    groups = near_duplicates(listing.contents, Decoder.of(data, own_range=deep), cache or Cache.none())
    return _arranged(data, listing, groups, pixel_range if deep else None, target)


@lru_cache(maxsize=4)
def _sample_ranges(data: ImageData, listing: Listing) -> list[Scale | None]:
    return reading.sample_ranges(listing.contents, Decoder.of(data))


@lru_cache(maxsize=4)
def _by_content(data: ImageData, listing: Listing, target: TargetReader | None) -> Split:
    strata, contents, _ = _strata(data, listing, target)
    return split(data, strata, contents)


@lru_cache(maxsize=4)
def _strata(data: ImageData, listing: Listing, target: TargetReader | None) -> tuple[Sequence[str], Sequence[Distinct], int]:
    return stratified(data, listing.labels, listing.contents, target)


@lru_cache(maxsize=4)
def _arranged(
    data: ImageData, listing: Listing, groups: Groups, given: PixelRange | Literal["find"] | None, target: TargetReader | None
) -> ImageDataset:
    by_content, (strata, stratified_contents, merged) = _by_content(data, listing, target), _strata(data, listing, target)
    found = split(data, strata, stratified_contents, groups.sound) if groups.sound else by_content
    contents = split_contents(listing.contents, found.parts)
    copies = [_printable(file.name) for one in listing.contents for file in one.files if file.part != one.given]
    unused = [LeftOut(reason=COPY, count=len(copies), examples=tuple(copies[:EXAMPLES]))] if copies else []
    pixel_range = _pixel_range(data, contents, _sample_ranges(data, listing)) if given == "find" else given
    values = [label if target is None else target.value(label) for label in listing.labels]
    return ImageDataset(
        labels=listing.labels,
        contents=contents,
        fingerprint=listing.fingerprint,
        split=split_digest(contents),
        near_duplicates=_summary(listing, groups, found, by_content.parts, target),
        listing=listing.facts.model_copy(update={"left_out": (*listing.facts.left_out, *unused)}),
        decoder=Decoder.of(data, None if pixel_range is None else (pixel_range.low, pixel_range.high)),
        pixel_range=pixel_range,
        targets=tuple(values[content.label] for content in contents),
        merged_strata=merged,
    )


def without_targets(data: ImageData, files: Sequence[Path], pixel_range: PixelRange | None) -> tuple[ImageDataset, Sequence[str | None]]:
    """The files that can be decoded in their order, as one part without targets; and for each file the reason if it cannot be.

    Raises BadData for a file that can no longer be read.
    """
    decoder = Decoder.of(data, None if pixel_range is None else (pixel_range.low, pixel_range.high))
    examples = [Example(file, file.name, "") for file in files]
    found = digests(examples, decoder.max_file_bytes)
    reasons: list[str | None] = [one.reason if isinstance(one, Unopened) else None for one in found]
    rows = [row for row, reason in enumerate(reasons) if reason is None]
    contents = [Content(str(found[row]), 0, (examples[row],), "test") for row in rows]
    for row, reason in zip(rows, reading.undecodable(contents, decoder), strict=True):
        reasons[row] = reason
    dataset = ImageDataset(
        labels=(),
        contents=tuple(content for row, content in zip(rows, contents, strict=True) if reasons[row] is None),
        fingerprint="",
        split="",
        listing=ListingFacts(),
        near_duplicates=NearDuplicates(groups=0, images=0, crossing=0, mixed=0),
        decoder=decoder,
        targets=(),
        pixel_range=pixel_range,
    )
    return dataset, reasons


def _pixel_range(data: ImageData, contents: Sequence[Content], found: Sequence[Scale | None]) -> PixelRange:
    """The range declared by data.bit_depth, else the range of the training images; of all images if no training image has over 8 bits."""
    deep = [(content, own) for content, own in zip(contents, found, strict=True) if own is not None]
    own = [samples for content, samples in deep if content.part == "train"] or [samples for _, samples in deep]
    low, high = min(low for low, _ in own), max(high for _, high in own)
    if data.bit_depth is not None:
        low, high = 0.0, float(2**data.bit_depth - 1)
    beyond = [content for content, (lowest, highest) in deep if lowest < low or highest > high]
    return PixelRange(
        low=low,
        high=high,
        source="training_images" if data.bit_depth is None else "bit_depth",
        images=sum(len(content.files) for content, _ in deep),
        clipped=ImageExamples(
            count=sum(len(content.files) for content in beyond),
            examples=tuple(_printable(content.files[0].name) for content in beyond[:EXAMPLES]),
        ),
    )


def _summary(listing: Listing, groups: Groups, split: Split, by_content: Sequence[Part], target: TargetReader | None) -> NearDuplicates:
    contents = listing.contents
    named = target is None or bool(target.names(listing.labels))  # near-duplicates may differ in a number without a mistake
    counts = GroupCounts.of([content.label if named else 0 for content in contents], groups, split, by_content)
    return NearDuplicates(
        groups=counts.groups,
        images=counts.contents,
        crossing=counts.crossing,
        mixed=len(counts.mixed),
        too_large=counts.too_large,
        examples=tuple(tuple(_printable(contents[row].files[0].name) for row in group[:NAMES]) for group in counts.ordered[:EXAMPLES]),
        across=len(counts.across),
    )


def _printable(name: str) -> str:
    return name.encode("utf-8", "replace").decode()
