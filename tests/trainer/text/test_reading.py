"""How files of texts are read: each format alike, values as text, and each fault with its line and remedy."""

import codecs
import csv
import io
import json
import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as some
from pydantic import ValidationError

from tests.trainer.text.conftest import READERS, Write
from trainer.configuration import Part
from trainer.data.examples import Look, UnfitData
from trainer.data.targets import TargetValue
from trainer.data.text import tables
from trainer.data.text.listing import TextRow, scan
from trainer.tasks.text.data import TextColumns, TextData
from trainer.tasks.text_classification.spec import SPEC as ONE_LABEL
from trainer.tasks.text_multilabel.spec import SPEC as LABEL_SET
from trainer.tasks.text_regression.spec import SPEC as NUMBER

ROWS = ("text,label", "one,a", "two,b")


def read(path: Path, kind: str = "label", **fields: Any) -> Sequence[TextRow]:
    return scan(TextData(path=str(path), **fields), READERS[kind]).rows


def fault(path: Path, kind: str = "label", **fields: Any) -> UnfitData:
    with pytest.raises(UnfitData) as caught:
        scan(TextData(path=str(path), **fields), READERS[kind])
    return caught.value


def values(rows: Sequence[TextRow], kind: str) -> list[TargetValue]:
    reader = READERS[kind]
    return [row.target if reader is None else reader.value(row.target) for row in rows]


def pairs(rows: Sequence[TextRow]) -> list[tuple[str, object]]:
    return [(row.text, row.target) for row in rows]


LABELS = ("NA", "null", "01", "1.0", "1", "true", "nan", "None", "-", "=1+1")


@pytest.mark.parametrize("suffix", [".csv", ".tsv", ".jsonl", ".ndjson", ".parquet"])
def test_labels_stay_text_in_every_format(write: Write, parquet: ModuleType, suffix: str) -> None:
    separator = "\t" if suffix == ".tsv" else ","
    texts = [f"text, number\n{number} \u00e9\U0001f600" for number, _ in enumerate(LABELS)]
    file = write(f"rows{suffix}", raw=b"")
    if suffix in (".csv", ".tsv"):
        with file.open("w", encoding="utf-8", newline="") as out:
            csv.writer(out, delimiter=separator).writerows([("text", "label"), *zip(texts, LABELS, strict=True)])
    elif suffix == ".parquet":
        import pyarrow

        parquet.write_table(pyarrow.table({"text": texts, "label": list(LABELS)}), file)
    else:
        file.write_text("".join(json.dumps({"text": text, "label": label}) + "\n" for text, label in zip(texts, LABELS, strict=True)))
    assert pairs(read(file, similar_labels="keep")) == list(zip(texts, LABELS, strict=True))


def test_json_values_are_labels_as_they_are_written(write: Write) -> None:
    values = ("1", "1.0", "true", '"x"', "1e3", "-0", "9" * 200)
    file = write("rows.jsonl", *(f'{{"text": "t{place}", "label": {value}}}' for place, value in enumerate(values)))
    assert [row.target for row in read(file, similar_labels="keep")] == ["1", "1.0", "true", "x", "1e3", "-0", "9" * 200]


def test_numbers_of_a_parquet_file_are_labels_and_targets(tmp_path: Path, parquet: ModuleType) -> None:
    import pyarrow

    file, columns = tmp_path / "rows.parquet", {"text": ["a", "b", "c"], "n": [1, 2, 3], "x": [0.5, None, 1.5], "kind": ["u", "v", "u"]}
    table = pyarrow.table(columns).append_column("word", pyarrow.array(["k", "l", "k"]).dictionary_encode())
    parquet.write_table(table, file)
    assert [row.target for row in read(file, target="n")] == ["1", "2", "3"]
    assert values(read(file, "number", target="n"), "number") == [1.0, 2.0, 3.0]
    assert [row.target for row in read(file, target="word")] == ["k", "l", "k"]
    assert str(fault(file, "number", target="x")) == "rows.parquet has 1 unfit row: line 2: the target is missing; correct them"


