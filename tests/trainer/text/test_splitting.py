"""How rows of texts are identified, grouped by near-duplicates and split."""

import itertools
from collections.abc import Sequence
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.trainer.text.conftest import READERS, Write
from trainer.cache import Cache
from trainer.configuration import Part
from trainer.data import groups
from trainer.data.dataset import manifest_of, split_differs
from trainer.data.examples import BadData, MissingData
from trainer.data.targets import TargetValue
from trainer.data.text import dataset, near_duplicates
from trainer.data.text.dataset import TextDataset, find, listed
from trainer.tasks.text.data import TextData

WORDS = """account amount bank branch card cash charge cheque credit debit deposit fee limit loan money payment rate refund transfer
wallet"""


def drawn(*seed: int) -> int:
    """A number from 0 to 255, the same on every machine."""
    return sha256(repr(seed).encode()).digest()[0]


def sentence(number: int, words: int = 9) -> str:
    return " ".join(WORDS.split()[drawn(number, place) % 20] for place in range(words))


def lines(count: int = 60, labels: str = "abc") -> list[str]:
    return ["text,label", *(f"{sentence(number)},{labels[number % len(labels)]}" for number in range(count))]


def found(path: Path, kind: str = "label", cache: Cache | None = None, **fields: Any) -> TextDataset:
    return find(TextData.model_validate({"path": str(path), **fields}), READERS[kind], cache)


def parts_of(split: TextDataset, *texts: str) -> set[Part]:
    return {content.part for content, (text, _) in zip(split.contents, split.texts, strict=True) if text in texts}


def test_a_row_is_identified_by_texts_and_target() -> None:
    assert dataset.identity("one", None, "x") == "034ad30d3f67a453b5d87b353a4059f0338136378334cde9947ab283bd0b13e9"
    others: list[tuple[str, str | None, TargetValue]] = [
        ("one", None, "y"),
        ("one", "", "x"),
        ("One", None, "x"),
        ("one", None, ("x",)),
        ("one", None, 1.0),
    ]
    assert len({dataset.identity(*one) for one in others} | {dataset.identity("one", None, "x")}) == 6


GOLDEN = {
    ("label", False): "34c96b0dd48e181e40fe88a89ac3308f1d6d0b6ef1d1a32a72e8f0d6b4712aa0",
    ("label", True): "45ea8833ab9c023b9859bbe972433a1dbd6204ae5a0fb7ada80d5c1f0ba732a4",
    ("number", True): "50337979d297ba225326ad1506c09bdccd45dd381ce1c420b89893c8bb16d6aa",
    ("labels", True): "ef5daa9c39df235732c4b1d2db028fe765c54df73c9dea2a221f591f8fac64ed",
}


@pytest.mark.parametrize(("kind", "near"), GOLDEN)
def test_the_split_of_known_rows_does_not_change(write: Write, kind: str, near: bool) -> None:
    targets = {"label": "{0}", "labels": "{0}|{1}", "number": "{2}"}[kind]
    rows = [
        f"{sentence(number // 2)} {'!' * (number % 2)},{targets.format('ab'[number % 4 // 2], 'cd'[number % 2], number)}"
        for number in range(80)
    ]
    split = found(write("rows.csv", "text,label", *rows), kind, test=0.1, near_duplicates=near)
    assert (split.split, split.duplicates.groups) == (GOLDEN[kind, near], 40 if near else 0)


def test_the_split_depends_on_contents_and_seed_alone(write: Write, tmp_path: Path) -> None:
    first = found(write("rows.csv", *lines()))
    head, *rows = lines()
    shuffled = write("other/name.csv", head, *sorted(rows, key=lambda row: sha256(row.encode()).digest()))
    assert (found(shuffled).split, found(shuffled).fingerprint) == (first.split, first.fingerprint)
    assert found(shuffled, seed=1).split != first.split
    assert first.counts == {"train": 48, "validation": 12, "test": 0}
    json_lines = [f'{{"label": "{row.rpartition(",")[2]}", "text": "{row.rpartition(",")[0]}"}}' for row in rows]
    assert found(write("rows.jsonl", *json_lines)).split == first.split, "another format of the same rows"


