"""Lists the rows of text files with their targets, and refuses unusable data. Used by the server and the trainer; imports no torch."""

import math
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

from trainer.configuration import ListingFacts, Part
from trainer.data.examples import LISTED, PART_NAMES, Look, UnfitData, enumerated, shown
from trainer.data.given import parts_of_groups, refuse_divided_groups, split_notes
from trainer.data.labels import is_foul, similar
from trainer.data.tables import PART_VALUES, TableHeader
from trainer.data.text.tables import Value, Values, opened_table
from trainer.tasks.base import Counted
from trainer.tasks.capabilities import InspectedData
from trainer.tasks.text_config import MAX_LABEL_NAME, TextData

TargetKind = Literal["label", "labels", "number"]
"""What the target of a row is: one label, a set of labels, or a number."""
TextTarget = str | tuple[str, ...] | float
"""A target of that kind; the labels of a set are sorted."""
NUMBER = re.compile(r"[+-]?(?:\d{1,400}\.?\d{0,400}|\.\d{1,400})(?:[eE][+-]?\d{1,4})?\Z", re.ASCII)
MOST_NUMBER = 1e30
DECIMAL_COMMA = re.compile(r"[+-]?\d+,\d+\Z", re.ASCII)
EMPTY = "the text is empty"
ALL = "all rows"
LEAST_STRATUM = 20  # rows; smaller strata of sets of labels are joined with others


@dataclass(frozen=True, slots=True)
class TextRow:
    """A row of a file."""

    file: str  # the file's name
    line: int  # of a Parquet file, the row
    text: str
    text_b: str | None
    target: TextTarget
    part: Part | None = None  # in the data's own split
    group: str | None = None

    @property
    def name(self) -> str:
        """File and line, for messages."""
        return f"{self.file} line {self.line}"


@dataclass(frozen=True, slots=True, eq=False)
class TextScan:
    """The rows of all files."""

    kind: TargetKind
    rows: tuple[TextRow, ...]
    facts: ListingFacts

    @property
    def labels(self) -> tuple[str, ...]:
        """The names of all labels, sorted; empty for numbers."""
        return tuple(sorted({name for row in self.rows for name in labels_of(row.target)}))


def labels_of(target: TextTarget) -> tuple[str, ...]:
    """The labels in a target."""
    return target if isinstance(target, tuple) else (target,) if isinstance(target, str) else ()


@dataclass(slots=True)
class _Faults:
    """Rows that cannot be used, counted by kind, with some of them for the message."""

    counts: Counter[str] = field(default_factory=Counter)
    shown: dict[str, list[str]] = field(default_factory=dict)

    def add(self, kind: str, text: str) -> None:
        self.counts[kind] += 1
        if len(kept := self.shown.setdefault(kind, [])) < LISTED:
            kept.append(text)

    def listed(self, kind: str) -> str:
        more = self.counts[kind] - len(self.shown[kind])
        return enumerated(self.shown[kind]) + (f"; and {more} more" if more else "")


def scan(data: TextData, kind: TargetKind, look: Look | None = None, *, texts: bool = True) -> TextScan:
    """Every row with its target, part and group. Without `texts` they are read, checked and dropped, which saves memory.

    Raises UnfitData and the errors of the hooks of `look`. Messages in `unnamed` form contain nothing of the files except names of columns
    that the configuration nearly names.
    """
    look = look or Look()
    own: Part | None = "train" if data.files_of_parts else None
    files: list[tuple[str, tuple[str, ...], Part | None]] = [(data.path, ("data", "path"), own)]
    files += [(path, ("data", part), part) for part, path in data.files_of_parts.items()]
    rows, headers = list[TextRow](), list[TableHeader]()
    for path, place, part in files:
        found, header = _read(data, kind, _File(path, place, part, texts), look)
        if not found:
            left_out = "".join(f"; {one.count} left out: {one.reason}" for one in look.left_out)
            name = shown(Path(path).name)
            raise UnfitData("empty_data", f"{name} has no rows to use{left_out}; it needs a first line with names, and rows", place=place)
        rows += found
        headers.append(header)
    parts: set[Part | None] = {row.part for row in rows}
    facts = headers[0].facts(parts, {row.group for row in rows})
    facts = facts.model_copy(update={"left_out": look.left_out})
    found_all = TextScan(kind, tuple(rows), facts)
    _refuse_contradictions(data, found_all)
    refuse_divided_groups(parts_of_groups((row.group, row.part) for row in rows), facts.columns.get("group", "group"))
    if kind == "number":
        _refuse_constant_numbers(data, found_all)
    else:
        _refuse_unfit_labels(data, found_all)
    notes = [*facts.notes, *_notes(data, found_all), *split_notes(data, facts.given)]
    return replace(found_all, facts=facts.model_copy(update={"notes": tuple(notes)}))


