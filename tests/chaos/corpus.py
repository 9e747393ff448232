"""Hostile input, in one place: what is posted to each route that takes a body, and what must be said to it.

Each text that a request holds carries the MARKER, and no error may repeat it.
"""

import json
import secrets
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

from search_spaces.documents import MAX_BYTES, MAX_DEPTH, MAX_YAML_BYTES
from tests.web.laboratory import study_document

MARKER = "marker" + secrets.token_hex(6)
HOLE = "@hole@"
JSON, YAML = "application/json", "application/yaml"
LEVELS = 100_000


@dataclass(frozen=True)
class Bad:
    """A body with the status that it gets, and the code of its first fault where there is one."""

    name: str
    content: bytes = field(repr=False)
    status: int
    code: str | None = None
    kind: str = JSON


TEMPLATES: dict[str, Callable[[], Any]] = {
    "/api/v1/studies": lambda: study_document(MARKER, search_space={"lr": {"type": "float", "low": HOLE, "high": 0.1}}),
    "/api/v1/studies/{study}": lambda: {"budget": {"trials": HOLE, "hours": MARKER}},
    "/api/v1/studies/{study}/trials": lambda: {"params": {"lr": HOLE, "optimizer": MARKER}},
    "/api/v1/studies/{study}/objective": lambda: {"metric": HOLE, "note": MARKER},
    "/api/v1/studies/{study}/claims": lambda: {"worker": HOLE, "note": MARKER},
    "/api/v1/claims/{claim}/report": lambda: {"step": 1, "metrics": {"accuracy": HOLE, MARKER: 0.5}, "note": MARKER},
    "/api/v1/claims/{claim}/finish": lambda: {"metrics": {"accuracy": HOLE}, "report": {MARKER: MARKER}},
    "/api/v1/claims/{claim}/fail": lambda: {"reason": HOLE, "note": MARKER},
    "/api/v1/claims/{claim}/release": lambda: {"detail": HOLE, "note": MARKER},
    "/login": lambda: {"token": HOLE, "note": MARKER},
}
"""By route, a document with a hole where a value is expected."""

PATCHED = {"/api/v1/studies/{study}"}
"""The routes of these that take the document by PATCH; the others take it by POST."""


def bodies(route: str) -> Iterator[Bad]:
    """All that is wrong with any document, wherever it is posted."""
    whole = json.dumps(TEMPLATES[route]())
    yield from _malformed(whole)
    yield from _impure(whole)
    yield from _too_deep()
    yield from _too_large()
    yield from _yaml()
    yield from _other_kinds(whole.replace(f'"{HOLE}"', "0.01"))


