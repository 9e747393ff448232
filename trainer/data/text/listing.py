"""Lists the rows of text files with their targets, and refuses unusable data. Used by the server and the trainer; imports no torch."""

import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from trainer.configuration import ListingFacts, Part, counted
from trainer.data.examples import LISTED, PART_NAMES, Example, InputRow, Look, UnfitData, enumerated, shown
from trainer.data.given import Remedies, refuse_contradictions, refuse_divided_groups, split_notes
from trainer.data.labels import is_foul, refuse_similar
from trainer.data.tables import PART_VALUES, TableHeader
from trainer.data.targets import TargetReader
from trainer.data.text.tables import Value, Values, opened_table
from trainer.tasks.text.data import MAX_LABEL_NAME, TextColumns, TextData

DECIMAL_COMMA = re.compile(r"[+-]?\d+,\d+\Z", re.ASCII)
EMPTY = "the text is empty"
NO_TARGET = "-"
TARGET = ("data", "target")
REMEDIES = Remedies(
    no_split="it needs a column split, or separate files as data.validation or data.test; add them",
    no_train="add rows of the part train",
    two_tests="write data.test: 0 to use the data's own, or data.split: drawn to leave the column out of account",
)


@dataclass(frozen=True, slots=True)
class TextRow:
    """A row of a file."""

    file: str  # the file's name
    line: int  # of a Parquet file, the row
    text: str
    text_b: str | None
    target: str  # in the form of `TargetReader.parse`; without a reader the label
    part: Part | None = None  # in the data's own split
    group: str | None = None

    @property
    def name(self) -> str:
        """File and line, for messages."""
        return f"{self.file} line {self.line}"


@dataclass(frozen=True, slots=True, eq=False)
class TextScan:
    """The rows of all files. `reader` reads targets; without it each is one label."""

    reader: TargetReader | None
    rows: tuple[TextRow, ...]
    facts: ListingFacts

    @property
    def label_names(self) -> tuple[str, ...]:
        """The names of all labels, sorted; empty for numbers."""
        targets = {row.target for row in self.rows}
        return tuple(sorted(targets)) if self.reader is None else self.reader.names(targets)

    def labels_of(self, target: str) -> tuple[str, ...]:
        """The labels in a target; empty for a number."""
        return (target,) if self.reader is None else self.reader.names((target,))

    def examples(self, data: TextData) -> tuple[Example, ...]:
        """The rows as examples, whose labels are the targets."""
        paths = {shown(name): Path(path) for path, name in data.file_names.items()}
        return tuple(Example(paths[row.file], row.name, row.target, row.part, row.group) for row in self.rows)


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


def scan(data: TextData, reader: TargetReader | None, look: Look | None = None, *, texts: bool = True) -> TextScan:
    """Every row with its target, part and group. Without `texts` they are read, checked and dropped, which saves memory.

    Raises UnfitData and the errors of the hooks of `look`. `UnfitData.unnamed` quotes nothing of the files except names of columns that
    are similar to those in `data`.
    """
    look = look or Look()
    files: list[tuple[str, tuple[str, ...], Part | None]] = [(data.path, ("data", "path"), "train" if data.files_of_parts else None)]
    files += [(path, ("data", part), part) for part, path in data.files_of_parts.items()]
    rows, headers = list[TextRow](), list[TableHeader]()
    for path, place, part in files:
        own, header = _read(data, reader, _File(path, place, part, texts), look)
        if not own:
            left_out = "".join(f"; {one.count} left out: {one.reason}" for one in look.left_out)
            name = shown(Path(path).name)
            raise UnfitData("empty_data", f"{name} has no rows to use{left_out}; it needs a first line with names, and rows", place=place)
        rows += own
        headers.append(header)
    facts = headers[0].facts({row.part for row in rows}, {row.group for row in rows}).model_copy(update={"left_out": look.left_out})
    found = TextScan(reader, tuple(rows), facts)
    refuse_contradictions(data, facts.given, REMEDIES)
    refuse_divided_groups(((row.group, row.part) for row in rows), facts)
    _refuse_unfit_targets(data, found)
    notes = (*facts.notes, *_notes(data, found), *split_notes(data, facts.given))
    return replace(found, facts=facts.model_copy(update={"notes": notes}))


