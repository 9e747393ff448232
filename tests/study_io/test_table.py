"""A study as a table."""

import csv
import io

import pytest

from service import operations
from service.store import Store
from service.study_io.export import _harmless, rows
from tests.study_io.luggage import confirmed_study, exported, mixed_study


def table(store: Store, study_id: str) -> list[dict[str, str]]:
    text = "".join(rows(io.BytesIO(exported(store, operations.stop_study(store, study_id)))))
    assert text.endswith("\r\n")
    return list(csv.DictReader(io.StringIO(text, newline="")))


def test_a_row_a_trial_with_its_parameters_and_last_metrics(embedded_store: Store) -> None:
    study = mixed_study(embedded_store)
    found = table(embedded_store, study.id)
    assert list(found[0]) == [
        "number", "state", "value", "params.lr", "params.optimizer", "params.momentum", "metrics.accuracy", "metrics.loss", "metrics.lr",
        "step", "source", "confirms", "round", "reason", "queued_at", "started_at", "finished_at",
    ]  # fmt: skip
    assert [row["number"] for row in found] == [str(number) for number in range(study.created)]
    assert (found[0]["value"], found[0]["params.lr"], found[0]["params.momentum"], found[0]["source"]) == ("0.91", "0.001", "", "baseline")
    assert (found[1]["reason"], found[1]["metrics.loss"]) == ("diverged", "nan")
    assert found[0]["finished_at"].endswith("Z")


def test_trials_of_the_confirmation_say_so(embedded_store: Store) -> None:
    found = table(embedded_store, confirmed_study(embedded_store).id)
    assert {row["source"] for row in found if row["round"]} == {"confirmation"}


@pytest.mark.parametrize("text", ["=1+1", "+1", "-1", "@SUM(A1)", "\tx", "\rx"])
def test_a_text_that_a_spreadsheet_would_run_is_made_harmless(text: str) -> None:
    assert _harmless(text) == f"'{text}"


def test_numbers_stay_numbers() -> None:
    assert [_harmless(cell) for cell in (-1, -0.5, None, "a=b")] == [-1, -0.5, None, "a=b"]