def _malformed(whole: str) -> Iterator[Bad]:
    contents = {
        "nothing": b"", "half an object": b'{"name": ', "two documents": b"{}{}", "a word": MARKER.encode(),
        "invalid UTF-8": b'{"name": "\xff"}', "an encoded surrogate": b'{"name": "\xed\xa0\x80"}', 
        "overlong UTF-8": b'{"name": "\xc0\x80"}',
        "UTF-16": whole.encode("utf-16"), "UTF-32": whole.encode("utf-32"), "a byte order mark": b"\xef\xbb\xbf" + whole.encode(),
        "single quotes": b"{'name': 'a'}", "a trailing comma": whole[:-1].encode() + b",}", "a comment": b"/* " + whole.encode() + b" */",
        "a bare NUL": whole.replace(MARKER, "a\0b", 1).encode(), "only backslashes": b'"' + b"\\" * LEVELS,
        "a string that never ends": b'"' + b'\\"' * (MAX_BYTES // 2 - 1), "hexadecimal": whole.replace(f'"{HOLE}"', "0x10").encode(),
        "a leading zero": whole.replace(f'"{HOLE}"', "01").encode(), "a bare word": whole.replace(f'"{HOLE}"', MARKER).encode(),
        "gzip": b"\x1f\x8b\x08\x00" + b"\0" * 20, "random bytes": secrets.token_bytes(999) + b"\xff",
    }  # fmt: skip
    for name, content in contents.items():
        yield Bad(name, content, 400, "malformed_json" if _is_text(content) else None)


def _is_text(content: bytes) -> bool:
    try:
        content.decode()
    except UnicodeDecodeError:
        return False
    return True


def _impure(whole: str) -> Iterator[Bad]:
    values = {
        "NaN": ("NaN", "not_finite"), "Infinity": ("-Infinity", "not_finite"), "1e999": ("1e999", "not_finite"),
        "an int of 5000 digits": ("9" * 5000, "too_large"), "an int of 64 bits": (str(2**63), "too_large"),
        "the least int of 64 bits": (str(-(2**63)), "too_large"), "an int above 2^53": (str(2**53 + 1), "too_large"),
        "a lone surrogate": (f'"{MARKER}\\ud800"', "invalid_text"), "half a pair": (f'"\\udc00{MARKER}"', "invalid_text"),
        "a NUL": (f'"{MARKER}\\u0000"', "invalid_text"), "an escape sequence": (f'"\\u001b[31m{MARKER}"', "invalid_text"),
        "a bidirectional override": (f'"{MARKER}\\u202e"', "invalid_text"), "a line break": (f'"{MARKER}\\r\\nX: y"', "invalid_text"),
        "a key with a NUL": (f'{{"{MARKER}\\u0000": 1}}', "invalid_name"), "a key with a surrogate": ('{"\\ud800": 1}', "invalid_name"),
        "a duplicate key": ('{"a": 1, "a": 2}', "duplicate_key"), "an escaped duplicate key": ('{"a": 1, "\\u0061": 2}', "duplicate_key"),
    }  # fmt: skip
    for name, (text, code) in values.items():
        yield Bad(name, whole.replace(f'"{HOLE}"', text).encode(), 422, code)
    yield Bad("a hundred thousand NaNs", f"[{'NaN,' * LEVELS}1]".encode(), 422, "not_finite")


def _too_deep() -> Iterator[Bad]:
    contents = {
        "lists": "[" * LEVELS + "]" * LEVELS, "objects": '{"a":' * LEVELS + "1" + "}" * LEVELS, "open lists": "[" * LEVELS,
        "one level too many": "[" * (MAX_DEPTH + 1) + "]" * (MAX_DEPTH + 1), "brackets in turn": '[{"a":' * LEVELS,
    }  # fmt: skip
    for name, text in contents.items():
        yield Bad(f"too deep: {name}", text.encode(), 422, "too_deep")


def _too_large() -> Iterator[Bad]:
    yield Bad("50 MB", b"[" + b" " * 50_000_000, 413, "too_many_bytes")
    yield Bad("one byte too many", b"{}".ljust(MAX_BYTES + 1), 413, "too_many_bytes")
    yield Bad("YAML, one byte too many", b"a: 1".ljust(MAX_YAML_BYTES + 1), 413, "too_many_bytes", YAML)


def _yaml() -> Iterator[Bad]:
    unacceptable = {
        "an alias bomb": (f"a: &a [{MARKER}, x]\nb: [*a, *a]", "yaml_alias"), "a merge": ("a: &a {b: 1}\nc: {<<: *a}", "yaml_alias"),
        "a Python object": (f"!!python/object/apply:os.system ['{MARKER}']", "yaml_tag"), "binary": ("a: !!binary aGk=", "yaml_tag"),
        "a time that is none": ("a: !!timestamp nonsense", "yaml_tag"), "deep nesting": ("[" * LEVELS, "too_deep"),
        "deep lists": ("- " * LEVELS, "too_deep"), "not a number": ("a: .nan", "not_finite"), "infinity": ("a: -.inf", "not_finite"),
        "1e999": ("a: 1e999", "not_finite"), "an int of 5000 digits": ("a: " + "9" * 5000, "too_large"),
        "a duplicate key": ("a: 1\na: 2", "duplicate_key"), "a key that is no text": ("1: a", "key_not_text"),
        "a key that is a list": ("? [a]\n: 1", "key_not_text"), "a NUL, escaped": (f'a: "{MARKER}\\0"', "invalid_text"),
    }  # fmt: skip
    malformed = {
        "a tab": "a:\n\t- b", "an escape beyond Unicode": 'a: "\\U00110000"', "a NUL": "a: \0", "a colon too many": f"a: b: {MARKER}",
        "two documents": "a: 1\n---\nb: 2", "a directive": "%YAML 9.9\n%x\n---\n", "an open quote": f'a: "{MARKER}',
    }  # fmt: skip
    for name, (text, code) in unacceptable.items():
        yield Bad(f"YAML, {name}", text.encode(), 422, code, YAML)
    for name, text in malformed.items():
        yield Bad(f"YAML, {name}", text.encode(), 400, "malformed_yaml", YAML)
    yield Bad("YAML, invalid UTF-8", b"a: \xff", 400, None, YAML)


def _other_kinds(sound: str) -> Iterator[Bad]:
    kinds = (
        "", "text/plain", "text/json", "application/x-www-form-urlencoded", "multipart/form-data; boundary=x", "application/xml",
        "application/json; charset=latin-1", "application/json; charset=utf-16", "application/json, text/plain", "*/*", "a" * 1000,
        "application/x-yaml; charset=" + MARKER, "application/jsonp", MARKER,
    )  # fmt: skip
    for kind in kinds:
        yield Bad(f"as {kind[:40]!r}", sound.encode(), 415, None, kind)


def _float(**fields: Any) -> dict[str, Any]:
    return {"lr": {"type": "float", "low": 1e-5, "high": 0.1, **fields}}


def _int(name: str, **fields: Any) -> dict[str, Any]:
    return {name: {"type": "int", "low": 1, "high": 9, **fields}}


ONE_CHOICE = {"type": "categorical", "choices": ["sgd"]}
CIRCLE = {"lr": _int("lr", when={"epochs": [1]})["lr"], "epochs": _int("epochs", when={"lr": [1]})["epochs"]}
THREE_BIG_RANGES = _int("batch_size", high=65_536) | _int("epochs", high=100_000) | _int("lr_step_epochs", high=100_000)
GRID = {"sampler": {"name": "grid"}}


def absurd_studies() -> Iterator[tuple[str, dict[str, Any], str]]:
    """Studies that can be read but never run: a name, what is changed in a sound one, and the code that some fault must have."""
    yield "low above high", {"search_space": _float(low=1.0)}, "low_above_high"
    yield "log from zero", {"search_space": _float(low=0.0, log=True)}, "log_from_zero"
    yield "log from below zero", {"search_space": _float(low=-1.0, log=True)}, "log_from_zero"
    yield "a step of zero", {"search_space": _float(step=0.0)}, "step_not_positive"
    yield "a negative step", {"search_space": _float(step=-0.01)}, "step_not_positive"
    yield "a step above the range", {"search_space": _float(step=1e308)}, "step_above_range"
    yield "a step too fine to count", {"search_space": _float(step=1e-320)}, "step_too_fine"
    yield "a range too wide to count", {"search_space": _float(low=-1e308, high=1e308, step=1.0), **GRID}, "step_too_fine"
    yield "log with a step", {"search_space": _float(log=True, step=0.01)}, "log_with_step"
    yield "a million choices", {"search_space": {"lr": {"type": "categorical", "choices": list(range(100_000))}}}, "too_long"
    yield "no choice", {"search_space": {"optimizer": {"type": "categorical", "choices": []}}}, "too_short"
    yield "one choice twice", {"search_space": {"optimizer": ONE_CHOICE | {"choices": ["sgd", "sgd"]}}}, "duplicate_choice"
    yield "a choice that is a book", {"search_space": {"optimizer": ONE_CHOICE | {"choices": [MARKER * 100]}}}, "choice_too_long"
    yield "a choice that is a list", {"search_space": {"optimizer": ONE_CHOICE | {"choices": [[MARKER]]}}}, "scalar_type"
    yield "a grid of 10^14", {"search_space": THREE_BIG_RANGES, "fixed": {}, **GRID}, "grid_above_budget"
    yield "a grid without an end", {"search_space": _float(), **GRID}, "endless_grid"
    yield "ten thousand parameters", {"search_space": {f"p{i}": _float()["lr"] for i in range(10_000)}}, "unknown_parameter"
    yield "ten thousand fixed ones", {"fixed": {f"p{i}": 1 for i in range(10_000)}}, "unknown_parameter"
    yield "conditions in a circle", {"search_space": CIRCLE}, "circular_condition"
    yield "a condition on itself", {"search_space": _int("epochs", when={"epochs": [1]}), "fixed": {}}, "circular_condition"
    yield "a condition on nothing", {"search_space": _float(when={MARKER: [1]})}, "unknown_condition"
    yield "a condition of many values", {"search_space": _float(when={"optimizer": [1] * 60_000}) | {"optimizer": ONE_CHOICE}}, "too_long"
    yield "a condition that nests", {"search_space": _float(when={"optimizer": [{MARKER: 1}]})}, "scalar_type"
    for name in ("__proto__", "constructor", "--lr", "../x", "lr;rm", "$(id)", "", " ", "é", "x" * 65, MARKER):
        yield f"a parameter named {name[:16]!r}", {"search_space": {name: _float()["lr"]}}, "unknown_parameter"
        yield f"a fixed one named {name[:16]!r}", {"fixed": {name: 1}}, "unknown_parameter"
        yield f"a field named {name[:16]!r}", {name: 1}, "extra_forbidden"
    for name in ("..", ".", "a/b", " a", "a ", "0123456789abcdef"):
        yield f"a study named {name!r}", {"name": name}, "invalid_name"
    yield "a name that is a book", {"name": MARKER * 100}, "string_too_long"
    yield "a name that is none", {"name": ""}, "string_too_short"
    for section in ("name", "data", "model", "search_space", "objective", "budget"):
        for wrong in (None, [], [MARKER], 7, True):
            yield f"{section} is {type(wrong).__name__}", {section: wrong}, ""
    yield "an unknown sampler", {"sampler": {"name": MARKER}}, "union_tag_invalid"
    yield "an unknown pruner", {"pruner": {"name": [MARKER]}}, "union_tag_invalid"
    yield "an unknown preset", {"preset": {MARKER: 1}}, "unknown_preset"
    yield "an unknown model", {"model": {"name": f"../../{MARKER}"}}, "unknown_model"
    yield "a budget of too many", {"budget": {"trials": 100_001}}, "less_than_equal"
    yield "a budget below zero", {"budget": {"trials": -1}}, "greater_than_equal"
    yield "a budget that never ends", {"budget": {}}, "endless"
    yield "weights of nobody's home", {"model": {"name": "squeezenet1_1", "weights": f"~{MARKER}/w.pt"}, **HERE}, "missing_data"
    yield "data of nobody's home", {"data": {"path": f"~{MARKER}/x"}}, "missing_data"
    yield "data that is a device", {"data": {"path": "/dev/zero"}}, "not_a_folder"
    yield "a path too long for any disk", {"data": {"path": "/" + MARKER * 200}}, "unreadable_data"
    yield "a path too long to read", {"data": {"path": "/" + "x" * 5_000}}, "string_too_long"


HERE = {"data": {"path": f"/nowhere/{MARKER}", "location": "server"}}

odd_but_sound: dict[str, dict[str, Any]] = {
    "a denormal learning rate": {"search_space": _float(low=5e-324, log=True)},
    "a range of one point": {"search_space": _float(low=0.1, high=0.1)},
    "as many steps as may be": {"search_space": _float(low=1.0, high=2.0, step=1e-6)},
    "a name in markup": {"name": "<img src=x onerror=alert(1)>".replace("/", "")},
    "a name in a formula": {"name": "=cmd|' C'!A0"},
    "a name in percent": {"name": "%2e%2e%00"},
    "a name that is a wildcard": {"name": "%_*?"},
    "a name in quotes": {"name": "'; DROP TABLE study; --"},
    "a prototype's name": {"name": "__proto__"},
    "an Arabic name": {"name": "تجربة"},
    "a name of 128 emoji": {"name": "\U0001f600" * 128},
    "the highest seed": {"sampler": {"name": "random", "seed": 2**53}},
    "a moment's budget": {"budget": {"trials": 1, "hours": 1e-300}},
}  # fmt: skip
"""Studies that look like an attack and are none: they are accepted, and a trial can be claimed from each."""


def absurd_trials() -> Iterator[tuple[str, Any]]:
    """Bodies for the route that queues trials, each refused with 422."""
    good = {"lr": 0.01, "optimizer": "sgd"}
    yield from ((f"body: {body!r:.30}", body) for body in ({}, [], [good], None, 7, "params", {"params": good, "trials": []}))
    wrong: dict[str, tuple[Any, ...]] = {
        "params": (None, [], 7, MARKER, {}, {**good, MARKER: 1}),
        "lr": (None, True, "0.01", [0.01], {"a": 1}, 1, -0.01, 0, 1e300, 5e-324, 2**53, MARKER),
        "optimizer": (None, True, 0, ["sgd"], {}, "SGD", MARKER, "sgd" * 1000),
        "trials": (None, {}, [], [None], [good, {}], [good] * 1_001),
    }
    yield from ((f"params: {params!r:.30}", {"params": params}) for params in wrong["params"])
    yield from ((f"{name}: {value!r:.30}", {"params": {**good, name: value}}) for name in good for value in wrong[name])
    yield from ((f"trials: {trials!r:.30}", {"trials": trials}) for trials in wrong["trials"])
    for name in ("__proto__", "--lr", "../x", "constructor", ""):
        yield f"a stranger: {name!r}", {"params": {**good, name: 1}}
        yield f"a field: {name!r}", {"params": good, name: 1}


LONG_NUMBER = "9" * 5_000
QUERIES = {
    "/api/v1/studies": [
        "limit=0", "limit=501", "limit=-1", "limit=1e2", "limit=NaN", f"limit={LONG_NUMBER}", "limit=1&limit=x", f"limit={MARKER}",
        f"after={MARKER}", "after=", "after=%00", "after=%ff", "after=%ed%a0%80", "after=%F0%9F%98%80", f"after={MARKER * 400}",
    ],
    "/api/v1/studies/{study}/trials": [
        f"state={MARKER}", "state=queued&state=x", f"sort={MARKER}", "sort=number;drop", "sort=--number", "sort=", "limit=501",
        "after=-1", "after=2147483648", "after=99", "after=1.5", f"after={MARKER}", "limit=%00",
    ],
    "/api/v1/studies/{study}/changes": [
        "after=-1", "after=9007199254740993", f"after={MARKER}", f"after={LONG_NUMBER}", "limit=501", "limit=x",
    ],
    "/api/v1/studies/{study}/events": [
        "after=-1", "after=99999", f"after={MARKER}", f"after={LONG_NUMBER}", "after=%00", "after=1.5", "after=",
    ],
    "/api/v1/studies/{study}/trials/{number}/log": [
        "attempt=0", "attempt=99", "attempt=2147483648", f"attempt={MARKER}", "after=-1", "after=2147483648", "limit=501", "limit=x",
    ],
    "/api/v1/studies/{study}/table": ["after=-1", "after=9007199254740993", f"after={MARKER}", f"after={LONG_NUMBER}", "after=1.5"],
    "/api/v1/studies/{study}/curves": [
        "after=-1", "after=9007199254740993", f"after={MARKER}", f"metric={'m' * 65}", "metric=accuracy&after=x",
    ],
    "/api/v1/study-schema": [f"task={MARKER}", "task=", "task=%00", "task=%ed%a0%80", f"task={MARKER * 400}"],
    "/api/v1/studies/{study}/figures/{name}": [f"param={MARKER}", "param=", "param=%00", f"param={MARKER * 400}", "param=lr&param=lr2"],
    "/api/v1/studies/{study}/best": [f"format={MARKER}", "format=", "format=JSON", "format=%00", "format=../x"],
}  # fmt: skip
"""Query strings that get a 422 each."""

NAMES = (
    "%00", "%ff", "%ed%a0%80", "..", "%2e%2e", "%2e%2e%2f%2e%2e%2fetc%2fpasswd", "..%5c..%5c", "%252e%252e", "'%20OR%20'1'='1", "%25", "_",
    "*", "0" * 16, "f" * 16, "x" * 9_000, "%F0%9F%98%80" * 100, "__proto__", "-1", "%0d%0aX:%20y", "%e2%80%ae", MARKER,
)  # fmt: skip
"""Names of studies that are not there: 404 each."""

NUMBERS = (
    "99",
    "2147483647",
    "2147483648",
    "9007199254740993",
    "9" * 4000,
    "-1",
    "1.5",
    "1e1",
    "NaN",
    "0x1",
    "%00",
    "%2e%2e",
    " ",
    "+0x",
    MARKER,
)
"""Numbers of trials that are not there: 404 or 422 each."""

KEYS = (b"", b" ", b"a b", b"x" * 201, "é".encode(), b"\x01", b"\xff", b"a\tb")
"""Idempotency keys that are none: 422 each."""