def counted(data: TextData, kind: TargetKind, look: Look) -> Counted:
    """Rows by stratum and part, for `TaskSpec.count`. Raises UnfitData."""
    found = scan(data, kind, look, texts=False)
    names, places = strata(found.kind, [row.target for row in found.rows])
    counts = {name: Counter[Part | None]() for name in names}
    for row, place in zip(found.rows, places, strict=True):
        counts[names[place]][row.part] += 1
    return Counted(tuple(found.facts.given), counts, "label" if kind == "label" else "stratum")


def inspected(data: TextData, kind: TargetKind, look: Look) -> InspectedData:
    """The rows by label and part, and their lengths, for `InspectsData`. Raises UnfitData."""
    found = scan(data, kind, look)
    labels = {name: Counter[Part | None]() for name in found.labels}
    for row in found.rows:
        for name in labels_of(row.target):
            labels[name][row.part] += 1
    texts = [row.text if row.text_b is None else f"{row.text} {row.text_b}" for row in found.rows]
    measures: dict[str, Sequence[float]] = {"words": [len(text.split()) for text in texts], "characters": [len(text) for text in texts]}
    if kind == "labels":
        measures["labels of a row"] = [len(labels_of(row.target)) for row in found.rows]
    if kind == "number":
        measures["target"] = [row.target for row in found.rows if isinstance(row.target, float)]
    return InspectedData(listing=found.facts, labels=labels, measures=measures)


def strata(kind: TargetKind, targets: Sequence[TextTarget]) -> tuple[tuple[str, ...], list[int]]:
    """Names of the strata of the split, sorted, and the stratum of each target.

    Labels are strata themselves. The stratum of a set of labels is its rarest label, so that rare labels are in each part; strata of fewer
    than LEAST_STRATUM targets are joined with the largest one. Numbers are one stratum.
    """
    if kind == "number":
        return (ALL,), [0] * len(targets)
    counts = Counter(name for target in targets for name in labels_of(target))
    own = [min(labels_of(target), key=lambda name: (counts[name], name), default=ALL) for target in targets]
    if kind == "labels":
        sizes = Counter(own)
        largest = min(sizes, key=lambda name: (-sizes[name], name))
        own = [name if sizes[name] >= LEAST_STRATUM else largest for name in own]
    names = tuple(sorted(set(own)))
    places = {name: place for place, name in enumerate(names)}
    return names, [places[name] for name in own]


@dataclass(frozen=True, slots=True)
class _File:
    path: str
    place: tuple[str, ...]  # of the field that names it
    part: Part | None
    texts: bool  # whether texts are kept


def _read(data: TextData, kind: TargetKind, file: _File, look: Look) -> tuple[list[TextRow], TableHeader]:
    """The rows of a file, without those that `data.empty: skip` leaves out. Raises UnfitData with the lines of unfit rows."""
    rows, faults, known = list[TextRow](), _Faults(), dict[Value, TextTarget | _Fault]()
    name = shown(data.file_names[file.path])
    with opened_table(data, Path(file.path), file.place, look) as table:
        if file.part is not None and "split" in table.header.places:
            _refuse_split_twice(name, table.header, file.place, data)
        for line, values in table.records:
            look.tick()
            row = _row(data, kind, name, line, values, known) if not isinstance(values, str) else _Fault("unfit_rows", values)
            if isinstance(row, _Fault):
                if row.kind == "empty_texts" and data.empty == "skip":
                    look.leave_out(EMPTY, f"{name} line {line}")
                else:
                    faults.add(row.kind, f"line {line}" if row.kind == "empty_texts" else f"line {line}: {row.text}")
            elif file.texts:
                rows.append(row if file.part is None else replace(row, part=file.part))
            else:
                rows.append(replace(row, text="", text_b=None, part=file.part or row.part))
    _refuse_faults(name, faults, file.place)
    return rows, table.header


@dataclass(frozen=True, slots=True)
class _Fault:
    kind: str  # code of the error
    text: str