def test_sets_of_labels_are_split_sorted_and_without_repetitions(write: Write, parquet: ModuleType) -> None:
    import pyarrow

    csv_file = write("rows.csv", "text,labels", "one,b|a|b", "two, a ", "three,")
    json_file = write(
        "rows.jsonl", '{"text": "one", "labels": ["b", "a"]}', '{"text": "two", "labels": "a"}', '{"text": "three", "labels": []}'
    )
    parquet_file = csv_file.with_suffix(".parquet")
    parquet.write_table(pyarrow.table({"text": ["one", "two", "three"], "labels": [["b", "a"], ["a"], []]}), parquet_file)
    for file in (csv_file, json_file, parquet_file):
        assert values(read(file, "labels", target="labels"), "labels") == [("a", "b"), ("a",), ()]
    commas = write("commas.csv", "text,labels", 'one,"b, a"', "two,a")
    assert values(read(commas, "labels", target="labels", label_separator=","), "labels") == [("a", "b"), ("a",)]


@pytest.mark.parametrize(
    "raw",
    [
        "\n".join(ROWS).encode(), codecs.BOM_UTF8 + "\n".join(ROWS).encode(), "\r\n".join(ROWS).encode(), "\r".join(ROWS).encode(),
        codecs.BOM_UTF16_LE + "\r\n".join(ROWS).encode("utf-16-le"), codecs.BOM_UTF16_BE + "\n".join(ROWS).encode("utf-16-be"),
        "\n".join(ROWS).replace(",", ";").encode(), b"\n\n".join(line.encode() for line in ROWS),
    ],
    ids=["utf-8", "bom", "crlf", "cr", "utf-16-le", "utf-16-be", "semicolon", "empty lines"],
)  # fmt: skip
def test_encodings_line_ends_and_separators(write: Write, raw: bytes) -> None:
    assert pairs(read(write("rows.csv", raw=raw))) == [("one", "a"), ("two", "b")]


@pytest.mark.parametrize("ending", ["\n", "\r\n"])
@pytest.mark.parametrize(("encoding", "line"), [("latin-1", 3), ("utf-16", 3)])
def test_other_bytes_are_refused_with_their_line(write: Write, encoding: str, line: int, ending: str) -> None:
    if encoding == "latin-1":
        raw = ending.join(("text,label", "one,a", "caf\u00e9,b")).encode("latin-1")
    else:
        raw = codecs.BOM_UTF16_LE + ending.join(("text,label", "one,a", "x\udc00y,b")).encode("utf-16-le", "surrogatepass")
    error = fault(write("rows.csv", raw=raw))
    assert (error.code, error.place) == ("not_unicode", ("data", "path"))
    assert str(error).startswith(f"rows.csv is not UTF-{16 if encoding == 'utf-16' else 8} in line {line}; save it in UTF-8")


def test_the_line_of_a_foreign_byte_is_found_behind_many_others(write: Write) -> None:
    raw = b"text,label\n" + b"".join(b"t%d,a\n" % number for number in range(40_000)) + b"caf\xe9,b\n"
    assert "line 40002;" in str(fault(write("rows.csv", raw=raw)))
    assert "UTF-32" in str(fault(write("rows.csv", raw="text,label\n".encode("utf-32"))))


def test_quoted_commas_and_line_breaks_are_parts_of_a_text(write: Write) -> None:
    rows = read(write("rows.csv", "text,label", '"a, b\nc ""d""",x', "e,y"))
    assert [(row.text, row.target, row.line) for row in rows] == [('a, b\nc "d"', "x", 2), ("e", "y", 4)]


def test_pairs_parts_and_groups(write: Write) -> None:
    file = write(
        "rows.tsv",
        "Sentence1\tsentence2\tSCORE\tfold\tgroup",
        "a\tb\t1.5\tTrain\tg",
        "c\td\t-2e1\tdev\th",
        "e\tf\t3\ttest\ti",
        "g\th\t4\ttrain\tg",
    )
    columns = {"split": "fold"}
    rows = read(file, "number", text="sentence1", text_b="sentence2", target="score", columns=columns)
    assert [(row.text, row.text_b, float(row.target), row.part, row.group) for row in rows] == [
        ("a", "b", 1.5, "train", "g"), ("c", "d", -20.0, "validation", "h"), ("e", "f", 3.0, "test", "i"), ("g", "h", 4.0, "train", "g"),
    ]  # fmt: skip
    drawn = read(file, "number", text="sentence1", target="score", split="drawn", columns=columns)
    assert {row.part for row in drawn} == {None}


