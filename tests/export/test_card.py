"""The model card says what is known, and what users wrote stays text in it."""

import json
from collections.abc import Callable
from typing import Any

import pytest
from markdown_it import MarkdownIt

from service.domain.export import Confirmed, Exported, Origin, Point, lock_of
from service.domain.spec import Objective
from service.domain.verdict import Compared, Estimate, Optimism, Price
from service.exports.card import card, is_within, plain, sparkline
from service.exports.configuration import requirements
from tests.export.conftest import NOTHING, exported_of
from tests.operations.driving import PICTURE
from trainer.configuration import LeftOut, ListingFacts
from trainer.protocol import Finished, Scores
from trainer.targets.classes.card import ByClass, ClassSummary, Mistake
from trainer.targets.examples import excerpt
from trainer.tasks.image_classification.config import ImageClassificationConfig, ImageClassificationInfo
from trainer.tasks.images.config import ImageData, ImageExamples, NearDuplicates

Config = Callable[..., ImageClassificationConfig]
FARED = ByClass(
    recall={"a": 0.9, "b": 0.5, "c": 1.0},
    confusion_matrix=((9, 1, 0), (3, 5, 2), (0, 0, 4)),
    mistakes=(Mistake(actual="b", predicted="a", images=3),),
)


def estimate(value: float, spread: float = 0.02) -> Estimate:
    return Estimate(value=value, low=value - spread, high=value + spread)


def arm(trial: int, **changes: Any) -> Compared:
    values: dict[str, Any] = {
        "trial": trial, "baseline": trial == 0, "params": {}, "searched": 0.9, "rounds": (1, 2), "test": (0.8, 0.82), 
        "validation": (0.8, 0.8),
        "mean": estimate(0.81), "behind": None, "tied": True, "price": None,
    }  # fmt: skip
    return Compared(**(values | changes))


CONFIRMED = Confirmed(
    seeds=2, run_seeds=(5, 6), test_images=24, expected=estimate(0.81), new_images=estimate(0.81, 0.1), single_run=estimate(0.81, 0.05),
    uplift=estimate(0.03), uplift_new_images=estimate(0.03, 0.08), helped="unclear", best=3, tied=(3,),
    optimism=Optimism(trial=3, searched=0.9, confirmed=0.81, value=0.09, chosen=0.05), words=("Use trial 3.", "Tuning helped a little."),
    arms=(arm(3), arm(0, tied=False, behind=estimate(0.03), failed="it diverged")), summary=ClassSummary(by_class=FARED),
)  # fmt: skip
FINISHED = Finished(
    step=3, metrics={"accuracy": 0.85}, report={"per_class_recall": {}, "confusion_matrix": ()}, train_seconds=12.3, peak_memory=3_100_000,
    test=Scores(metrics={"accuracy": 0.8}, report={"per_class_recall": {}, "confusion_matrix": ()}),
)  # fmt: skip


@pytest.fixture
def full(config: Config) -> Exported:
    """A file that has everything."""
    near = NearDuplicates(groups=2, images=5, crossing=1, mixed=1)
    return exported_of(
        config(lr=0.0123), NOTHING.model_copy(update={"near_duplicates": near}),
        note="Confirmed: a test.", confirmed=CONFIRMED, summary=ClassSummary(by_class=FARED),
        environment={"torch": "2.14.1+cu130", "threads": "2"},
        lock={"torch": "2.14.1", "pillow": "13.0.0"}, cost=Price(trainable=1234, train_seconds=10.0, peak_memory=2_000_000),
        origin=Origin(study="0" * 16, study_name="a test", trial=3, params={"lr": 0.0123}),
        curve=tuple(Point(step=step, metrics={"accuracy": step / 10, "loss": 1 / step}) for step in range(1, 31)),
    )  # fmt: skip


def test_a_confirmed_configuration_states_its_intervals_and_what_tuning_was_worth(full: Exported) -> None:
    text = card(full)
    for said in (
        "**Confirmed: a test.**", "- Use trial 3.", "81.00 % (79.00 % to 83.00 %)", "81.00 % (76.00 % to 86.00 %)",
        "+3.00 points (+1.00 points to +5.00 points)", "+9.00 points", "| 0 | 2 |", "baseline, failed",
        "| did tuning help (the recommended configuration against the baseline) | unclear |",
        "Near-duplicates: 5 images in 2 groups", "| lr | 0.0123 | yes |", "| a | 9 | 1 | 0 |", "1,234 parameters",
        "torchrun --nproc-per-node",
        "Recall over 2 runs, on the test images", "| pillow | 13.0.0 |",
    ):  # fmt: skip
        assert said in text, said
    assert text.index("Confirmed: a test") < text.index("## ")


def test_the_memory_of_a_gpu_is_stated_where_one_was_used(full: Exported) -> None:
    said = "| memory of the GPU that is needed, about | "
    assert said not in card(full, FINISHED)
    assert said + "4.4 GB |" in card(full, FINISHED.model_copy(update={"device_memory": 4_400_000_000}))


