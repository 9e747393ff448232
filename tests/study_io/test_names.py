"""What an export writes, an import and `thaw train` read, whatever the classes are called."""

import ast
import io
import json

from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as some

from search_spaces.documents import impurities
from service import operations
from service.domain.export import Exported, read_export
from service.exports.card import card
from service.exports.configuration import script
from service.store import Store
from service.study_io.import_ import Header, sound
from tests.export.conftest import NOTHING, exported_of
from tests.study_io.luggage import documents, exported, imported, mixed_study, sealed
from trainer.data.labels import is_foul
from trainer.targets.classes.config import MAX_CLASS_NAME
from trainer.tasks.image_classification.config import ImageClassificationConfig, ImageClassificationInfo
from trainer.tasks.images.config import ImageData, ImageModel

HOSTILE = [
    "", " ", "\u2028", "\u2029", "\ufeff", "\u200b", "\u200d", "---", "...", "!!python/object", "{x}", "%s", "'''", '"""', "\\", "\\n",
    "null", "~", "1e5", "0x10", "yes", "2026-01-01", "#", ": ", "- a", "&a", "*a", "\U0001f600", "e\u0301", "\ufdd0", "\uffff",
    "</script>", "|", "`", "=1+1", "\xa0", "\xad", "\U000e0001", "x" * MAX_CLASS_NAME,
]  # fmt: skip
CLASSES = some.lists(
    some.one_of(some.sampled_from(HOSTILE), some.text(max_size=40)).filter(lambda name: not any(map(is_foul, name))),
    min_size=2, max_size=6, unique=True,
)  # fmt: skip


def facts_of(classes: list[str]) -> ImageClassificationInfo:
    """Of a study with these classes."""
    return ImageClassificationInfo(
        classes=tuple(classes), images={"train": 9, "validation": 3}, fingerprint="0" * 64, split="1" * 64, weights_sha256=None
    )


def configuration_of(classes: list[str]) -> Exported:
    """What is exported of such a study's best trial."""
    config = ImageClassificationConfig(data=ImageData(path="/data"), model=ImageModel(name="squeezenet1_1"), image_size=64)
    plain = {name: getattr(NOTHING, name) for name in ("listing", "normalisation")}
    return exported_of(config, facts_of(classes).model_copy(update=plain))


def file_of(raw: bytes, classes: list[str]) -> bytes:
    """The study's file with these classes in its facts and in the results of its trials."""
    lines = [json.loads(line) for line in raw.splitlines()]
    lines[0]["facts"] = facts_of(classes).model_dump(mode="json")
    for line in lines[1:-1]:
        line["result"] = {"per_class_recall": dict.fromkeys(classes, 0.5)}
    return sealed(lines)


def test_the_data_check_refuses_the_characters_that_no_document_may_hold() -> None:
    """An export may hold every class name that the data check lets through, so both refuse the same characters."""
    assert [hex(code) for code in range(0x110000) if is_foul(chr(code)) is not any(True for _ in impurities(chr(code)))] == []


@settings(max_examples=100, deadline=None)
@given(classes=CLASSES)
@example(classes=HOSTILE)
def test_an_exported_configuration_is_read_as_it_was_written(classes: list[str]) -> None:
    whole = configuration_of(classes)
    assert read_export(whole.to_yaml()) == whole
    assert read_export(whole.to_json()) == whole
    [written] = [
        value
        for node in ast.parse(script(whole)).body
        if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Tuple) and isinstance(node.value, ast.Tuple)
        for target, value in zip(node.targets[0].elts, node.value.elts, strict=True)
        if isinstance(target, ast.Name) and target.id == "CLASSES"
    ]
    assert list(ast.literal_eval(written)) == classes
    assert card(whole)


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(classes=CLASSES)
@example(classes=HOSTILE)
def test_an_exported_study_is_imported_as_it_was_written(embedded_store: Store, classes: list[str]) -> None:
    there = mixed_study(embedded_store)
    raw = file_of(exported(embedded_store, operations.stop_study(embedded_store, there.id)), classes)
    here = imported(embedded_store, raw, "again")
    again = exported(embedded_store, here)
    for name in (there.id, here.id):
        operations.delete_study(embedded_store, name)
    assert documents(again) == documents(raw)
    assert isinstance(header := sound(io.BytesIO(again)), Header) and header.line.facts == facts_of(classes)