def test_separate_files_are_parts(write: Write) -> None:
    train, dev = write("train.csv", *ROWS), write("dev.jsonl", '{"text": "three", "label": "a"}')
    found = scan(TextData.model_validate({"path": str(train), "validation": str(dev), "test": 0.3}), None)
    assert [(row.file, row.part) for row in found.rows] == [("train.csv", "train"), ("train.csv", "train"), ("dev.jsonl", "validation")]
    assert found.facts.given == ("train", "validation")
    assert found.facts.notes == (
        "The validation part is the file dev.jsonl.",
        "The validation part has no rows of 1 label.",
        "The data has no test part: test is drawn from its train part by data.test (0.3).",
    )


def test_files_of_one_name_are_told_apart(write: Write) -> None:
    data = TextData.model_validate({"path": str(write("a/rows.csv", *ROWS)), "test": str(write("b/rows.csv", *ROWS))})
    assert [row.name for row in scan(data, None).rows] == [
        "a/rows.csv line 2",
        "a/rows.csv line 3",
        "b/rows.csv line 2",
        "b/rows.csv line 3",
    ]


def test_a_share_or_a_path_of_a_part() -> None:
    data = TextData.model_validate({"path": "train.csv", "validation": "0.3", "test": "test.csv"})
    assert (data.validation, data.validation_path, data.test, data.test_path) == (0.3, None, 0.0, "test.csv")
    assert TextData.model_validate(data.model_dump()) == data and data.paths == ("train.csv", "test.csv")
    assert data.has_test and not TextData(path="train.csv").has_test
    section = {"path": "train.csv", "validation": "dev.csv", "test": 0.2, "target": "y"}
    assert TextData.resolved(section, lambda text: f"/base/{text}") == {**section, "path": "/base/train.csv", "validation": "/base/dev.csv"}
    assert TextData.resolved({"path": "/a", "test": "0.2"}, lambda text: f"/base/{text}")["test"] == "0.2"


@pytest.mark.parametrize(
    ("fields", "text"),
    [
        ({"validation": "dev.csv", "split": "drawn"}, "split: drawn contradicts the separate files of data.validation"),
        ({"test": 0.2, "test_path": "test.csv"}, "leave one of them out"),
        ({"test": "train.csv"}, "name one file twice"),
        ({"text": "label"}, "name one column twice"),
    ],
)
def test_contradictory_sections_are_refused(fields: Mapping[str, Any], text: str) -> None:
    with pytest.raises(ValidationError, match=text):
        TextData.model_validate({"path": "train.csv", **fields})


UNFIT = [
    (("text,label,x", "a,b,c,d", "e,f,g"), "rows.csv has 1 unfit row: line 2: it has more fields than the first line"),
    (("text,label", "a", "b,"), "rows.csv has 2 unfit rows: line 2: the target is missing; line 3: the target is missing"),
    (("text,label,split", "a,b,train", "c,d,maybe"), "rows.csv has 1 unfit row: line 3: the split is none of train, val, validation"),
    (("text,label,group", "a,b,", "c,d,e"), "rows.csv has 1 unfit row: line 2: the group is missing"),
]


@pytest.mark.parametrize(("lines", "text"), UNFIT)
def test_unfit_rows_are_refused_with_their_lines(write: Write, lines: Sequence[str], text: str) -> None:
    error = fault(write("rows.csv", *lines))
    assert error.code == "unfit_rows" and str(error).startswith(text) and str(error).endswith("; correct them")


def test_many_unfit_rows_are_counted(write: Write) -> None:
    error = str(fault(write("rows.csv", "text,label", *["a"] * 100)))
    assert (
        error.startswith("rows.csv has 100 unfit rows: line 2: ") and "line 21: the target is missing; and 80 more; correct them" in error
    )