def test_the_card_states_a_given_split_and_what_was_left_out(full: Exported) -> None:
    assert ", split by content within each class with seed 0." in card(full)
    listing = ListingFacts(
        given=("train", "validation", "test"), notes=("The data's own split is used: train/ for train.",),
        left_out=(LeftOut(reason="broken link", count=7, examples=("[a](b).png",)),), unused_columns=("age",),
    )  # fmt: skip
    near = NearDuplicates(groups=2, images=5, crossing=0, mixed=0, across=1)
    text = card(full.model_copy(update={"facts": full.facts.model_copy(update={"listing": listing, "near_duplicates": near})}))
    assert "split by content within" not in text
    for said in (
        "- The data's own split is used: train/ for train.", "- Columns that are not used: age.",
        "1 of them in several parts of the data's own",
        r"- Left out: 7, broken link (\[a\](b).png, …).",
    ):  # fmt: skip
        assert said in text, said


def test_the_card_counts_classes_and_names_what_was_scaled_and_left_out(full: Exported) -> None:
    facts = full.facts.model_copy(
        update={
            "classes": ("a", "b", "c"),
            "class_counts": {"train": (90, 3, 2), "validation": (19, 1, 0), "test": (9, 1, 1)},
            "unreadable": ImageExamples(count=2, examples=("a/1.png: truncated", "a/2.png: not an image")),
            "constant": ImageExamples(count=1, examples=("b/3.png",)),
        }
    )
    reached = full.reached.model_copy(update={"value": 0.95})
    text = card(full.model_copy(update={"facts": facts, "reached": reached, "confirmed": None}))
    assert "| a | 90 | 19 | 9 |" in text and "The largest class, a, has 95.0 % of the validation images" in text
    assert "is not better than this" in text and "balanced accuracy" in text
    assert "2 images are left out" in text and "a/2.png: not an image" in text and "1 image is of one colour" in text


def test_one_that_is_not_confirmed_says_so_at_the_top_and_promises_nothing(full: Exported) -> None:
    text = card(full.model_copy(update={"confirmed": None, "note": "Not confirmed yet: the search is under way."}))
    assert text.splitlines()[2] == "**Not confirmed yet: the search is under way.**"
    assert "Expect less on new images." in text and "interval" not in text and "uplift" not in text
    assert "Recall of trial 3, on the validation images." in text
    least = full.reached.model_copy(update={"objective": Objective(metric="loss", direction="minimize")})
    text = card(full.model_copy(update={"confirmed": None, "reached": least, "curve": ()}))
    assert "Expect a higher value, which is worse, on new images." in text


def test_the_card_states_the_settings_of_the_method_also_where_they_are_defaults(full: Exported, config: Config) -> None:
    assert "| method | full |" in card(full) and "| lora" not in card(full)
    text = card(full.model_copy(update={"config": config(method="lora", lora_r=4)}))
    for row in ("| method | lora |", "| lora\\_r | 4 |", "| lora\\_alpha | 16 |", "| lora\\_dropout | 0.0 |"):
        assert row in text, row
    assert "prompt" not in text and "reinit" not in text


def test_the_libraries_of_text_models_are_in_the_lock_and_the_requirements(full: Exported) -> None:
    lock = lock_of({"torch": "2.14.1+cu130", "transformers": "5.10.0", "tokenizers": "0.22.1", "peft": "0.19.0", "threads": "2"})
    assert lock == {"torch": "2.14.1", "transformers": "5.10.0", "tokenizers": "0.22.1", "peft": "0.19.0"}
    lines = requirements(full.model_copy(update={"lock": lock})).splitlines()
    assert {"transformers==5.10.0", "tokenizers==0.22.1", "peft==0.19.0"} <= {*lines}


def test_beside_a_model_it_says_what_the_model_reached(full: Exported) -> None:
    text = card(full, FINISHED)
    assert "| seconds of training this model | 12.3 |" in text and "Trial 3 trained 1,234 parameters, in 10.0 seconds" in text
    assert "| test | 80.00 % |" in text and "lies within the stated interval" in text and "3 MB" in text
    worse = FINISHED.model_copy(update={"test": Scores(metrics={"accuracy": 0.7}, report={"per_class_recall": {}, "confusion_matrix": ()})})
    assert "lies **outside** the stated interval" in card(full, worse)
    assert is_within(full, FINISHED) is True and is_within(full, worse) is False
    assert is_within(full, FINISHED.model_copy(update={"test": None})) is None
    assert is_within(full.model_copy(update={"confirmed": None}), FINISHED) is None


