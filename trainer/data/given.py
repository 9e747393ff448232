"""Checks of a split that the data gives, shared by the listings of all modalities. Imports no torch."""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from trainer.configuration import DataConfig, ListingFacts, Part
from trainer.data.examples import UnfitData, enumerated


@dataclass(frozen=True, slots=True, kw_only=True)
class Remedies:
    """Ends of messages, which depend on how the data states its split."""

    no_split: str  # `split: given`, and the data has no split
    no_train: str
    two_tests: str  # a test part, and `test` asks for another one


def refuse_contradictions(data: DataConfig, given: Sequence[Part], remedies: Remedies) -> None:
    """Raises UnfitData if `data.split` or `data.test` contradicts the parts that the data has of its own, or if these lack train."""
    if data.split == "given" and not given:
        text = f"data.split is given, and the data has no split of its own: {remedies.no_split}, or leave data.split out"
        raise UnfitData("no_given_split", text, place=("data", "split"))
    if given and "train" not in given:
        text = f"the data's own split has {' and '.join(given)}, and nothing to train on; {remedies.no_train}"
        raise UnfitData("no_train_part", text, place=("data", "split"))
    if "test" in given and data.test > 0:
        raise UnfitData(
            "test_given_twice",
            f"the data has a test part of its own, and data.test asks for another ({data.test:g}); {remedies.two_tests}",
            place=("data", "test"),
        )


def refuse_divided_groups(pairs: Iterable[tuple[str | None, Part | None]], facts: ListingFacts) -> None:
    """Raises UnfitData if a declared group has examples in several parts, given the group and the part of each example."""
    parts = defaultdict[str, set[Part | None]](set)
    for group, part in pairs:
        if group is not None:
            parts[group].add(part)
    if divided := sorted(group for group, own in parts.items() if len(own) > 1):
        column = facts.columns.get("group", "group")
        start = f"the column {column} keeps a group in one part, and the data's own split has {len(divided)} of them in several"
        remedy = "correct the rows, or write data.columns: {group: null} to leave the groups out of account"
        raise UnfitData(
            "group_in_two_parts",
            f"{start}: {enumerated(divided)}; {remedy}",
            place=("data", "columns"),
            unnamed=f"{start}; {remedy}",
        )


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