@pytest.mark.parametrize(
    "line", ["", "[1]", '"text"', "{", '{"text": "a", "text": "b", "label": "c"}', "[" * 100_000, '{"text": {}, "label": "a"}']
)
def test_json_lines_that_are_no_rows(write: Write, line: str) -> None:
    file = write("rows.jsonl", '{"text": "a", "label": "b"}', '{"text": "c", "label": "d"}', line)
    if not line:
        assert len(read(file)) == 2
    else:
        assert "line 3: " in str(fault(file))


def test_half_a_surrogate_pair_is_refused(write: Write) -> None:
    file = write("rows.jsonl", '{"text": "a \\ud800", "label": "b"}', '{"text": "c", "label": "d"}')
    assert "line 1: the value of text holds half of a surrogate pair" in str(fault(file))


def test_empty_texts_are_refused_or_left_out(write: Write) -> None:
    file = write("rows.csv", "text,label", "one,a", " \u3000 ,a", "two,b", '"",b')
    error = fault(file)
    assert error.code == "empty_texts"
    assert str(error) == (
        "rows.csv has 2 rows with an empty text: line 3; line 5; fill them in, remove them, or write data.empty: skip to leave them out"
    )
    found = scan(TextData(path=str(file), empty="skip"), None)
    assert pairs(found.rows) == [("one", "a"), ("two", "b")]
    assert [(one.reason, one.count, one.examples) for one in found.facts.left_out] == [
        ("the text is empty", 2, ("rows.csv line 3", "rows.csv line 5"))
    ]


@pytest.mark.parametrize("value", ["", "x", "1,5", "nan", "inf", "1e400", "1_000", "0x10", "1e31"])
def test_what_is_no_number_is_refused(write: Write, value: str) -> None:
    error = fault(write("rows.csv", "text,label", "one,1", f'two,"{value}"', "three,2"), "number")
    assert error.code == ("unfit_targets" if value else "unfit_rows") and "line 3: " in str(error)
    assert ("decimal comma" in str(error)) is (value == "1,5")


@pytest.mark.parametrize("value", [" 1.5 ", "+1.5", "1.50", "15e-1", "1.5E0", "001.5"])
def test_numbers_are_read_as_numbers(write: Write, value: str) -> None:
    assert values(read(write("rows.csv", "text,label", f"one,{value}", "two,2"), "number"), "number") == [1.5, 2.0]


@pytest.mark.parametrize(
    ("fields", "place", "suggestion"),
    [
        ({}, ("data", "text"), "write, say, data.text: sentence, data.target: labels"),
        ({"text": "sentense", "target": "labels"}, ("data", "text"), "write, say, data.text: sentence"),
        ({"text": "sentence"}, ("data", "target"), "write, say, data.target: labels"),
        (
            {"text": "sentence", "target": "labels", "columns": TextColumns(split="fold")}, ("data", "columns", "split"),
            "write, say, data.columns.split: folds",
        ),
        ({"text": "sentence", "target": "labels", "text_b": "zzz"}, ("data", "text_b"), "name one of its columns as data.text_b"),
    ],
)  # fmt: skip
def test_a_missing_column_is_answered_by_the_nearest_name(
    write: Write, fields: dict[str, Any], place: tuple[str, ...], suggestion: str
) -> None:
    error = fault(write("rows.csv", "sentence,labels,folds,secret", "a,b,train,c", "d,e,test,f"), **fields)
    assert (error.code, error.place) == ("missing_column", place)
    assert str(error).endswith(suggestion) and "its columns are: sentence; labels; folds; secret" in str(error)
    assert error.unnamed.endswith(suggestion) and "secret" not in error.unnamed


