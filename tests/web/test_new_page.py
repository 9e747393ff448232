"""A study made in the browser: in the form, from a text, or after another one; faults stand where they belong."""

import re

import pytest
from playwright.sync_api import Page, Route, expect

from service.store import queries
from tests.web.laboratory import Laboratory

pytestmark = pytest.mark.browser

HOSTILE = "<img src=x onerror=alert(3)>"
YAML = """\
name: pasted
data: {path: /data/digits, location: workers}
model: {name: squeezenet1_1}
search_space:
  lr: {type: float, low: 0.01, high: 0.03, step: 0.01}  # three of them
  optimizer: {type: categorical, choices: [sgd, adam]}
objective: {metric: loss, direction: minimize}
budget: {trials: 6}
"""


def fill_in(page: Page, name: str) -> None:
    page.get_by_label("Name", exact=True).fill(name)
    page.get_by_label("Path of the data").fill("/data/digits")
    page.get_by_label("Location").select_option("accessible to workers only")


def test_a_study_is_made_in_the_form_with_each_fault_at_its_field(page: Page, live_lab: Laboratory) -> None:
    live_lab.study("taken")
    page.goto("/new")
    expect(page.locator("#verdict")).to_contain_text("data / path: this field is required; add it")
    fill_in(page, "taken")
    page.get_by_label("Path of the data").focus()
    name = page.locator('[data-pointer="#/name"]')
    expect(name).to_contain_text(
        "another study has this name; choose another name, or delete that study; with replace: true, a new study takes"
    )
    expect(page.get_by_label("Name", exact=True)).to_have_attribute("aria-invalid", "true")
    page.get_by_label("Name", exact=True).fill("made-in-the-form")
    expect(page.locator("#verdict")).to_contain_text("Ready to create")
    page.get_by_role("button", name="Change lr").click()
    row = page.get_by_role("group", name="lr")
    row.get_by_label("Low").fill("3")
    expect(page.locator("#verdict")).to_contain_text("low is above high")
    page.get_by_role("button", name="Create the study").click()
    expect(row.get_by_label("Low")).to_be_focused()
    expect(row).to_contain_text("low is above high; exchange them")
    row.get_by_label("Low").fill("1e-4")
    page.get_by_label("Fix a value").select_option("image_size")
    page.get_by_label("image_size", exact=True).fill("64")
    page.get_by_role("button", name="Create the study").click()
    expect(page).to_have_url(re.compile("/studies/made-in-the-form$"))
    spec = live_lab.store.read(queries.find_study, "made-in-the-form").spec
    assert spec.search_space.root["lr"].model_dump()["low"] == 1e-4
    assert (spec.preset, spec.fixed["image_size"], spec.pruner.name) == ("image_classification", 64, "asha")
    assert spec.baseline is not None and spec.baseline["lr"] == 1e-3


def test_a_model_that_is_looked_up_does_not_take_the_place_of_what_is_being_typed(page: Page) -> None:
    asked: list[Route] = []
    page.route("**/models/squeezenet1_1", lambda route: asked.append(route))
    page.goto("/new")
    page.get_by_label("Model", exact=True).select_option("squeezenet1_1")
    share = page.get_by_label("Test share", exact=True)
    share.fill("")
    share.press_sequentially("05")
    share.press("ArrowLeft")
    share.press_sequentially(".")  # 0. before the 5
    share.evaluate("(node) => node.classList.add('before')")
    assert asked
    for route in asked:
        route.continue_()
    expect(page.locator(".before")).to_have_count(0)  # the form was drawn again
    expect(share).to_be_focused()
    page.keyboard.type("1")
    expect(share).to_have_value("0.15")
    page.get_by_role("tab", name="YAML or JSON").click()
    expect(page.get_by_label("The document in the format of")).to_have_value(re.compile(r"test: 0\.15"))