def test_with_many_classes_the_worst_pairs_stand_for_the_matrix(full: Exported) -> None:
    many = tuple(f"class {number}" for number in range(30))
    fared = ByClass(
        recall=dict.fromkeys(many, 1.0), confusion_matrix=None, mistakes=(Mistake(actual="class 7", predicted="class 9", images=5),)
    )
    facts = ImageClassificationInfo(**{**full.facts.model_dump(), "classes": many})
    text = card(full.model_copy(update={"facts": facts, "confirmed": None, "summary": ClassSummary(by_class=fared)}))
    assert "| class 7 | class 9 | 5 |" in text and "Confusion matrix" not in text and "and 10 more" in text


def test_the_learning_curve_is_drawn_and_thinned(full: Exported) -> None:
    text = card(full)
    assert f"accuracy {sparkline([step / 10 for step in range(1, 31)])}" in text
    table = text.split("| epoch |")[1].split("\n\n")[0].splitlines()
    assert 5 < len(table) <= 14 and table[-1].startswith("| 30 |")
    assert sparkline([1.0, 1.0]) == "▁▁" and sparkline([0.0, 1.0]) == "▁█"


HOSTILE = "a|b\n\n# <script>alert(1)</script> [x](javascript:1) ![](http://e) `c` *d* _e_ www.evil.example me@evil.example &lt; \u202e"


def test_what_users_wrote_is_text_in_every_place(full: Exported) -> None:
    facts = full.facts.model_copy(update={"classes": (HOSTILE, "b", "c")})
    fared = ByClass(recall={HOSTILE: 0.5}, confusion_matrix=FARED.confusion_matrix, mistakes=())
    data = ImageData(path=f"/data/{HOSTILE}")
    hostile = full.model_copy(
        update={
            "facts": facts, "summary": ClassSummary(by_class=fared),
            "confirmed": CONFIRMED.model_copy(update={"summary": ClassSummary(by_class=fared), "words": (HOSTILE,)}),
            "note": HOSTILE,
            "origin": full.origin.model_copy(update={"study_name": HOSTILE}), "environment": {HOSTILE: HOSTILE},
            "config": full.config.model_copy(update={"data": data}),
        }
    )  # fmt: skip
    tokens = MarkdownIt("gfm-like", {"linkify": False}).parse(card(hostile))
    assert _shape(tokens) == _shape(MarkdownIt("gfm-like", {"linkify": False}).parse(card(hostile.model_copy(update=_harmless(hostile)))))
    kinds = {token.type for token in tokens} | {child.type for token in tokens for child in token.children or ()}
    assert not kinds & {"html_block", "html_inline", "link_open", "image", "em_open"}
    assert "\u202e" not in card(hostile)


WRONG = {"target": "a", "predicted": "b", "target_probability": 0.25, "probability": 0.5}


def test_the_card_has_the_texts_of_the_most_wrong_examples(full: Exported) -> None:
    said = [{**WRONG, "name": f"row {number}", "text": f"text {number}"} for number in range(6)]
    text = card(full, report={"worst_classes": [{**WRONG, "name": "no text"}, *said]})
    section = text.split("## Most wrong predictions\n\n")[1].split("\n\n## ")[0]
    assert section.startswith("Of trial 3, on the validation images.\n\n| text | where it is | true class | predicted class |\n")
    assert section.endswith("\n| text 4 | row 4 | a (25.0 %) | b (50.0 %) |") and section.count("\n| text ") == 6, "a head and five rows"
    hostile = card(full, report={"worst_classes": [{**WRONG, "name": HOSTILE[:200], "text": excerpt(HOSTILE)}]})
    tokens = MarkdownIt("gfm-like", {"linkify": False}).parse(hostile)
    assert _shape(tokens) == _shape(MarkdownIt("gfm-like", {"linkify": False}).parse(card(full, report={"worst_classes": said[:1]})))


def test_the_card_has_no_pictures_and_nothing_of_reports_with_names_alone(full: Exported) -> None:
    section = card(full, report={"worst_classes": [{**WRONG, "name": "b/1.png", "picture": PICTURE}]}).split("## Most wrong predictions")[1]
    assert "| image | true class | predicted class |" in section and "| b/1.png | a (25.0 %) | b (50.0 %) |" in section
    assert PICTURE not in section
    names = {"worst_classes": [{**WRONG, "name": "b/1.png"}]}
    assert card(full, report=names) == card(full, report={}) == card(full)


def _harmless(hostile: Exported) -> dict[str, Any]:
    """The same with a word for each hostile text."""
    text = hostile.model_dump_json().replace(_as_json(HOSTILE), "word")
    return {name: value for name, value in Exported.model_validate_json(text)}


def _as_json(text: str) -> str:
    return json.dumps(text, ensure_ascii=False)[1:-1]


def _shape(tokens: list[Any]) -> list[tuple[str, int]]:
    return [(token.type, len([child for child in token.children or () if child.type != "text"])) for token in tokens]


def test_a_plain_text_is_one_bounded_line() -> None:
    assert plain("a\nb\tc") == "a b c"
    assert len(plain("x" * 10_000)) == 200
    assert plain(0.5) == "0.5"