def test_messages_for_users_who_may_name_any_file_contain_nothing_of_it(write: Write) -> None:
    secrets: list[tuple[Path, dict[str, Any]]] = [
        (write("a.csv", "hunter2,s3cr3t", "x,y"), {}), (write("b.csv", "text,label", *[f"t{n},hunter2" for n in range(3)]), {}),
        (write("c.csv", "text,label", "a,hunter2", "b,Hunter2"), {}), (write("d.csv", "text,label", "a,hunter2\u202e", "b,c"), {}),
        (write("e.csv", "text,label", "a,hunter2" + "x" * 300, "b,c"), {}),
        (write("f.csv", "text,label,split", "a,b,train", "c,d,train", "e,hunter2,test"), {}),
        (write("g.csv", "text,label,split,group", "a,b,train,hunter2", "c,d,train,o", "e,b,test,hunter2"), {}),
        (write("h.jsonl", '{"hunter2": 1}'), {}), (write("i.jsonl", "root:hunter2:0:0"), {}), 
        (write("j.csv", "text,label", '"hunter2" x,y'), {}),
        (write("k.parquet", "hunter2"), {}), (write("l.csv", "text,label", "a,hunter2", "b,1"), {"kind": "number"}),
    ]  # fmt: skip
    for file, fields in secrets:
        error = fault(file, **fields)
        assert "hunter2" not in error.unnamed.casefold() and "s3cr3t" not in error.unnamed, error.code


@pytest.mark.parametrize(
    ("kind", "lines", "code"),
    [
        ("label", ("a,x", "b,x"), "one_target"), ("labels", ("a,x|y", "b,y|x"), "one_target"), 
        ("number", ("a,1", "b,1.0"), "one_target"),
        ("label", ("a,x", "b, X"), "similar_labels"), ("label", ("a,1", "b,1.0"), "similar_labels"),
        ("labels", ("a,x|X", "b,y"), "similar_labels"), ("label", ("a,x\u202e", "b,y"), "foul_labels"),
        ("label", ("a," + "x" * 257, "b,y"), "long_labels"),
    ],
)  # fmt: skip
def test_unfit_targets_are_refused(write: Write, kind: str, lines: Sequence[str], code: str) -> None:
    error = fault(write("rows.csv", "text,label", *lines), kind)
    assert (error.code, error.place) == (code, ("data", "target"))
    if code == "similar_labels":
        assert "data.similar_labels: keep" in str(error)
        assert len(read(write("rows.csv", "text,label", *lines), kind, similar_labels="keep")) == 2


def test_a_label_that_train_lacks_is_refused(write: Write) -> None:
    test = write("test.csv", "text,label", "three,c", "four,a", "five,d")
    error = fault(write("train.csv", *ROWS), test=str(test))
    assert (error.code, error.place) == ("label_missing_in_train", ("data", "target"))
    assert "test has c; d" in str(error) and "test has 2 of them" in error.unnamed
    in_column = fault(write("rows.csv", "text,label,split", "a,x,train", "b,y,train", "c,z,val"))
    assert in_column.code == "label_missing_in_train" and "validation has z" in str(in_column)


def test_contradictory_splits_are_refused(write: Write) -> None:
    column = write("rows.csv", "text,label,split", "a,x,train", "b,y,train", "c,x,test", "d,y,test")
    other = write("test.csv", *(line.replace("a", "x").replace(",b", ",y") for line in ROWS[1:]), raw=b"text,label\ne,x\nf,y\n")
    twice = fault(column, test=str(other))
    assert (twice.code, twice.place) == ("split_given_twice", ("data", "columns", "split"))
    assert len(read(column, test=str(other), columns=TextColumns(split=None))) == 6
    assert fault(column, test=0.2).code == "test_given_twice"
    assert fault(write("plain.csv", *ROWS), split="given").code == "no_given_split"
    assert fault(write("tests.csv", "text,label,split", "a,x,test", "b,y,dev")).code == "no_train_part"


def test_a_group_in_two_parts_is_refused(write: Write) -> None:
    error = fault(write("rows.csv", "text,label,split,group", "a,x,train,g1", "b,y,train,g2", "c,x,test,g1"))
    assert (error.code, error.place) == ("group_in_two_parts", ("data", "columns")) and "g1" in str(error)