def _row(
    data: TextData, kind: TargetKind, file: str, line: int, values: Values, known: dict[Value, "TextTarget | _Fault"]
) -> "TextRow | _Fault":
    """The row, or its fault. `known` are the targets of values that were read before: labels recur."""
    texts = [values["text"], *([values["text_b"]] if "text_b" in values else [])]
    if not all(text.strip() for text in texts if isinstance(text, str)):
        return _Fault("empty_texts", EMPTY)
    value = values["target"]
    if (target := known.get(value)) is None:
        target = _target(data, kind, value)
        if kind != "number":
            known[value] = target
    if isinstance(target, _Fault):
        return target
    part: Part | None = None
    if "split" in values and (part := PART_NAMES.get(str(values["split"]).strip().casefold())) is None:
        return _Fault("unfit_rows", f"the split is none of {PART_VALUES}")
    group = str(values["group"]).strip() if "group" in values else None
    if group == "":
        return _Fault("unfit_rows", "the group is missing")
    return TextRow(file, line, str(texts[0]), str(texts[1]) if len(texts) > 1 else None, target, part, group)


def _target(data: TextData, kind: TargetKind, value: Value) -> "TextTarget | _Fault":
    if kind == "labels":
        parts = value if isinstance(value, tuple) else value.split(data.label_separator)
        return tuple(sorted({name for part in parts if (name := part.strip())}))
    if isinstance(value, tuple):
        return _Fault("unfit_rows", "the target is a list")
    text = value.strip()
    if not text:
        return _Fault("unfit_rows", "the target is missing")
    if kind == "label":
        return text
    if not NUMBER.match(text):
        return _Fault("not_a_number", "a decimal comma" if DECIMAL_COMMA.match(text) else "no number")
    number = float(text) + 0.0  # -0.0 becomes 0.0, so that equal numbers have equal digests
    if not math.isfinite(number) or abs(number) > MOST_NUMBER:
        return _Fault("not_a_number", f"a number beyond {MOST_NUMBER:g}")
    return number


def _refuse_faults(name: str, faults: _Faults, place: tuple[str, ...]) -> None:
    counts = faults.counts
    if count := counts["unfit_rows"]:
        rows = f"{count} unfit rows" if count > 1 else "1 unfit row"
        raise UnfitData("unfit_rows", f"{name} has {rows}: {faults.listed('unfit_rows')}; correct them", place=place)
    if count := counts["empty_texts"]:
        rows = f"{count} rows" if count > 1 else "1 row"
        remedy = "fill them in, remove them, or write data.empty: skip to leave them out"
        raise UnfitData("empty_texts", f"{name} has {rows} with an empty text: {faults.listed('empty_texts')}; {remedy}", place=place)
    if count := counts["not_a_number"]:
        rows = f"{count} targets that are no numbers" if count > 1 else "1 target that is no number"
        remedy = "write numbers such as 1.5, or choose a task whose targets are labels"
        raise UnfitData("not_a_number", f"{name} has {rows}: {faults.listed('not_a_number')}; {remedy}", place=("data", "target"))


def _refuse_split_twice(name: str, header: TableHeader, place: tuple[str, ...], data: TextData) -> None:
    fields = " and ".join(f"data.{part}" for part in data.files_of_parts)
    raise UnfitData(
        "split_given_twice",
        f"{name} has the column {shown(str(data.columns.split))}, which gives each row's part, and {fields} names separate files of parts; "
        "write data.columns: {split: null} to use the files, or leave the files out to use the column",
        place=("data", "columns", "split"),
    )


def _refuse_contradictions(data: TextData, found: TextScan) -> None:
    """Raises UnfitData if `data.split` or `data.test` contradicts the parts that the data gives."""
    given = found.facts.given
    if data.split == "given" and not given:
        raise UnfitData(
            "no_given_split",
            "data.split is given, and the data has no split of its own: it needs a column split, or separate files as data.validation or "
            "data.test; add them, or leave data.split out",
            place=("data", "split"),
        )
    if given and "train" not in given:
        text = f"the data's own split has {' and '.join(given)}, and nothing to train on; add rows of the part train"
        raise UnfitData("no_train_part", text, place=("data", "split"))
    if "test" in given and data.test > 0:
        raise UnfitData(
            "test_given_twice",
            f"the data has a test part of its own, and data.test asks for another ({data.test:g}); write data.test: 0 to use the data's "
            "own, or data.split: drawn to leave the column out of account",
            place=("data", "test"),
        )


