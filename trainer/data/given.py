"""Checks of a split that the data gives, shared by the listings of all modalities. Imports no torch."""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence

from trainer.configuration import DataConfig, Part
from trainer.data.examples import UnfitData, enumerated


def refuse_divided_groups(parts: Mapping[str, set[Part | None]], column: str) -> None:
    """Raises UnfitData if a declared group has examples in several parts; `parts` are those of each group, `column` declares the groups."""
    if divided := sorted(group for group, own in parts.items() if len(own) > 1):
        start = f"the column {column} keeps a group in one part, and the data's own split has {len(divided)} of them in several"
        remedy = "correct the rows, or write data.columns: {group: null} to leave the groups out of account"
        raise UnfitData(
            "group_in_two_parts",
            f"{start}: {enumerated(divided)}; {remedy}",
            place=("data", "columns"),
            unnamed=f"{start}; {remedy}",
        )


def parts_of_groups(pairs: Iterable[tuple[str | None, Part | None]]) -> Mapping[str, set[Part | None]]:
    """The parts of each group, from the group and the part of each example."""
    parts = defaultdict[str, set[Part | None]](set)
    for group, part in pairs:
        if group is not None:
            parts[group].add(part)
    return parts


def split_notes(data: DataConfig, given: Sequence[Part]) -> Iterator[str]:
    """Sentences about parts that are drawn though the data has a split, and about shares that are not used."""
    if not given:
        return
    if "validation" not in given:
        yield f"The data has no validation part: validation is drawn from its train part by data.validation ({data.validation:g})."
    if "test" not in given and data.test > 0:
        yield f"The data has no test part: test is drawn from its train part by data.test ({data.test:g})."
    if "validation" in given and data.validation != DataConfig.model_fields["validation"].default:
        yield f"data.validation ({data.validation:g}) is not used: the data has a validation part of its own."
