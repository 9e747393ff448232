"""Config templates: where a value goes, with which type, and what is refused."""

import json
import tomllib
from typing import Any

import pytest
import yaml

from trainer.scripts.templates import TemplateError, render

VALUES: dict[str, bool | int | float | str | None] = {
    "lr": 1e-05,
    "optimizer.name": "adam", "layers": 3, "nesterov": True, "odd": 'a "b": {c} #d\'s\n', "none": None, "big": 1e16, "text": "5",
}  # fmt: skip


@pytest.mark.parametrize(
    ("written", "read"),
    [
        ("lr: {{lr}}", {"lr": 1e-05}),
        ("lr: {{ lr }}  # the rate", {"lr": 1e-05}),
        ('lr: "{{lr}}"', {"lr": 1e-05}),
        ("a: '{{nesterov}}'", {"a": True}),
        ("a: {{none}}", {"a": None}),
        ("a: {{big}}", {"a": 1e16}),
        ("a: {{text}}", {"a": "5"}),
        ("a: {{odd}}", {"a": VALUES["odd"]}),
        ('a: "x {{odd}}"', {"a": f"x {VALUES['odd']}"}),
        ("name: run-{{optimizer.name}}-{{layers}}", {"name": "run-adam-3"}),
        ('name: "{{optimizer.name}}{{layers}}"', {"name": "adam3"}),
        ("- {{lr}}\n- x: {{layers}}", [1e-05, {"x": 3}]),
        ("[{{layers}}, {{lr}}]", [3, 1e-05]),
        ("{{optimizer.name}}: {beta: {{lr}}}", {"adam": {"beta": 1e-05}}),
        ("a: |\n  n={{layers}}\n  {{layers}}\n", {"a": "n=3\n3\n"}),
        ("a: '{{{{ x }}}}'", {"a": "{{ x }}"}),
        ("a: 'it''s {{text}}'", {"a": "it's 5"}),
        ("on: yes\nb: 1e-4\n", {True: True, "b": "1e-4"}),
    ],
)
def test_a_whole_scalar_keeps_its_type_and_a_part_is_text(written: str, read: object) -> None:
    assert yaml.safe_load(render(written, VALUES, "run.yaml")) == read


@pytest.mark.parametrize(
    ("written", "read"),
    [
        ('{"a": {{lr}}, "b": "{{layers}}", "c": "n {{odd}}"}', {"a": 1e-05, "b": 3, "c": f"n {VALUES['odd']}"}),
        ('{"a":{{none}},"{{text}}":[{{nesterov}},{{odd}}]}', {"a": None, "5": [True, VALUES["odd"]]}),
    ],
)
def test_json(written: str, read: object) -> None:
    assert json.loads(render(written, VALUES, "run.json")) == read


def test_toml() -> None:
    written = "[train]\nlr = {{lr}}  # rate\nname = \"run {{odd}}\"\nlayers = [{{layers}}]\nraw = '{{optimizer.name}}'\n"
    assert tomllib.loads(render(written, VALUES, "run.toml")) == {
        "train": {"lr": 1e-05, "name": f"run {VALUES['odd']}", "layers": [3], "raw": "adam"}
    }


def test_what_is_not_a_placeholder_stays_as_it_is() -> None:
    text = "# Jérôme's file\nbase: &b {x: 1}\nother:\n  <<: *b\n  path: !include 'other.yaml'\n---\nlr: {{lr}}\n"
    assert render(text, VALUES, "run.yml") == text.replace("{{lr}}", "1.0e-05")


@pytest.mark.parametrize(
    ("file", "written", "message"),
    [
        (
            "a.yaml",
            "x: 1\ny: {{learning_rate}}",
            "a.yaml, line 2: there is no parameter 'learning_rate'; the parameters are big, layers, lr",
        ),
        ("a.yaml", "x: '{{ messages[0] }}'", "a.yaml, line 1: {{ begins no placeholder; write {{name}}, or {{{{ for two braces"),
        ("a.ini", "x = {{lr}}", "a.ini: a template becomes a .yaml, .yml, .json or .toml file; name it so"),
        ("a.toml", "x = {{none}}", "a.toml, line 1: none is null, which TOML cannot express"),
        ("a.json", '{"x": }', "a.json is not valid: "),
        ("a.yaml", "x: run {{odd}}", "put placeholders in quotes"),
        ("a.yaml", "x: |\n  {{odd}}\n", "put placeholders in quotes"),
        ("a.yaml", "x: [", "a.yaml is not valid: "),
    ],
)
def test_what_is_refused(file: str, written: str, message: str) -> None:
    with pytest.raises(TemplateError) as caught:
        render(written, VALUES, file)
    assert message in str(caught.value)


def test_rendering_a_large_template_takes_little_time() -> None:
    text = "".join(f"k{number}: {{{{lr}}}}\n" for number in range(2_000))
    read: dict[str, Any] = yaml.load(render(text, VALUES, "big.yaml"), getattr(yaml, "CSafeLoader", yaml.SafeLoader))  # noqa: S506
    assert len(read) == 2_000