TARGET = ("data", "target")


def _refuse_unfit_labels(data: TextData, found: TextScan) -> None:
    names = found.labels
    _refuse_unwritable(names)
    if data.similar_labels == "refuse" and (alike := similar(names)):
        remedy = "give them one name, or write data.similar_labels: keep if they are different labels"
        listed = enumerated([" and ".join(map(ascii, some)) for some in alike])
        raise UnfitData(
            "similar_labels",
            f"these labels are nearly equal: {listed}; {remedy}",
            place=TARGET,
            unnamed=f"{len(alike)} labels are nearly equal to others: in case, spaces, Unicode form, or as numbers; {remedy}",
        )
    distinct = {row.target for row in found.rows}
    if len(distinct) == 1:
        what = "label" if found.kind == "label" else "set of labels"
        listed = shown(", ".join(names)) or "none"
        remedy = f"rows need two or more different ones; name another column as data.target{_separator_remedy(data, found)}"
        text = f"all rows have one {what}"
        raise UnfitData("one_label", f"{text} ({listed}); {remedy}", place=TARGET, unnamed=f"{text}; {remedy}")
    _refuse_unlearned(found)


def _separator_remedy(data: TextData, found: TextScan) -> str:
    return f", or correct data.label_separator ({data.label_separator})" if found.kind == "labels" else ""


def _refuse_unwritable(names: Sequence[str]) -> None:
    """Raises UnfitData for labels that a study file cannot hold."""
    if foul := [name for name in names if any(map(is_foul, name))]:
        why = f"{len(foul)} labels hold line breaks, other control characters or direction marks"
        raise UnfitData(
            "foul_labels", f"{why}: {enumerated([*map(ascii, foul)])}; rename them", place=TARGET, unnamed=f"{why}; rename them"
        )
    if long := [name for name in names if len(name) > MAX_LABEL_NAME]:
        why = f"{len(long)} labels have more than {MAX_LABEL_NAME} characters"
        remedy = "shorten them, or name another column as data.target"
        raise UnfitData("long_labels", f"{why}: {enumerated(long)}; {remedy}", place=TARGET, unnamed=f"{why}; {remedy}")


def _refuse_unlearned(found: TextScan) -> None:
    """Raises UnfitData for labels in a given validation or test part that the train part lacks: no model can answer them."""
    by_part = _labels_by_part(found)
    if "train" not in by_part:
        return
    lacking = {part: sorted(by_part[part] - by_part["train"]) for part in found.facts.given if part != "train"}
    if lacking := {part: names for part, names in lacking.items() if names}:
        listed = "; ".join(f"{part} has {enumerated(names)}" for part, names in lacking.items())
        counts = " and ".join(f"{part} has {len(names)}" for part, names in lacking.items())
        remedy = "add training rows of these labels, or remove the rows"
        raise UnfitData(
            "label_missing_in_train",
            f"the train part lacks labels that other parts have: {listed}; {remedy}",
            place=TARGET,
            unnamed=f"the train part lacks labels that other parts have: {counts} of them; {remedy}",
        )


def _labels_by_part(found: TextScan) -> Mapping[Part, set[str]]:
    by_part = dict[Part, set[str]]()
    for row in found.rows:
        if row.part is not None:
            by_part.setdefault(row.part, set()).update(labels_of(row.target))
    return by_part


def _refuse_constant_numbers(data: TextData, found: TextScan) -> None:
    training = {row.target for row in found.rows if row.part in (None, "train")}
    if len(training) == 1:
        text = "all training rows have the same number as target, with nothing to learn; name another column as data.target"
        raise UnfitData("constant_target", text, place=TARGET)


def _notes(data: TextData, found: TextScan) -> Iterator[str]:
    for name, path in data.files_of_parts.items():
        yield f"The {name} part is the file {shown(Path(path).name)}."
    if found.kind == "labels" and all(len(labels_of(row.target)) < 2 for row in found.rows):
        yield f"No row has more than one label; labels are separated by data.label_separator ({data.label_separator})."
    by_part = _labels_by_part(found)
    for part in found.facts.given:
        with suppress(KeyError):
            if missing := by_part["train"] - by_part[part]:
                yield f"The {part} part has no rows of {len(missing)} label{'s' if len(missing) > 1 else ''}."