def input_rows(data: TextData, reader: TargetReader | None, look: Look, *, targets: bool) -> Iterator[InputRow]:
    """The rows of the file at `data.path`, with their targets if asked; rows that cannot be used have a fault. Raises UnfitData."""
    columns = {"target": data.target if targets else None, "columns": TextColumns(split=None, group=None)}
    known = dict[Value, str | _Fault]()
    with opened_table(data.model_copy(update=columns), Path(data.path), ("data", "path"), look) as table:
        for line, values in table.records:
            look.tick()
            place = {"line": line}
            row: TextRow | _Fault
            if isinstance(values, str):
                row = _Fault("unfit_rows", values)
            else:
                row = _row(data, reader if targets else None, "", line, values if targets else {**values, "target": NO_TARGET}, known)
            if isinstance(row, _Fault):
                yield InputRow(place, fault=row.text)
            else:
                yield InputRow(place, (row.text, row.text_b), row.target if targets else "")


@dataclass(frozen=True, slots=True)
class _File:
    path: str
    place: tuple[str, ...]  # of the field that names it
    part: Part | None
    texts: bool  # whether texts are kept


def _read(data: TextData, reader: TargetReader | None, file: _File, look: Look) -> tuple[list[TextRow], TableHeader]:
    """The rows of a file, without those that `data.empty: skip` leaves out. Raises UnfitData with the lines of unfit rows."""
    rows, faults, known = list[TextRow](), _Faults(), dict[Value, str | _Fault]()
    name = shown(data.file_names[file.path])
    with opened_table(data, Path(file.path), file.place, look) as table:
        if file.part is not None and "split" in table.header.places:
            _refuse_split_twice(name, table.header, file.place, data)
        for line, values in table.records:
            look.tick()
            row = _row(data, reader, name, line, values, known) if not isinstance(values, str) else _Fault("unfit_rows", values)
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
    data: TextData, reader: TargetReader | None, file: str, line: int, values: Values, known: dict[Value, "str | _Fault"]
) -> "TextRow | _Fault":
    """The row, or its fault. `known` are the targets of values that were read before: labels recur."""
    texts = [values["text"], *([values["text_b"]] if "text_b" in values else [])]
    if not all(text.strip() for text in texts if isinstance(text, str)):
        return _Fault("empty_texts", EMPTY)
    value = values["target"]
    if (target := known.get(value)) is None:
        target = known[value] = _target(data, reader, value)
    if isinstance(target, _Fault):
        return target
    part: Part | None = None
    if "split" in values and (part := PART_NAMES.get(str(values["split"]).strip().casefold())) is None:
        return _Fault("unfit_rows", f"the split is none of {PART_VALUES}")
    group = str(values["group"]).strip() if "group" in values else None
    if group == "":
        return _Fault("unfit_rows", "the group is missing")
    return TextRow(file, line, str(texts[0]), str(texts[1]) if len(texts) > 1 else None, target, part, group)


def _target(data: TextData, reader: TargetReader | None, value: Value) -> "str | _Fault":
    if isinstance(value, tuple):
        if reader is None:
            return _Fault("unfit_rows", "the target is a list")
        if any(data.label_separator in name for name in value):
            return _Fault("unfit_targets", f"a name in the list holds data.label_separator ({data.label_separator})")
        value = data.label_separator.join(value)
    text = value.strip()
    if reader is None:
        return text or _Fault("unfit_rows", "the target is missing")
    try:
        return reader.parse(text, data)
    except ValueError as error:
        if not text:
            return _Fault("unfit_rows", "the target is missing")
        return _Fault("unfit_targets", f"it {error}" + (" (a decimal comma)" if DECIMAL_COMMA.match(text) else ""))