def test_equal_texts_with_different_targets_are_two_rows_in_one_part(write: Write) -> None:
    file = write("rows.csv", *lines(), *(f"{sentence(number)},{'bca'[number % 3]}" for number in range(20)))
    for near in (True, False):
        split = found(file, near_duplicates=near)
        assert len(split.contents) == 80 and sum(split.counts.values()) == 80
        assert all(len(parts_of(split, sentence(number))) == 1 for number in range(20))
        assert (split.duplicates.groups, split.duplicates.rows, split.duplicates.mixed) == (20, 40, 20)


def test_copies_are_one_content(write: Write) -> None:
    split = found(write("rows.csv", *lines(), *lines(6)[1:]))
    assert (len(split.contents), sum(split.counts.values()), split.duplicates.copies) == (60, 66, 6)
    assert sum(len(split.rows(part)) for part in ("train", "validation", "test")) == 66


ALIKE = [
    ("Where is my card?", "where is  my CARD?"), ("Sent 100 pounds on 3 May", "sent 7 pounds on 21 may"),
    ("\uff37here is my card\u2026", "where is my card..."), (sentence(1, 12), sentence(1, 12) + "!"),
    (sentence(2, 60), sentence(2, 60).replace("card", "cards", 1)), ("Where is my card?", "Were is my card?"),
    ("I lost my phone", "I lost my phonr"), ("How do I top up?", "How do I top-up?"),
]  # fmt: skip
UNLIKE = [
    ("yes", "no"), ("Where is my card?", "Where is my cash?"), (sentence(3), sentence(4)), ("a", "b"),
    ("my card is lost", "my car is lost"), ("a fee, a fine?", "a fee, a find?"), ("Is it a top up or", "Is ti a top up or"),
]  # fmt: skip


@pytest.mark.parametrize(("left", "right", "alike"), [*((*pair, True) for pair in ALIKE), *((*pair, False) for pair in UNLIKE)])
def test_which_texts_are_near_duplicates(left: str, right: str, alike: bool) -> None:
    numbers = near_duplicates.clusters([near_duplicates.normalised((text, None)) for text in (left, "something else entirely", right)])
    assert bool(numbers[0] == numbers[2]) is alike and numbers[0] != numbers[1]


def test_both_texts_of_a_pair_count() -> None:
    texts = [
        ("the first text", "its partner"),
        ("THE FIRST TEXT", "its partner"),
        ("the first text", "a different one"),
        ("the first text", None),
    ]
    numbers = near_duplicates.clusters([near_duplicates.normalised(pair) for pair in texts])
    assert numbers[0] == numbers[1] and len(set(numbers.tolist())) == 3


def jaccard(left: str, right: str) -> float:
    first, second = ({text[place : place + 5] for place in range(max(1, len(text) - 4))} for text in (left, right))
    return len(first & second) / len(first | second)


def edited(text: str, edits: int, seed: int) -> str:
    characters = list(text)
    for edit in range(edits):
        characters[drawn(seed, edit) % len(characters)] = "abcdefgh "[drawn(seed, edit, 1) % 9]
    return "".join(characters)