@pytest.mark.parametrize(
    ("name", "raw", "code"),
    [
        ("rows.txt", b"text,label\na,b\n", "unknown_format"), ("rows.csv", b"", "missing_column"), 
        ("rows.csv", b"text,label\n", "empty_data"),
        ("rows.jsonl", b"", "missing_column"), ("rows.jsonl", b"[]\n", "unreadable_table"), 
        ("rows.csv", b'text,label\n"a,b\n', "unreadable_table"),
        ("rows.csv", b'text,label\n"a" b,c\n', "unreadable_table"), ("rows.csv", b"text,label,Text\na,b,c\n", "missing_column"),
        ("rows.parquet", b"PAR1 no table PAR1", "unreadable_table"), ("rows.csv", b"text,text,label\na,b,c\n", "column_twice"),
    ],
)  # fmt: skip
def test_files_without_rows(write: Write, parquet: ModuleType, name: str, raw: bytes, code: str) -> None:
    if code == "missing_column" and b"Text" in raw:
        assert len(read(write(name, raw=raw + b"d,e,f\n"))) == 2, "the exact name is meant"
    else:
        assert fault(write(name, raw=raw)).code == code


def test_damaged_rows_are_named_by_the_line_in_which_they_begin(write: Write) -> None:
    file = write("rows.csv", "text,label", '"a\nb",x', '"c" d,y')
    assert "the row that begins in line 4 is no row of a table" in str(fault(file))


