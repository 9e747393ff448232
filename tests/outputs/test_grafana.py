"""The Grafana dashboard and the table of metrics in the documentation name what /metrics exports."""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx2
import pytest
from prometheus_client.parser import text_string_to_metric_families

from service.store import Store, queries
from tests.outputs.receiver import wait_until
from tests.web.laboratory import Laboratory
from tests.web.server import running

DOCS = Path(__file__).resolve().parents[2] / "docs"
DASHBOARD: dict[str, Any] = json.loads((DOCS / "grafana" / "thawline.json").read_text())
NAME = re.compile(r"\bthawline_\w+")
SELECTOR = re.compile(r"\b(thawline_\w+)(?:\{([^}]*)\})?")


@pytest.fixture(scope="module")
def panels() -> list[dict[str, Any]]:
    return [one for one in DASHBOARD["panels"] if one["type"] != "row"]


@pytest.fixture
def scraped(embedded_store: Store, migrated_sqlite: str, tmp_path: Path) -> dict[str, set[str]]:
    """The labels of each exported series by its name, of a server with one study and one webhook."""
    lab = Laboratory(embedded_store)
    lab.study("digits")
    lab.finish(lab.claim(), 0.5)
    lab.fail(lab.claim())
    lab.claim()
    variables = {"THAW_DATABASE_URL": migrated_sqlite, "THAW_WEBHOOKS": "slack:http://127.0.0.1:9/hook"}
    with running(tmp_path, **variables) as server:
        wait_until(lambda: bool(embedded_store.read(queries.sinks)))
        httpx2.get(f"{server.address}/api/v1/studies")
        text = httpx2.get(f"{server.address}/metrics").text
    families = list(text_string_to_metric_families(text))
    found = {sample.name: set(sample.labels) for family in families for sample in family.samples}
    assert found["thawline_study_trials"] == {"study", "state"}
    # Devices have series only with a worker; the name of the family is exported.
    return {**{family.name: {"device"} for family in families if family.name == "thawline_devices"}, **found}


def expressions(panels: list[dict[str, Any]]) -> Iterator[tuple[str, str]]:
    for panel in panels:
        for target in panel["targets"]:
            yield target["expr"], target["legendFormat"]
    for variable in DASHBOARD["templating"]["list"]:
        if variable["type"] == "query":
            yield variable["definition"], ""


def test_every_expression_uses_exported_metrics_and_their_labels(panels: list[dict[str, Any]], scraped: dict[str, set[str]]) -> None:
    used = set[str]()
    for expression, legend in expressions(panels):
        names = NAME.findall(expression)
        assert names and set(names) <= set(scraped), expression
        used |= set(names)
        for name, matchers in SELECTOR.findall(expression):
            assert set(re.findall(r"(\w+)\s*=~?", matchers)) <= scraped[name], expression
        grouped = {label for some in re.findall(r"by \(([^)]*)\)", expression) for label in some.split(", ")}
        assert grouped <= {label for name in names for label in scraped[name]} | {"le"}, expression
        assert set(re.findall(r"{{(\w+)}}", legend)) <= grouped, expression
    assert len(used) > 20


def test_the_documentation_lists_exactly_the_exported_metrics(scraped: dict[str, set[str]]) -> None:
    chapter = (DOCS / "monitoring.md").read_text().partition("\n## Prometheus and Grafana\n")[2].partition("\n## ")[0]
    listed = {
        name: set(re.findall(r"`(\w+)`", labels))
        for name, labels in re.findall(r"^\| `(thawline_\w+)` \| ([^|]*)\|", chapter, re.MULTILINE)
    }
    exported = {
        re.sub(r"_(bucket|sum|count)$", "", name) if "_seconds_" in name else name: labels - {"le"} for name, labels in scraped.items()
    }
    assert listed == {name: labels for name, labels in exported.items() if not name.endswith("_created")}


def test_the_dashboard_is_one_that_grafana_imports(panels: list[dict[str, Any]]) -> None:
    assert (DASHBOARD["title"], DASHBOARD["uid"]) == ("Thawline", "thawline")
    ids = [one["id"] for one in DASHBOARD["panels"]]
    assert len(set(ids)) == len(ids)
    assert {one["type"] for one in panels} <= {"stat", "timeseries", "bargauge"}
    assert all(one["datasource"] == {"type": "prometheus", "uid": "${datasource}"} for one in panels)
    places = [(x, y) for one in DASHBOARD["panels"] for x, y in cells(**one["gridPos"])]
    assert len(set(places)) == len(places) and max(x for x, _ in places) == 23


def cells(x: int, y: int, w: int, h: int) -> Iterator[tuple[int, int]]:
    """The cells of the grid that a panel covers."""
    return ((column, row) for column in range(x, x + w) for row in range(y, y + h))
