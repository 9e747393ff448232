"""Studies of a task that the pages have no module for, and what the pages may not know of any task."""

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, expect

from service.web.pages import STATIC
from tests.web.server import Served, running

TASK = "forecasting"
METADATA = "Metadata-Version: 2.1\nName: thawline-forecasting\nVersion: 1\n"
OF_A_TASK = re.compile(r"\b(classe?s?|images?|pixels?|confus\w+)\b", re.IGNORECASE)
OF_THE_WEB = re.compile(
    r"\bclass(?=:|=)|^(export )?class (?=[A-Z]\w* )|image/(png|svg)", re.MULTILINE
)  # attributes, JavaScript's classes, formats


@pytest.mark.parametrize("file", sorted(STATIC.rglob("*.*")), ids=lambda file: file.relative_to(STATIC).as_posix())
def test_only_the_modules_of_tasks_speak_of_what_one_task_has(file: Path) -> None:
    if STATIC / "tasks" in file.parents:
        return
    text = OF_THE_WEB.sub("", file.read_text(encoding="utf-8"))
    assert OF_A_TASK.findall(text) == []


@pytest.fixture(scope="module")
def forecasts(tmp_path_factory: pytest.TempPathFactory, fresh_database: Path) -> Iterator[Served]:
    """A server on whose machine the task is installed as a package would install it, with a study of the task."""
    home, packages = tmp_path_factory.mktemp("forecasts"), tmp_path_factory.mktemp("packages")
    shutil.copy(fresh_database, home / "thawline.db")
    installed = packages / "thawline_forecasting-1.dist-info"
    installed.mkdir()
    (installed / "METADATA").write_text(METADATA)
    (installed / "entry_points.txt").write_text(f"[thawline.tasks]\n{TASK} = tests.web.forecasting\n")
    root = Path(__file__).parents[2]
    variables = {"PYTHONPATH": os.pathsep.join([str(packages), str(root)])}
    filling = [sys.executable, "-m", "tests.web.forecasting.fill"]
    subprocess.run(filling, env={**os.environ, "THAW_HOME": str(home), **variables}, check=True)
    with running(home, THAW_HEARTBEAT_SECONDS="60", **variables) as server:
        yield server


@pytest.fixture
def forecast_page(browser: Browser, forecasts: Served) -> Iterator[Page]:
    """A page of that server that has nothing on its console."""
    page = browser.new_page(base_url=forecasts.address)
    complaints: list[str] = []
    page.on("console", lambda message: complaints.append(message.text) if message.type in ("error", "warning") else None)
    page.on("pageerror", lambda error: complaints.append(str(error)))
    yield page
    page.close()
    assert complaints == []


@pytest.mark.browser
def test_a_study_with_values_below_0_is_drawn_in_plain_numbers(forecast_page: Page) -> None:
    page = forecast_page
    page.goto("/")
    expect(page.locator(".best .value")).to_have_text("0.25")
    page.goto("/studies/forecasts")
    expect(page.locator("html")).to_have_attribute("data-drawn", "yes")
    expect(page.locator("#figures")).to_contain_text("Best skill of the search0.25trial 1 · +2.75 over the baseline")
    expect(page.get_by_title("one run, on the validation sequences")).to_be_visible()
    expect(page.locator("#history")).to_have_attribute("aria-label", "skill of 3 complete trials; the best is 0.25, trial 1")
    expect(page.locator("#parallel-scale")).to_have_text("-2.50.25")
    expect(page.locator("#trials")).to_contain_text("-2.5")
    expect(page.locator("#facts")).to_contain_text("Sequences60 train, 20 validation, 25 test")
    page.locator("#metric").select_option("energy")
    expect(page.locator("#curves")).to_have_attribute("aria-label", "energy by epoch of 3 trials; the best one, trial 1, ended at 12.5")
    page.locator("#curves").focus()
    page.keyboard.press("Home")
    expect(page.locator(".tip")).to_contain_text("energy 12.5")


@pytest.mark.browser
def test_its_confirmation_has_plain_numbers_and_its_own_word_for_an_example(forecast_page: Page) -> None:
    page = forecast_page
    page.goto("/studies/forecasts")
    panel = page.get_by_role("region", name="Confirmation")
    expect(panel.locator("#confirmation-worth")).to_contain_text("Expected skill0.145")
    expect(panel.locator("#confirmation-worth")).to_contain_text("25 test sequences")
    expect(panel.locator(".arms-canvas svg").first).to_have_attribute("aria-label", re.compile("^skill on the test sequences"))
    expect(panel.locator(".arms-canvas .tick", has_text="%")).to_have_count(0)
    expect(panel.locator(".arms-canvas .tick", has_text="-")).not_to_have_count(0)
    expect(panel).not_to_contain_text(re.compile("image|%(?! interval)"))


@pytest.mark.browser
def test_a_trial_has_its_report_as_a_table(forecast_page: Page) -> None:
    page = forecast_page
    page.goto("/studies/forecasts/trials/0")
    report = page.get_by_role("region", name="Report", exact=True)
    expect(report.get_by_role("row")).to_have_text(["bias-1.5", "worst monthMay"])
    expect(page.locator("#figures")).to_contain_text("skill-2.52.75 below the best")
    expect(page.locator(".chart-group h3")).to_have_text(["skill", "energy (kWh)", "Loss"])
    expect(page.locator(".chart-group").first.locator(".tick").first).to_have_text(re.compile(r"^-\d"))
    page.goto("/studies/forecasts/trials/3")
    expect(page.locator("#scores-title")).to_have_text("Test sequences")
    expect(page.locator("#scores")).to_contain_text("on 25 sequences that no trial of the search has used")
    expect(page.locator("#scores")).to_contain_text("bias-1.75")


@pytest.mark.browser
def test_compared_trials_have_the_better_direction_of_each_metric(forecast_page: Page) -> None:
    page = forecast_page
    page.goto("/compare?trial=forecasts:0&trial=forecasts:1")
    results = page.locator("#results")
    expect(results.get_by_role("row", name="skill")).to_contain_text("★ 0.25")
    report = page.get_by_role("region", name="Report", exact=True)
    expect(report.first.get_by_role("row").nth(1)).to_have_text("bias-1.5-1.5")
    expect(page.locator("#cost")).to_contain_text("Sequences a second")


@pytest.mark.browser
def test_its_study_can_be_copied_into_the_form(forecast_page: Page) -> None:
    page = forecast_page
    page.goto("/new?from=forecasts")
    expect(page.get_by_label("Model", exact=True)).to_have_value("linear")
    expect(page.get_by_label("Objective")).to_contain_text("skill, higher is better")
    expect(page.locator("#verdict")).to_contain_text("Ready to create")
    page.get_by_role("tab", name="YAML or JSON").click()
    expect(page.get_by_label("The document in the format of")).to_have_value(re.compile("task: forecasting"))
