"""Search spaces: what is refused, with the place; what is understood; in which order parameters are drawn."""

import re
from collections.abc import Callable

import pytest
from pydantic import ValidationError

from search_spaces import Categorical, Fault, Faulty, Float, Int, Scalar, SearchSpace, cardinality, contains, presets
from search_spaces.documents import from_json, from_yaml, impurities


def pointers(space: dict[str, object]) -> set[tuple[str, str]]:
    with pytest.raises(ValidationError) as caught:
        SearchSpace.model_validate(space)
    found = set()
    for item in caught.value.errors():
        cause = item.get("ctx", {}).get("error")
        if isinstance(cause, Faulty):
            found |= {(fault.below(item["loc"]).pointer, fault.code) for fault in cause.faults}
        else:
            found.add(("#/" + "/".join(map(str, item["loc"])), item["type"]))
    return found


SGD_OR_ADAM = {"type": "categorical", "choices": ["sgd", "adam"]}


@pytest.mark.parametrize(
    ("space", "pointer", "code"),
    [
        ({"lr": {"type": "float", "low": 1.0, "high": 0.1}}, "#/lr/float/low", "low_above_high"),
        ({"lr": {"type": "float", "low": 0.0, "high": 0.1, "log": True}}, "#/lr/float/low", "log_from_zero"),
        ({"lr": {"type": "float", "low": 0.1, "high": 0.2, "log": True, "step": 0.01}}, "#/lr/float/step", "log_with_step"),
        ({"k": {"type": "int", "low": 1, "high": 4, "step": 0}}, "#/k/int/step", "step_not_positive"),
        ({"k": {"type": "int", "low": 1, "high": 4, "step": 9}}, "#/k/int/step", "step_above_range"),
        ({"lr": {"type": "float", "low": 1e-5, "high": 100.0, "step": 1e-320}}, "#/lr/float/step", "step_too_fine"),
        ({"lr": {"type": "float", "low": -1e308, "high": 1e308, "step": 1.0}}, "#/lr/float/step", "step_too_fine"),
        ({"k": {"type": "categorical", "choices": [1, 1]}}, "#/k/categorical/choices/1", "duplicate_choice"),
        ({"k": {"type": "categorical", "choices": []}}, "#/k/categorical/choices", "too_short"),
        ({"--lr": {"type": "int", "low": 1, "high": 4}}, "#/--lr", "invalid_name"),
        ({"m": {"type": "int", "low": 1, "high": 4, "when": {"o": ["sgd"]}}}, "#/m/when/o", "unknown_condition"),
        ({"o": SGD_OR_ADAM, "m": {"type": "int", "low": 1, "high": 4, "when": {"o": ["lion"]}}}, "#/m/when/o/0", "impossible_condition"),
        ({"o": SGD_OR_ADAM, "m": {"type": "int", "low": 1, "high": 4, "when": {"o": []}}}, "#/m/when/o", "empty_condition"),
        (
            {"f": {"type": "float", "low": 0, "high": 1}, "m": {"type": "int", "low": 1, "high": 4, "when": {"f": [0.5]}}},
            "#/m/when/f",
            "condition_on_float",
        ),
        (
            {"a": {"type": "int", "low": 1, "high": 2, "when": {"b": [1]}}, "b": {"type": "int", "low": 1, "high": 2, "when": {"a": [1]}}},
            "#/a/when",
            "circular_condition",
        ),
    ],
)
def test_a_fault_in_a_space_names_its_place(space: dict[str, object], pointer: str, code: str) -> None:
    assert (pointer, code) in pointers(space)


def test_a_space_has_at_most_64_parameters() -> None:
    one = {"type": "int", "low": 0, "high": 1}
    assert SearchSpace.model_validate({f"p{i}": one for i in range(64)})
    assert pointers({f"p{i}": one for i in range(65)}) == {("#/", "too_long")}