def test_pairs_are_found_by_their_exact_index() -> None:
    texts = [near_duplicates.normalised((edited(sentence(number // 6, 12), number % 6, number), None)) for number in range(240)]
    numbers = near_duplicates.clusters(texts)
    near = [(left, right) for left, right in itertools.combinations(range(len(texts)), 2) if jaccard(texts[left], texts[right]) >= 0.8]
    assert len(near) > 60
    components = {row: {row} for row in range(len(texts))}
    for left, right in near:
        joined = components[left] | components[right]
        for row in joined:
            components[row] = joined
    same = {(left, right) for left, right in itertools.combinations(range(len(texts)), 2) if numbers[left] == numbers[right]}
    expected = {(left, right) for left, right in itertools.combinations(range(len(texts)), 2) if right in components[left]}
    assert not same - expected, "no pair below the index is joined"
    assert len(expected - same) <= 0.01 * len(expected), "the probability to miss a pair is below 0.0004"


def test_short_texts_that_differ_by_one_character_are_all_found() -> None:
    def differ_by_one(left: str, right: str) -> bool:
        short, long = sorted((left, right), key=len)
        place = next((place for place, one in enumerate(short) if one != long[place]), len(short))
        return long[place + 1 :] == short[place + (len(left) == len(right)) :] and len(long) - len(short) <= 1

    texts = set[str]()
    for number in range(240):
        text = edited(sentence(number // 6, 12)[: 13 + number // 6 * 7 % 50], number % 3, number)
        cut = drawn(number, 7) % len(text)
        texts.add(text if number % 2 else text[:cut] + text[cut + 1 :])
    each = sorted(texts)
    left, right = near_duplicates._one_character_apart(each)
    found = groups.joined(np.arange(len(each)), left, right)
    wanted = [
        pair for pair in itertools.combinations(range(len(each)), 2)
        if all(15 <= len(each[one]) <= 60 for one in pair) and differ_by_one(*(each[one] for one in pair))
    ]  # fmt: skip
    assert len(wanted) > 30 and all(found[first] == found[second] for first, second in wanted)
    assert all(differ_by_one(each[first], each[second]) for first, second in zip(left.tolist(), right.tolist(), strict=True))


def test_signatures_estimate_the_index() -> None:
    texts = [edited(sentence(1, 40), edits, edits) for edits in range(0, 60, 3)]
    found = near_duplicates.signatures(texts)
    errors = [(found[0] == found[row]).mean() - jaccard(texts[0], text) for row, text in enumerate(texts)]
    assert abs(np.mean(errors)) < 0.05 and max(map(abs, errors)) < 0.2, "the deviation of an estimate from 100 values is at most 0.05"


def test_signatures_do_not_depend_on_how_texts_are_divided(monkeypatch: pytest.MonkeyPatch) -> None:
    texts = [sentence(number) for number in range(50)] + ["", "ab", "\U0001f600" * 9]
    whole = near_duplicates.signatures(texts)
    monkeypatch.setattr(near_duplicates, "CHUNK", 100)
    monkeypatch.setattr(near_duplicates, "COMPARED", 1)
    assert np.array_equal(near_duplicates.signatures(texts), whole)
    assert len(set(near_duplicates.clusters(texts).tolist())) == len(texts)


def test_near_duplicates_lie_in_one_part_of_a_drawn_split(write: Write) -> None:
    rows = [f"{sentence(number)}{mark},{'abc'[number % 3]}" for number in range(30) for mark in ("", "!", " ?")]
    apart, together = (found(write("rows.csv", "text,label", *rows), test=0.2, near_duplicates=near) for near in (False, True))
    assert apart.duplicates.groups == 0 and together.duplicates.groups == 30 and together.duplicates.rows == 90
    assert together.duplicates.crossing > 5 and together.duplicates.mixed == 0
    for number in range(30):
        assert len(parts_of(together, *(sentence(number) + mark for mark in ("", "!", " ?")))) == 1
    assert any(len(parts_of(apart, *(sentence(number) + mark for mark in ("", "!", " ?")))) > 1 for number in range(30))
    assert together.counts["train"] == apart.counts["train"] == 54


def test_groups_across_a_given_split_are_counted_and_stay(write: Write) -> None:
    split = found(
        write("train.csv", *lines()), test=str(write("test.csv", "text,label", f"{sentence(0)}!,a", f"{sentence(1)},b", "other words,c"))
    )
    assert split.counts["test"] == 3 and split.duplicates.across == 1
    assert split.duplicates.examples[0] in (("train.csv line 2", "test.csv line 2"), ("test.csv line 2", "train.csv line 2"))
    (copy,) = split.listing.left_out
    assert (copy.count, copy.examples) == (1, ("train.csv line 3",)) and "copy of a row" in copy.reason
    assert split.counts["train"] + split.counts["validation"] == 59


def test_of_a_group_that_is_too_large_only_equal_texts_stay_together(write: Write) -> None:
    like = [f"please check transfer number {number} to my account,a" for number in range(30)]
    rows = [*like, "please check transfer number 3 to my account,b", *lines(40, "bc")[1:]]
    split = found(write("rows.csv", "text,label", *rows))
    assert (split.duplicates.too_large, split.duplicates.groups) == (1, 1)
    assert len(parts_of(split, "please check transfer number 3 to my account")) == 1
    assert len(parts_of(split, *(row.rpartition(",")[0] for row in like))) == 2


def test_groups_are_searched_once_for_all_processes(write: Write, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = [f"{sentence(number)}{mark},{'abc'[number % 3]}" for number in range(30) for mark in ("", "!")]
    file, cache = write("rows.csv", "text,label", *rows), Cache(tmp_path / "cache", 10**8)
    alone = found(file)

    def again() -> None:  # as in another process
        groups._kept.clear()
        dataset._arranged.cache_clear()
        dataset._listed.cache_clear()

    again()
    first = found(file, cache=cache)
    again()

    def refuse(_: Sequence[str]) -> None:
        raise AssertionError("texts were compared once more")

    monkeypatch.setattr(near_duplicates, "clusters", refuse)
    assert found(file, cache=Cache(tmp_path / "cache", 10**8)) == first == alone and first.duplicates.groups == 30
    assert found(file, seed=1, cache=cache).duplicates.groups == 30, "another split of the same rows needs no search either"


def test_a_file_is_read_again_only_if_it_changed(write: Write, monkeypatch: pytest.MonkeyPatch) -> None:
    file = write("rows.csv", *lines())
    data = TextData(path=str(file))
    first = listed(data, None)
    assert listed(data, None) is first
    write("rows.csv", *lines(63))
    assert len(listed(data, None).contents) == 63


def test_labels_with_too_few_rows_are_refused(write: Write) -> None:
    with pytest.raises(BadData, match="z has 1"):
        found(write("rows.csv", *lines(), "rare words here,z"), test=0.2)
    with pytest.raises(MissingData, match="there is no file"):
        found(Path("/nowhere/rows.csv"))


def test_a_given_part_may_lack_labels_that_train_has(write: Write) -> None:
    split = found(write("train.csv", *lines()), validation=str(write("dev.csv", "text,label", "other words,a")))
    assert split.counts == {"train": 60, "validation": 1, "test": 0} and split.label_names == ("a", "b", "c")


def test_sets_of_labels_and_numbers_are_split(write: Write) -> None:
    sets = found(
        write("sets.csv", "text,label", *(f"{sentence(number)},{'a|b|c'[: 1 + 2 * (number % 3)]}" for number in range(90))), "labels"
    )
    assert sets.label_names == ("a", "b", "c") and sets.targets[0] in {("a",), ("a", "b"), ("a", "b", "c")}
    rare = [
        target
        for target, content in zip(sets.targets, sets.contents, strict=True)
        if content.part == "validation" and target == ("a", "b", "c")
    ]
    assert len(rare) == 6 == 0.2 * 30
    numbers = found(write("numbers.csv", "text,label", *(f"{sentence(number)},{number / 7}" for number in range(50))), "number", test=0.1)
    assert numbers.label_names == () and numbers.counts == {"train": 35, "validation": 10, "test": 5}
    assert sorted(float(str(target)) for target in numbers.targets) == [number / 7 for number in range(50)]


def test_declared_groups_stay_in_one_part(write: Write) -> None:
    rows = [f"{sentence(number)},{'ab'[number % 2]},g{number // 4}" for number in range(80)]
    split = found(write("rows.csv", "text,label,group", *rows), test=0.2)
    assert split.listing.groups == 20
    for group in range(20):
        assert len(parts_of(split, *(sentence(number) for number in range(4 * group, 4 * group + 4)))) == 1


def test_a_manifest_names_changed_rows_and_another_split(write: Write) -> None:
    data = TextData(path=str(write("rows.csv", *lines())))
    listing, split = listed(data, None), find(data)
    manifest = manifest_of(listing, split)
    assert manifest is not None and not split_differs(manifest, split)
    assert split_differs(manifest, find(data.model_copy(update={"seed": 1})))


def test_banking77_is_compared_in_seconds(shared_data: Path) -> None:
    folder = shared_data / "text" / "banking77"
    split = found(folder / "train.csv", test=str(folder / "test.csv"))
    assert split.counts == {"train": 8005, "validation": 1998, "test": 3080} and len(split.label_names) == 77
    assert (split.duplicates.groups, split.duplicates.rows, split.duplicates.across, split.duplicates.mixed) == (264, 577, 124, 13)
    assert split.split == "8f51d38b45e7358d3a9f199e99999aca2bba7ab171a4c5ac8beded0be57fa499"
