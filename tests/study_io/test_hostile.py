"""Files that were cut, changed or made up: each is refused with its line, and nothing is written."""

import base64
import io
import json
import math
import shutil
from collections.abc import Callable
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from starlette.testclient import TestClient

from service import operations
from service.domain.errors import InvalidInput, NameTaken
from service.domain.text import clean
from service.search import figures
from service.settings import Settings
from service.store import Store, open_store, queries
from service.study_io import import_
from service.study_io.format import MAX_LINE
from service.study_io.import_ import sound
from service.web.app import create_app
from tests.operations.driving import WRONG
from tests.study_io.luggage import HOSTILE, Documents, confirmed_study, exported, imported, mixed_study, sealed
from tests.web.laboratory import HERE

Change = Callable[[Documents], Any]


@pytest.fixture(scope="module")
def files(sqlite_template: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[bytes, bytes]:
    """A study with trials in every state, and one with a confirmation, as they were exported."""
    database = tmp_path_factory.mktemp("there") / "thawline.db"
    shutil.copyfile(sqlite_template, database)
    with closing(open_store(f"sqlite:///{database}")) as store:
        mixed = mixed_study(store)
        operations.stop_study(store, mixed.id)
        return exported(store, mixed), exported(store, confirmed_study(store, "pets"))


@pytest.fixture
def honest(files: tuple[bytes, bytes]) -> bytes:
    return files[0]


@pytest.fixture
def confirmed(files: tuple[bytes, bytes]) -> bytes:
    return files[1]


def fault_in(raw: bytes) -> tuple[str, str]:
    with pytest.raises(InvalidInput) as refused:
        sound(io.BytesIO(raw))
    return refused.value.faults[0].pointer, refused.value.faults[0].code


def test_a_file_that_is_cut_anywhere_is_refused(honest: bytes) -> None:
    ends = [place + 1 for place, byte in enumerate(honest) if byte == 10]
    for length in [0, 1, *ends[:-1], *(end - 1 for end in ends), len(honest) - 100]:
        with pytest.raises(InvalidInput):
            sound(io.BytesIO(honest[:length]))
    assert fault_in(honest[: ends[2]]) == ("#/line 4", "cut_off")


def test_a_changed_byte_is_noticed(honest: bytes) -> None:
    assert fault_in(honest.replace(b'"value":0.91', b'"value":0.99')) == ("#/line 9/sha256", "changed")


def test_a_line_more_or_less_is_noticed(honest: bytes) -> None:
    lines = honest.splitlines(keepends=True)
    assert fault_in(b"".join(lines[:3] + lines[4:])) == ("#/line 4/number", "number_gap")
    assert fault_in(b"".join([*lines, b"\n"])) == ("#/line 10", "after_the_end")
    assert fault_in(b"".join([*lines[:-2], lines[-1]])) == ("#/line 8/lines", "lines_missing")


@pytest.mark.parametrize(
    ("line", "place", "code"),
    [
        (b"\xff\n", "#/line 2", "not_utf8"),
        (b"a" * 1_000_000 + b"\n", "#/line 2", "malformed_json"),
        (b'"' + b"a" * MAX_LINE + b'"\n', "#/line 2", "line_too_long"),
        (b'{"kind":"thawline/trial","result":' + b"[" * 100_000 + b"\n", "#/line 2", "too_deep"),
        (b'{"kind":"thawline/trial","kind":"thawline/trial"}\n', "#/line 2", "duplicate_key"),
        (b'{"kind":"thawline/queen"}\n', "#/line 2/kind", "unknown_kind"),
        (b'{"kind":["thawline/trial"]}\n', "#/line 2/kind", "unknown_kind"),
        (b"[]\n", "#/line 2/kind", "unknown_kind"),
        (b"\n", "#/line 2", "malformed_json"),
    ],
    ids=["bytes", "a million letters", "too long", "deep", "twice", "kind", "kind of kind", "list", "empty"],
)
def test_a_line_that_is_none_is_refused(honest: bytes, line: bytes, place: str, code: str) -> None:
    lines = honest.splitlines(keepends=True)
    assert fault_in(b"".join([lines[0], line, *lines[1:]])) == (place, code)


def put(line: int, name: str, value: Any, documents: Documents) -> None:
    documents[line - 1][name] = value


def put_result(name: str, value: Any, documents: Documents) -> None:
    documents[1]["result"][name] = value


CHANGES: dict[str, tuple[Change, str, str]] = {
    "another version": (partial(put, 1, "schema_version", 2), "#/line 1/schema_version", "unknown_version"),
    "the study twice": (lambda all: all.insert(1, all[0]), "#/line 2/kind", "out_of_order"),
    "no study": (lambda all: all.pop(0), "#/line 1/kind", "out_of_order"),
    "a gap in the numbers": (partial(put, 3, "number", 5), "#/line 3/number", "number_gap"),
    "trials missing": (lambda all: all.pop(-2), "#/line 8/trials", "trials_missing"),
    "trials that were not announced": (partial(put, 1, "created", 3), "#/line 5/number", "too_many_trials"),
    "a spec that is none": (
        lambda all: all[0]["spec"]["objective"].update(metric="luck"), "#/line 1/spec/objective/metric", "unknown_metric",
    ),
    "a name that is none": (partial(put, 1, "name", "a/b"), "#/line 1/spec/name", "invalid_name"),
    "a state that is none": (partial(put, 2, "state", "won"), "#/line 2/state", "enum"),
    "failure without reason": (partial(put, 5, "reason", None), "#/line 5/reason", "reason_without_failure"),
    "a parameter out of its range": (lambda all: all[1]["params"].update(lr=5.0), "#/line 2/params/lr", "out_of_range"),
    "a parameter too many": (lambda all: all[1]["params"].update(momentum=0.5), "#/line 2/params/momentum", "inactive_parameter"),
    "NaN for a value": (partial(put, 2, "value", math.nan), "#/line 2/value", "not_finite"),
    "a word for a value": (partial(put, 2, "value", "nan"), "#/line 2/value", "no_value"),
    "a text for a metric": (lambda all: all[1]["metrics"].update(accuracy="0.9"), "#/line 2/metrics/accuracy", "scalar_type"),
    "infinity in a curve": (
        lambda all: all[1]["reports"]["metrics"].update(loss=[math.inf]), "#/line 2/reports/metrics/loss/0/float", "finite_number",
    ),
    "a short column": (lambda all: all[1]["reports"]["metrics"].update(loss=[]), "#/line 2/reports/metrics/loss", "wrong_length"),
    "steps that fall": (lambda all: all[2]["reports"].update(steps=[2, 1, 3]), "#/line 3/reports/steps", "value_error"),
    "a step beyond the last": (partial(put, 2, "step", 2), "#/line 2/reports/steps", "step_above_last"),
    "reports of another trial": (
        lambda all: all.insert(2, {"kind": "thawline/reports", "number": 1, "steps": [4], "metrics": {}}),
        "#/line 3/number", "out_of_order",
    ),
    "a later trial's duplicate": (partial(put, 2, "duplicate_of", 3), "#/line 2/duplicate_of", "not_an_earlier_trial"),
    "a confirmation of nothing": (partial(put, 2, "source", "confirmation"), "#/line 2/confirms", "confirmation_without_round"),
    "a time without zone": (partial(put, 2, "queued_at", "2026-11-22T09:30:00"), "#/line 2/queued_at", "value_error"),
    "a time before time": (partial(put, 2, "queued_at", "0001-01-01T00:00:00Z"), "#/line 2/queued_at", "value_error"),
    "a time of another kind": (partial(put, 2, "queued_at", 1e300), "#/line 2/queued_at", "value_error"),
    "NUL in a text": (partial(put, 2, "detail", "a\0b"), "#/line 2/detail", "invalid_text"),
    "half a surrogate": (partial(put, 2, "worker", "\ud800"), "#/line 2/worker", "invalid_text"),
    "NUL in a metric's name": (lambda all: all[1]["metrics"].update({"a\0": 1.0}), "#/line 2/metrics/a\0", "string_pattern_mismatch"),
    "a number that is too large": (partial(put_result, "n", 2**70), "#/line 2/result/n", "too_large"),
    "a word for seconds": (partial(put_result, "train_seconds", "1.0"), "#/line 2/result/train_seconds", "float_type"),
    "a word for lanes": (partial(put_result, "reuse", {"pixels": "decoded", "lanes": "2"}), "#/line 2/result/reuse/lanes", "int_type"),
    "a pace of words": (partial(put_result, "pace", {"saved_seconds": "DROP TABLE"}), "#/line 2/result/pace/saved_seconds", "float_type"),
    "evidence of nothing": (lambda all: all[3]["result"]["evidence"].pop("rule"), "#/line 4/result/evidence/rule", "missing"),
    "nothing for a result": (partial(put_result, "test", None), "#/line 2/result/test", "null"),
    "a matrix that is not square": (partial(put_result, "confusion_matrix", [[1, 2]]), "#/line 2/result/confusion_matrix", "not_square"),
    "a picture that is markup": (
        partial(put_result, "worst_classes", [WRONG | {"picture": base64.b64encode(b"<svg onload=alert(1)>").decode()}]),
        "#/line 2/result/worst_classes/0/picture", "not_a_picture",
    ),
    "a picture from elsewhere": (
        partial(put_result, "worst_classes", [WRONG | {"picture": "https://example.org/a.webp"}]),
        "#/line 2/result/worst_classes/0/picture", "not_a_picture",
    ),
    "an example's text with an escape sequence": (
        partial(put_result, "worst_classes", [WRONG | {"text": "\x1b]0;owned\x07"}]),
        "#/line 2/result/worst_classes/0/text", "invalid_text",
    ),
    "a long text of an example": (
        partial(put_result, "worst_classes", [WRONG | {"text": "a" * 301}]), "#/line 2/result/worst_classes/0/text", "string_too_long",
    ),
    "too many examples": (partial(put_result, "worst_classes", [WRONG] * 21), "#/line 2/result/worst_classes", "too_long"),
    "a field that nobody knows": (partial(put, 2, "winner", True), "#/line 2/winner", "extra_forbidden"),
}  # fmt: skip


@pytest.mark.parametrize("case", CHANGES)
def test_what_a_forger_vouches_for_is_refused_at_its_line(honest: bytes, case: str) -> None:
    change, pointer, code = CHANGES[case]
    documents: Documents = [json.loads(line) for line in honest.splitlines()]
    change(documents)
    assert fault_in(sealed(documents)) == (pointer, code)


CONFIRMED: dict[str, tuple[Change, str, str]] = {
    "arms that do not exist": (lambda all: all[0]["confirmation"].update(arms=[0, 99]), "#/line 1/confirmation", "unknown_arms"),
    "a baseline that is no arm": (lambda all: all[0]["confirmation"].update(baseline=1), "#/line 1/confirmation", "unknown_arms"),
    "no facts": (partial(put, 1, "facts", None), "#/line 1/confirmation", "nothing_confirmed"),
    "a repeat of no arm": (partial(put, 5, "confirms", 1), "#/line 5/confirms", "not_an_arm"),
    "a repeat of other parameters": (lambda all: all[4]["params"].update(lr=0.07), "#/line 5/confirms", "not_an_arm"),
    "a round twice": (
        lambda all: all[5].update({name: all[4][name] for name in ("round", "confirms", "params")}), "#/line 6/round", "round_twice",
    ),
    "predictions of classes that do not exist": (
        lambda all: all[4]["result"]["test"].update(predicted=base64.b64encode(b"\2\0" * 20).decode()),
        "#/line 5/result/test/predicted", "unknown_class",
    ),

}  # fmt: skip


@pytest.mark.parametrize("case", CONFIRMED)
def test_a_confirmation_that_does_not_hold_together_is_refused(confirmed: bytes, case: str) -> None:
    change, pointer, code = CONFIRMED[case]
    documents: Documents = [json.loads(line) for line in confirmed.splitlines()]
    change(documents)
    assert fault_in(sealed(documents)) == (pointer, code)


def test_hostile_texts_come_back_as_texts(honest: bytes, embedded_store: Store) -> None:
    study = imported(embedded_store, honest)
    (pruned,) = [trial for trial in embedded_store.read(queries.trials, study.id) if trial.state == "pruned"]
    assert pruned.detail == clean(HOSTILE)  # escape sequences are left out, all else is text
    assert pruned.number == 2


def test_a_name_that_is_taken_leaves_nothing_behind(honest: bytes, embedded_store: Store) -> None:
    imported(embedded_store, honest)
    before = embedded_store.read(queries.totals)
    with pytest.raises(NameTaken):
        imported(embedded_store, honest)
    assert embedded_store.read(queries.totals) == before


def first_complete(lines: Documents) -> dict[str, Any]:
    """The first trial that is complete."""
    return next(one for one in lines if one.get("state") == "complete" and one["kind"] == "thawline/trial")


def change(raw: bytes, edit: Change) -> bytes:
    """The file with its documents edited, and a last line that vouches for them."""
    lines = [json.loads(line) for line in raw.splitlines()]
    edit(lines)
    return sealed(lines)


@pytest.mark.parametrize(
    ("edit", "code"),
    [
        pytest.param(
            lambda lines: first_complete(lines)["reports"]["metrics"].update(accuracy=[10**25]), "too_large", id="25 digits reported"
        ),
        pytest.param(lambda lines: first_complete(lines)["metrics"].update(accuracy=10**400), "too_large", id="400 digits"),
        pytest.param(lambda lines: first_complete(lines).update(value=10**25), "too_large", id="25 digits as value"),
        pytest.param(lambda lines: first_complete(lines)["result"].update(train_seconds=1e300), "less_than_equal", id="endless seconds"),
        pytest.param(lambda lines: first_complete(lines)["result"].update(environment={"a": "x" * 5_000}), "text_too_long", id="long text"),
        pytest.param(lambda lines: first_complete(lines)["result"].update({"k" * 300: 1}), "name_too_long", id="long key"),
        pytest.param(lambda lines: lines[0]["spec"]["data"].update(path="/" + "x" * 5_000), "text_too_long", id="long path"),
        pytest.param(lambda lines: lines[0]["facts"].update(fingerprint="x" * 4_000), "not_a_digest", id="no digest"),
        pytest.param(lambda lines: lines[0]["facts"].update(classes=["a", "b" * 257]), "name_too_long", id="long class"),
        pytest.param(lambda lines: lines[0]["facts"].update(classes=[str(n) for n in range(65_537)]), "class_count", id="many classes"),
        pytest.param(lambda lines: lines[0]["facts"].update(classes=[f"{n:0256}" for n in range(20_000)]), "too_large", id="large facts"),
    ],
)
def test_what_the_views_cannot_show_or_would_carry_about_is_refused(honest: bytes, edit: Change, code: str) -> None:
    assert fault_in(change(honest, edit))[1] == code


def test_scores_without_a_confusion_matrix_are_refused(confirmed: bytes) -> None:
    def edit(lines: Documents) -> None:
        scored = next(one for one in lines if one["kind"] == "thawline/trial" and "test" in one["result"])
        scored["result"]["test"].update(confusion_matrix=[], predicted="", losses="")

    assert fault_in(change(confirmed, edit))[1] == "empty"


def test_more_values_than_the_bound_are_refused(honest: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(import_, "MAX_VALUES", 2)
    assert fault_in(honest)[1] == "too_many_values"


ADDRESSES = ("", "/trials", "/trials/0", "/trials/0/metrics", "/changes", "/table", "/curves?metric=accuracy", "/confirmation", "/pruning",
             "/export", *(f"/best?format={form}" for form in ("yaml", "json", "card", "script", "requirements")),
             *(f"/figures/{name}" for name in figures.FIGURES))  # fmt: skip


@pytest.mark.parametrize(
    "edit",
    [
        pytest.param(lambda trial: trial["result"].update(reuse={"pixels": "decoded", "lanes": 2}), id="reuse without place"),
        pytest.param(lambda trial: trial["reports"]["metrics"].update(accuracy=[1.7e308, -1.7e308, 0.5]), id="a curve of extremes"),
        pytest.param(lambda trial: trial.update(value=1.7e308, metrics={"accuracy": 1.7e308}), id="an extreme value"),
        pytest.param(lambda trial: trial["result"].update(pace={"seconds": {"data": 1e15, "forward": 1e15}}), id="endless pace"),
    ],
)
def test_what_an_import_accepts_every_view_shows(store: Store, honest: bytes, tmp_path: Path, edit: Callable[[Any], Any]) -> None:
    def prepare(lines: Documents) -> None:
        trial = first_complete(lines)
        trial["step"] = max(trial["step"], 3)
        trial["reports"] = {"steps": [1, 2, 3], "metrics": {"accuracy": [0.1, 0.2, 0.3]}}
        edit(trial)

    study = imported(store, change(honest, prepare), "odd")
    client = TestClient(create_app(store, Settings(home=tmp_path)), base_url=HERE, raise_server_exceptions=False)
    for address in ADDRESSES:
        answer = client.get(f"/api/v1/studies/{study.name}{address}")
        assert answer.status_code < 500, (address, answer.text)
    assert client.get("/api/v1/studies").status_code == 200 and client.get("/metrics").status_code == 200
