"""The studies in examples/ run as they are, with fewer and shorter trials: on one server, with one worker for all of them."""

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from tests.end_to_end.test_scripts import THAW, worker
from tests.examples.studies import EXAMPLES, GOOD_AND_POOR, document, own_home
from tests.serving import served
from thawline import Client


@pytest.fixture(scope="module")
def place(libraries: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    folder = tmp_path_factory.mktemp("examples")
    with own_home(folder):
        yield folder


@pytest.fixture(scope="module")
def client(place: Path) -> Iterator[Client]:
    """A client of a server with a worker that may run the examples."""
    with ExitStack() as stack:
        server = stack.enter_context(served(THAW, place / "home", workers=0))
        stack.enter_context(worker(place, "--allow-scripts", str(EXAMPLES)))
        yield stack.enter_context(Client(server))


@pytest.mark.parametrize(
    ("example", "changes"),
    [
        ("keras", {"name": "keras-on-jax", "environment": {"KERAS_BACKEND": "jax"}, "confirm": None}),
        ("pytorch", {}),
        ("lightning", {}),
        ("transformers", {}),
        ("yaml_config", {}),
    ],
    ids=["keras_on_jax", "pytorch", "lightning", "transformers", "yaml_config"],
)
def test_an_example_completes_a_trial_and_prunes_a_poor_one(client: Client, example: str, changes: dict[str, Any]) -> None:
    good, poor = GOOD_AND_POOR[example]
    pruner = {"name": "median", "n_startup_trials": 1, "n_warmup_steps": 2}
    study = client.create(document(example) | {"baseline": good, "budget": {"trials": 2}, "pruner": pruner} | changes)
    study.queue(poor)
    study.wait(900)
    trials = study.trials()
    assert [(one.state, dict(one.params)) for one in trials] == [("complete", good), ("pruned", poor)], study.trials()
    assert trials[0].step == document(example)["steps"] and trials[1].step < trials[0].step


def test_the_notebook_creates_watches_and_plots_a_study(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    import nbformat
    from nbclient import NotebookClient

    monkeypatch.setenv("THAW_SERVER", client.url)
    notebook = nbformat.read(EXAMPLES / "notebook.ipynb", as_version=4)
    assert all(not cell.get("outputs") for cell in notebook.cells)
    NotebookClient(notebook, timeout=900, resources={"metadata": {"path": str(EXAMPLES)}}).execute()
    outputs = {cell["id"]: cell["outputs"] for cell in notebook.cells if cell.cell_type == "code"}
    assert ["".join(output["text"] for output in outputs["events"])] == ["".join(f"trial {number} is complete\n" for number in range(3))]
    assert outputs["best"][0]["text"].startswith("trial ")
    assert "params.hidden" in outputs["table"][0]["data"]["text/html"]
    drawn = outputs["plot"][0]["data"]["application/vnd.plotly.v1+json"]
    assert len(drawn["data"][0]["x"]) == 3