def test_parameters_come_after_those_that_their_conditions_name() -> None:
    space = SearchSpace.model_validate(
        {
            "c": {"type": "int", "low": 0, "high": 1, "when": {"b": [1]}},
            "b": {"type": "int", "low": 0, "high": 1, "when": {"a": ["x"]}},
            "a": {"type": "categorical", "choices": ["x", "y"]},
        }
    )
    assert list(space.parameters) == ["a", "b", "c"]
    assert space.active("b", {"a": "x"})
    assert not space.active("b", {"a": "y"})
    assert not space.active("c", {"a": "y"})


def test_an_assignment_is_checked_against_ranges_and_conditions() -> None:
    space = SearchSpace.model_validate(
        {
            "o": SGD_OR_ADAM,
            "m": {"type": "float", "low": 0, "high": 1, "when": {"o": ["sgd"]}},
            "k": {"type": "int", "low": 0, "high": 4, "step": 2},
        }
    )
    assert not list(space.faults_of({"o": "sgd", "m": 0.5, "k": 4}))
    assert not list(space.faults_of({"o": "adam", "k": 0}))
    faults = {(fault.pointer, fault.code) for fault in space.faults_of({"o": "adam", "m": 0.5, "k": 3, "z": 1})}
    assert faults == {("#/m", "inactive_parameter"), ("#/k", "out_of_range"), ("#/z", "unknown_parameter")}
    assert {fault.code for fault in space.faults_of({"o": "sgd", "k": 2})} == {"missing_parameter"}


def test_a_truth_value_is_no_number() -> None:
    assert not contains(Int(low=0, high=1), True)
    assert not contains(Categorical(choices=(1, 2)), True)
    assert contains(Categorical(choices=(True, 2)), True)


def test_the_number_of_values_is_exact() -> None:
    assert cardinality(Int(low=1, high=9, step=2)) == 5
    assert cardinality(Float(low=0.0, high=0.3, step=0.1)) == 4
    assert cardinality(Float(low=0.0, high=0.3)) is None


def test_a_fault_is_found_again_by_its_pointer() -> None:
    fault = Fault(("search_space", "a/b~1", "choices", 2), "code", "message")
    assert Fault.at(fault.pointer, "code", "message") == Fault(("search_space", "a/b~1", "choices", "2"), "code", "message")
    assert Fault.at("#", "code", "message").path == ()


def test_yaml_numbers_and_words_are_what_people_mean() -> None:
    document = from_yaml("{a: 1e-5, b: 1.0e-5, c: 1E3, d: no, e: on, f: true, g: 0123, h: ~, i: .5, j: none, k: 12:30}")
    assert document == {
        "a": 1e-5,
        "b": 1e-5,
        "c": 1e3,
        "d": "no",
        "e": "on",
        "f": True,
        "g": 123,
        "h": None,
        "i": 0.5,
        "j": "none",
        "k": "12:30",
    }


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("a: [", "malformed_yaml"),
        ("a: 1\na: 2", "duplicate_key"),
        ("a: &x [1]\nb: *x", "yaml_alias"),
        ("1: 2", "key_not_text"),
        ("a: !!python/object/apply:os.system [ls]", "yaml_tag"),
        ("[" * 40 + "]" * 40, "too_deep"),
    ],
)
def test_a_faulty_yaml_document_is_refused(text: str, code: str) -> None:
    with pytest.raises(Faulty) as caught:
        from_yaml(text)
    assert [fault.code for fault in caught.value.faults] == [code]


@pytest.mark.parametrize(("text", "code"), [("{", "malformed_json"), ('{"a":1,"a":2}', "duplicate_key"), ("[" * 100_000, "too_deep")])
def test_a_faulty_json_document_is_refused(text: str, code: str) -> None:
    with pytest.raises(Faulty) as caught:
        from_json(text)
    assert [fault.code for fault in caught.value.faults] == [code]


def test_brackets_inside_a_text_are_no_nesting() -> None:
    assert from_json('{"a": "[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[["}')["a"].startswith("[[")


