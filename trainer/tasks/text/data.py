"""Models of the data of texts: its configuration, and groups of near-duplicates and lengths in its facts. Imports no torch."""

from collections.abc import Mapping
from pathlib import PurePath
from typing import Annotated, Any, Literal, Self

from pydantic import Field, FiniteFloat, WithJsonSchema, model_validator

from trainer.configuration import ColumnName, DataConfig, Frozen, Resolve, counted, resolve_fields

MAX_LABEL_NAME = 256  # characters
SHARE_OR_FILE = {"type": "string", "minLength": 1, "maxLength": 4096}


class TextColumns(Frozen):
    """Names of the columns for split and group. Case is ignored unless two columns differ only in case."""

    split: ColumnName | None = Field(
        default="split",
        description="column with train, val, validation, valid, dev or test in each row; used if the table has it; null: not used",
    )
    group: ColumnName | None = Field(
        default="group", description="rows of one group stay in one part of the split; used if the table has this column; null: not used"
    )


PathOfPart = Annotated[str | None, Field(min_length=1, max_length=4096)]


class TextData(DataConfig):
    """Texts with a target: a table (.csv, .tsv), JSON lines (.jsonl, .ndjson) or a Parquet file (.parquet), in UTF-8 or UTF-16.

    `validation` and `test` are shares, or paths of separate files, which become `validation_path` and `test_path`.
    """

    validation: Annotated[
        FiniteFloat, WithJsonSchema({"anyOf": [{"type": "number", "exclusiveMinimum": 0, "exclusiveMaximum": 1}, SHARE_OR_FILE]})
    ] = Field(default=0.2, gt=0, lt=1, description="share held out for validation, or the path of a file with the validation rows")
    test: Annotated[FiniteFloat, WithJsonSchema({"anyOf": [{"type": "number", "minimum": 0, "exclusiveMaximum": 1}, SHARE_OR_FILE]})] = (
        Field(default=0.0, ge=0, lt=1, description="share held out for testing, or the path of a file with the test rows")
    )
    validation_path: PathOfPart = Field(default=None, description="file with the validation rows; `path` then has the training rows")
    test_path: PathOfPart = Field(default=None, description="file with the test rows; `path` then has the other rows")
    text: ColumnName = Field(default="text", description="column of the texts")
    text_b: ColumnName | None = Field(default=None, description="column of the second texts, if the examples are pairs of texts")
    target: ColumnName = Field(default="label", description="column of the targets")
    columns: TextColumns = TextColumns()
    label_separator: str = Field(
        default="|", min_length=1, max_length=10, description="separates the labels of a row where a row has several; unused otherwise"
    )
    empty: Literal["refuse", "skip"] = Field(default="refuse", description="treatment of rows whose text is empty; `skip` leaves them out")
    similar_labels: Literal["refuse", "keep"] = Field(
        default="refuse",
        description="labels that differ only in case, spaces, Unicode form or number format; keep: they are different labels",
    )
    near_duplicates: bool = Field(
        default=True,
        description="keep texts that are nearly equal in one part of the split; false: only equal texts",
    )

    @model_validator(mode="before")
    @classmethod
    def _paths_of_parts(cls, value: Any) -> Any:
        """Move `validation` and `test` to `validation_path` and `test_path` if they are paths."""
        if not isinstance(value, Mapping):
            return value
        moved = dict(value)
        for part in ("validation", "test"):
            if is_path_of_part(text := moved.get(part)) and moved.get(f"{part}_path") is None:
                moved[f"{part}_path"] = text
                del moved[part]
        return moved

    @model_validator(mode="after")
    def _files_are_not_drawn_again(self) -> Self:
        if self.split == "drawn" and (files := self.files_of_parts):
            fields = " and ".join(f"data.{part}" for part in files)
            raise ValueError(f"split: drawn contradicts the separate files of {fields}; leave out split, or give shares in place of files")
        if self.test_path is not None and self.test > 0:
            raise ValueError(f"test is a share ({self.test:g}), and test_path is a file; leave one of them out")
        if len(set(self.paths)) < len(self.paths):
            raise ValueError("path, validation and test name one file twice; each part needs a file of its own")
        names = [self.text, self.target, *([self.text_b] if self.text_b is not None else [])]
        if len({name.strip() for name in names}) < len(names):
            raise ValueError("text, text_b and target name one column twice; each needs a column of its own")
        return self

    @classmethod
    def resolved(cls, section: Mapping[str, Any], resolve: Resolve) -> dict[str, Any]:
        """The section as written, with its relative paths resolved."""
        parts = {"validation": is_path_of_part, "test": is_path_of_part}
        return resolve_fields(section, {"path": bool, "validation_path": bool, "test_path": bool, **parts}, resolve)

    @property
    def files_of_parts(self) -> Mapping[Literal["validation", "test"], str]:
        """The paths of separate files by part."""
        paths: dict[Literal["validation", "test"], str | None] = {"validation": self.validation_path, "test": self.test_path}
        return {part: path for part, path in paths.items() if path is not None}

    @property
    def path_fields(self) -> Mapping[str, str]:
        """The path and separate files, by field."""
        return {"path": self.path} | {part: path for part, path in self.files_of_parts.items()}

    @property
    def paths(self) -> tuple[str, ...]:
        """The path, and those of separate files."""
        return tuple(self.path_fields.values())

    @property
    def file_names(self) -> Mapping[str, str]:
        """A name for each path in messages: the file's name, or with its folder where two files have one name."""
        names = {path: PurePath(path).name for path in self.paths}
        twice = {name for name in names.values() if [*names.values()].count(name) > 1}
        return {path: name if name not in twice else "/".join(PurePath(path).parts[-2:]) for path, name in names.items()}

    @property
    def is_table(self) -> bool:
        """True: texts are in files, not in folders."""
        return True

    @property
    def has_test(self) -> bool:
        """Whether a test part is asked for, or may be in the data."""
        return self.test_path is not None or super().has_test