def test_missing_special_and_large_files(write: Write, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    missing = fault(tmp_path / "none.csv")
    assert (
        missing.code == "missing_data"
        and missing.unnamed == "the file that data.path names does not exist on the server; correct data.path"
    )
    assert fault(write("a.csv", *ROWS), validation=str(tmp_path / "none.csv")).place == ("data", "validation")
    (tmp_path / "folder.csv").mkdir()
    assert "a folder" in str(fault(tmp_path / "folder.csv"))
    assert fault(write("a.csv", *ROWS) / "b.csv").code == "missing_data"
    monkeypatch.setattr(tables, "LONGEST_LINE", 50)
    assert "it has a line of more than 50 characters: line 3" in str(fault(write("long.csv", "text,label", "a,b", "c" * 60 + ",d")))
    monkeypatch.setattr(tables, "MOST_CHARACTERS", 100)
    assert "more than 100 characters" in str(fault(write("long.csv", "text,label", *["abc,b"] * 40)))
    monkeypatch.setattr(tables, "MOST_BYTES", 100)
    assert "larger than" in str(fault(write("large.csv", "text,label", *["a,b"] * 40))) or "more than 100 bytes" in str(
        fault(write("large.csv", "text,label", *["a,b"] * 40))
    )


def test_parquet_without_its_package_is_a_clear_error(write: Write, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    error = fault(write("rows.parquet", raw=b"PAR1"))
    assert error.code == "needs_pyarrow" and 'pip install "thawline[text]"' in str(error)


def test_the_hooks_may_stop_the_reading(write: Write) -> None:
    def forbid(path: Path) -> None:
        if path.name == "test.csv":
            raise UnfitData("outside", f"{path.name} is outside")

    data = TextData.model_validate({"path": str(write("train.csv", *ROWS)), "test": str(write("test.csv", *ROWS))})
    with pytest.raises(UnfitData, match=r"test\.csv is outside"):
        scan(data, None, Look(permit=forbid))
    ticks = Counter[str]()
    scan(data, None, Look(tick=lambda: ticks.update(["tick"])))
    assert ticks["tick"] == 4


def test_rows_are_counted_by_stratum_and_part(write: Write) -> None:
    data = TextData.model_validate({"path": str(write("train.csv", *ROWS, "three,b")), "test": str(write("test.csv", *ROWS))})
    found = ONE_LABEL.count(data, Look())
    expected: dict[str, Counter[Part | None]] = {"a": Counter({"train": 1, "test": 1}), "b": Counter({"train": 2, "test": 1})}
    assert (found.given, found.counts, found.stratum) == (("train", "test"), expected, "class")


def test_sets_are_counted_by_their_rarest_label_and_numbers_together(write: Write) -> None:
    rows = [*(f"t{number},a" for number in range(60)), *(f"u{number},a|b" for number in range(30)), "v,a|c", "w,", "x,b|c"]
    data = TextData(path=str(write("rows.csv", "text,label", *rows)))
    sets = LABEL_SET.count(data, Look())
    assert sum(own.total() for own in sets.counts.values()) == 93 and set(sets.counts) == {"(rare labels)", "a", "b"}
    assert NUMBER.count(TextData(path=str(write("n.csv", "text,label", "a,1", "b,2"))), Look()).counts == {"all texts": Counter({None: 2})}


def test_labels_and_lengths_are_inspected(write: Write) -> None:
    data = TextData(path=str(write("rows.csv", "text,label", "one two,b|a", "three,a")))
    found = LABEL_SET.inspect_data(data, Look())
    assert found.labels == {"a": {None: 2}, "b": {None: 1}} and found.listing.columns == {"text": "text", "target": "label"}
    assert found.measures == {"words": [2, 1], "characters": [7, 5], "labels of an example": [2, 1]}
    numbers = NUMBER.inspect_data(TextData(path=str(write("n.csv", "text,label", "a b,1.5", "c,2"))), Look())
    assert (numbers.labels, numbers.measures["target"]) == ({}, [1.5, 2.0])
    assert ONE_LABEL.inspect_data(data, Look()).labels == {"a": {None: 1}, "b|a": {None: 1}}


def test_lists_with_the_separator_in_a_label_are_refused(write: Write) -> None:
    file = write("rows.jsonl", '{"text": "a", "label": ["x|y"]}', '{"text": "b", "label": ["z"]}')
    assert "line 1: a name in the list holds data.label_separator (|)" in str(fault(file, "labels"))
    assert values(read(file, "labels", label_separator=";"), "labels") == [("x|y",), ("z",)]
    assert "line 1: the target is a list" in str(fault(file))


TEXT = some.text(some.characters(exclude_categories=["Cs"], exclude_characters="\0"), min_size=1, max_size=30).filter(
    lambda text: bool(text.strip())
)
LABEL = some.sampled_from(LABELS)
SLOW = settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=150)


@SLOW
@given(rows=some.lists(some.tuples(TEXT, LABEL), min_size=2, max_size=6), form=some.sampled_from(["csv", "tsv", "jsonl", "utf-16"]))
def test_what_a_library_writes_is_read_as_it_was(tmp_path: Path, rows: list[tuple[str, str]], form: str) -> None:
    rows = [*rows, ("first", "NA"), ("second", "null")]
    file = tmp_path / f"rows.{'csv' if form == 'utf-16' else form}"
    if form == "jsonl":
        file.write_text("".join(json.dumps({"label": label, "text": text}, ensure_ascii=len(text) % 2 == 0) + "\n" for text, label in rows))
    else:
        buffer = io.StringIO(newline="")
        csv.writer(buffer, delimiter="\t" if form == "tsv" else ",").writerows([("text", "label"), *rows])
        file.write_bytes(buffer.getvalue().encode("utf-16" if form == "utf-16" else "utf-8"))
    assert pairs(read(file, similar_labels="keep")) == rows


PIECES = [b"text", b"label", b",", b"\n", b'"', b"\r", b"\t", b"a", b"{", b"}", b":", b"[", b"\xff", b"\xfe", b"\0", b"1e999"]


@SLOW
@given(
    raw=some.one_of(
        some.binary(max_size=200),
        some.lists(some.sampled_from(PIECES), max_size=40).map(b"".join),
    ),
    suffix=some.sampled_from([".csv", ".tsv", ".jsonl", ".parquet"]),
    kind=some.sampled_from(["label", "labels", "number"]),
)  # fmt: skip
def test_hostile_bytes_are_rows_or_a_fault_with_a_remedy(tmp_path: Path, parquet: ModuleType, raw: bytes, suffix: str, kind: str) -> None:
    file = tmp_path / f"rows{suffix}"
    for content in (raw, b"text,label\n" + raw, b'{"text": "a", "label": "1"}\n{"text": ' + raw):
        file.write_bytes(content)
        try:
            rows = read(file, kind)
        except UnfitData as error:
            assert error.code and str(error) and error.unnamed and error.place[0] == "data"
        else:
            assert all(row.text.strip() for row in rows)