def test_a_pasted_text_is_checked_shown_in_the_form_and_outlives_a_reload(page: Page, live_lab: Laboratory) -> None:
    page.goto("/new")
    page.get_by_role("tab", name="YAML or JSON").click()
    text = page.get_by_label("The document in the format of")
    expect(text).to_have_value(re.compile("preset: image_classification"))
    text.fill(YAML + "bogus: [")
    expect(page.locator("#verdict")).to_contain_text("not valid YAML near line 9")
    text.fill(YAML)
    expect(page.locator("#verdict")).to_contain_text("6 configurations")
    page.reload()
    expect(text).to_have_value(YAML)
    page.get_by_role("tab", name="Form").click()
    expect(page.get_by_role("group", name="lr").get_by_label("Step")).to_have_value("0.01")
    expect(page.get_by_label("Objective")).to_have_value("loss, lower is better")
    page.get_by_label("Trials", exact=True).fill("five")
    expect(page.locator("#verdict")).to_contain_text("budget / trials")
    page.get_by_role("tab", name="YAML or JSON").click()
    expect(text).to_have_value(re.compile(r"budget: \{trials: five\}"))
    text.fill(YAML)
    page.get_by_role("button", name="Create the study").click()
    expect(page).to_have_url(re.compile("/studies/pasted$"))
    assert live_lab.store.read(queries.find_study, "pasted").spec.budget.trials == 6


@pytest.mark.parametrize(("name", "fixed"), [("origin", {"precision": "auto"}), ("of-an-earlier-version", {})])
def test_a_copy_begins_with_the_other_study_and_differs_in_its_name_alone(
    page: Page, live_lab: Laboratory, name: str, fixed: dict[str, str]
) -> None:
    conditional = {
        "optimizer": {"type": "categorical", "choices": ["sgd", "adam"]},
        "momentum": {"type": "float", "low": 0.0, "high": 0.9, "when": {"optimizer": ["sgd"]}},
    }
    origin = live_lab.study(
        name, search_space=conditional, baseline={"optimizer": "sgd", "momentum": 0.5}, limits={"minutes": 5},
        sampler={"name": "tpe", "seed": 7, "group": True}, pruner={"name": "patient", "patience": 2, "wrapped": {"name": "median"}},
        fixed=fixed,
    )  # fmt: skip
    page.goto(f"/new?from={origin.id}")
    page.get_by_role("button", name="Create the study").click()
    expect(page).to_have_url(re.compile(f"/studies/{name}-copy$"))
    copy = live_lab.store.read(queries.find_study, f"{name}-copy").spec
    stated = origin.spec.model_copy(update={"fixed": {"precision": "float32", **origin.spec.fixed}})  # as studies without one trained
    assert copy.model_copy(update={"name": name}) == stated


def test_the_presets_of_the_task_alone_are_offered(page: Page) -> None:
    page.goto("/new?task=text_classification")
    expect(page.get_by_label("Preset").locator("option")).to_contain_text(["none", "text_classification:", "text_head:", "text_lora:"])


def test_hostile_names_stay_text_in_the_form(page: Page) -> None:
    page.goto("/new")
    page.get_by_role("tab", name="YAML or JSON").click()
    page.get_by_label("The document in the format of").fill(
        f'name: "{HOSTILE}"\nsearch_space: {{"{HOSTILE}": {{type: float, low: 0, high: 1}}, __proto__: {{type: int, low: 1}}}}\n'
    )
    page.get_by_role("tab", name="Form").click()
    expect(page.get_by_role("group", name=HOSTILE)).to_be_visible()
    expect(page.get_by_role("group", name="__proto__")).to_contain_text("the trainer has no such parameter")
    expect(page.get_by_label("Name", exact=True)).to_have_value(HOSTILE)
    assert page.locator("img[src=x]").count() == 0


SWEEP = """\
name: from-a-sweep
data: {path: /data/digits, location: workers}
model: squeezenet1_1
method: random
metric: {name: val_accuracy, goal: maximize}
parameters:
  learning_rate: {distribution: log_uniform_values, min: 1e-5, max: 1e-1}
  optimizer: {values: [adam, sgd]}
run_cap: 20
"""


def test_a_sweep_of_another_tool_is_answered_with_the_lines_to_write(page: Page, live_lab: Laboratory) -> None:
    page.goto("/new")
    page.get_by_role("tab", name="YAML or JSON").click()
    page.locator("#text").fill(SWEEP)
    faults = page.locator("#verdict .fault-list li")
    expect(faults).to_have_count(5)
    lines = page.locator("#verdict code").all_text_contents()
    assert (
        "search_space: {lr: {type: float, low: 1.0e-05, high: 0.1, log: true}, optimizer: {type: categorical, choices: [adam, sgd]}}"
        in lines
    )
    kept = [line for line in SWEEP.splitlines() if line.startswith(("name", "data"))]
    page.locator("#text").fill("\n".join([*kept, *lines, "pruner: {name: asha, min_steps: 9}", ""]))
    expect(page.locator("#verdict")).to_contain_text("Ready to create")
    expect(page.locator("#verdict .notices")).to_contain_text("pruner: the pruner never acts")