def is_path_of_part(value: object) -> bool:
    """Whether the value of `validation` or `test` in a document is the path of a file rather than a share."""
    if not isinstance(value, str) or not value.strip():
        return False
    try:
        float(value)
    except ValueError:
        return True
    return False


class DuplicateTexts(Frozen):
    """Groups of rows with equal or nearly equal texts. Each group is kept in one part of the split."""

    groups: int = Field(ge=0, description="number of groups, each of two or more different rows")
    rows: int = Field(ge=0, description="number of different rows in all groups")
    copies: int = Field(default=0, ge=0, description="rows that equal another row in text and target")
    crossing: int = Field(ge=0, description="groups that a split without them would have divided")
    mixed: int = Field(ge=0, description="groups with more than one target: a row in them may have a wrong target")
    too_large: int = Field(default=0, ge=0, description="further groups, of which only equal texts are kept in one part")
    across: int = Field(default=0, ge=0, description="groups with rows in several parts of a given split, which are not moved")
    examples: tuple[tuple[str, ...], ...] = Field(
        default=(), description="file and line of the rows in some groups, groups across parts and with several targets first"
    )


class TokenCounts(Frozen):
    """Lengths of the texts in tokens, special tokens included, after they were cut to `max_length`."""

    max_length: int = Field(ge=1)
    texts: int = Field(ge=0, description="number of different texts, or pairs of texts")
    truncated: int = Field(ge=0, description="number of texts that were cut")
    tokens: int = Field(ge=0, description="number of tokens of all texts")
    longest: int = Field(ge=0, description="tokens of the longest text")

    @property
    def note(self) -> str | None:
        """A sentence about the texts that are cut; None if there are none."""
        if not self.truncated:
            return None
        share = 100 * self.truncated / self.texts
        if share < 1:
            return f"max_length {self.max_length} cuts {self.truncated:,} of {counted(self.texts, 'text')}."
        return f"max_length {self.max_length} cuts {share:.0f} % of the texts ({self.truncated:,} of {self.texts:,})."