def test_what_is_not_plain_is_named_with_its_place() -> None:
    document = from_json('{"a": [NaN, 1e999], "b": {"c": 9007199254740993}, "d": "x\\u0000", "e": "\\ud800", "f": "\\u202e"}')
    found = {(fault.pointer, fault.code) for fault in impurities(document)}
    assert found == {
        ("#/a/0", "not_finite"),
        ("#/a/1", "not_finite"),
        ("#/b/c", "too_large"),
        ("#/d", "invalid_text"),
        ("#/e", "invalid_text"),
        ("#/f", "invalid_text"),
    }


def test_a_number_of_five_thousand_digits_is_refused_cheaply() -> None:
    assert [fault.code for fault in impurities(from_json("9" * 5000))] == ["too_large"]
    assert [fault.code for fault in impurities(from_yaml("9" * 5000))] == ["too_large"]


def test_each_preset_is_a_space_with_a_header() -> None:
    assert "image_classification" in presets.names()
    for name in presets.names():
        preset = presets.load(name)
        assert len(SearchSpace.model_validate(preset.search_space).root) >= 3
        assert all((preset.summary, preset.cost, preset.expect))


def messages(read: Callable[[str], object], text: str) -> list[str]:
    with pytest.raises(Faulty) as caught:
        read(text)
    return [fault.message for fault in caught.value.faults]


def test_each_duplicate_key_is_named_with_its_lines() -> None:
    assert messages(from_yaml, "a: 1\nb:\n  lr: 1\n  c: 2\n  lr: 3\na: 4\n") == [
        "the key a appears twice in one mapping, in line 1 and in line 6; remove one",
        "the key lr appears twice in one mapping, in line 3 and in line 5; remove one",
    ]
    assert messages(from_json, '{"a": {"lr": 1, "b": 1, "lr": 2}}') == ["the key lr appears twice in one mapping; remove one"]


@pytest.mark.parametrize("text", ["a:\n\tb: 1\n", "a:\n  b: 1\n\tc: 2", "- a\n-\tb: 1\n  c: 1"])
def test_a_tab_in_yaml_is_named_with_its_line(text: str) -> None:
    (message,) = messages(from_yaml, text)
    assert re.search(r"there is a tab near line [23],", message)


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("lr", 0.5, "this takes a number (float) from 1e-05 to 0.1; a float outside of that was given; correct it"),
        ("lr", "0.01", "this takes a number (float) from 1e-05 to 0.1; a string was given; change its type"),
        ("epochs", 2.0, "this takes a whole number (int) from 2 to 8 in steps of 2; a float was given; change its type"),
        ("epochs", 3, "this takes a whole number (int) from 2 to 8 in steps of 2; an int outside of that was given; correct it"),
        ("o", "lion", 'this takes one of the choices "sgd", "adam"; a string outside of that was given; correct it'),
        ("o", True, 'this takes one of the choices "sgd", "adam"; a boolean was given; change its type'),
    ],
)
def test_a_value_out_of_range_is_answered_with_range_and_type(name: str, value: Scalar, message: str) -> None:
    space = SearchSpace.model_validate(
        {"o": SGD_OR_ADAM, "lr": {"type": "float", "low": 1e-5, "high": 0.1}, "epochs": {"type": "int", "low": 2, "high": 8, "step": 2}}
    )
    params: dict[str, Scalar] = {"o": "sgd", "lr": 0.01, "epochs": 2, name: value}
    (fault,) = space.faults_of(params)
    assert (fault.pointer, fault.message) == (f"#/{name}", message)


def test_words_for_truth_values_are_understood_where_a_truth_value_belongs() -> None:
    space = SearchSpace.model_validate(from_yaml("{lr: {type: float, low: 1e-5, high: 1e-1, log: yes}}"))
    assert space.root["lr"].model_dump(include={"low", "log"}) == {"low": 1e-5, "log": True}