def _refuse_faults(name: str, faults: _Faults, place: tuple[str, ...]) -> None:
    counts = faults.counts
    if count := counts["unfit_rows"]:
        rows = counted(count, "unfit row")
        raise UnfitData("unfit_rows", f"{name} has {rows}: {faults.listed('unfit_rows')}; correct them", place=place)
    if count := counts["empty_texts"]:
        rows = counted(count, "row")
        remedy = "fill them in, remove them, or write data.empty: skip to leave them out"
        raise UnfitData("empty_texts", f"{name} has {rows} with an empty text: {faults.listed('empty_texts')}; {remedy}", place=place)
    if count := counts["unfit_targets"]:
        rows = counted(count, "unfit target")
        remedy = "correct them, or name another column as data.target"
        raise UnfitData("unfit_targets", f"{name} has {rows}: {faults.listed('unfit_targets')}; {remedy}", place=TARGET)


def _refuse_split_twice(name: str, header: TableHeader, place: tuple[str, ...], data: TextData) -> None:
    fields = " and ".join(f"data.{part}" for part in data.files_of_parts)
    raise UnfitData(
        "split_given_twice",
        f"{name} has the column {shown(str(data.columns.split))}, which gives each row's part, and {fields} names separate files of parts; "
        "write data.columns: {split: null} to use the files, or leave the files out to use the column",
        place=("data", "columns", "split"),
    )


def _refuse_unfit_targets(data: TextData, found: TextScan) -> None:
    """Raises UnfitData for targets that cannot be learned, and for names of labels that are nearly equal or that no study file can hold."""
    names = found.label_names
    _refuse_unwritable(names)
    if data.similar_labels == "refuse":
        refuse_similar(names, "labels", "labels", TARGET)
    if len({row.target for row in found.rows}) == 1:
        value = found.rows[0].target if found.reader is None else found.reader.value(found.rows[0].target)
        listed = shown(", ".join(value) if isinstance(value, tuple) else str(value)) or "none"
        remedy = "there is nothing to learn; name another column as data.target"
        text = "all rows have one target"
        raise UnfitData("one_target", f"{text} ({listed}), so {remedy}", place=TARGET, unnamed=f"{text}, so {remedy}")
    if found.reader is None:
        _refuse_unlearned(found)
        return
    try:
        found.reader.refuse(data, found.examples(data), found.facts.given)
    except UnfitData as error:
        error.place = TARGET
        raise


def _refuse_unwritable(names: Sequence[str]) -> None:
    """Raises UnfitData for labels that a study file cannot hold."""
    if foul := [name for name in names if any(map(is_foul, name))]:
        why = f"{counted(len(foul), 'label holds', 'labels hold')} line breaks, other control characters or direction marks"
        raise UnfitData(
            "foul_labels", f"{why}: {enumerated([*map(ascii, foul)])}; rename them", place=TARGET, unnamed=f"{why}; rename them"
        )
    if long := [name for name in names if len(name) > MAX_LABEL_NAME]:
        why = f"{counted(len(long), 'label has', 'labels have')} more than {MAX_LABEL_NAME} characters"
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
            by_part.setdefault(row.part, set()).update(found.labels_of(row.target))
    return by_part


def _notes(data: TextData, found: TextScan) -> Iterator[str]:
    for name, path in data.files_of_parts.items():
        yield f"The {name} part is the file {shown(Path(path).name)}."
    sets = {row.target for row in found.rows} if found.reader is not None and found.label_names else ()
    if sets and all(len(found.labels_of(target)) < 2 for target in sets):
        yield f"No row has more than one label; labels are separated by data.label_separator ({data.label_separator})."
    by_part = _labels_by_part(found)
    for part in found.facts.given:
        if missing := by_part["train"] - by_part[part]:
            yield f"The {part} part has no rows of {counted(len(missing), 'label')}."
