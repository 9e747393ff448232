"""What changed since an event, in one answer."""

import pytest
from starlette.testclient import TestClient

from tests.web.laboratory import Laboratory
from tests.web.problem import assert_problem

STUDY = "/api/v1/studies/digits"


def test_only_the_trials_that_changed_come_with_the_study_as_it_stands(client: TestClient, lab: Laboratory) -> None:
    lab.study()
    first, second = lab.claim(), lab.claim()
    everything = client.get(f"{STUDY}/changes").json()
    assert [trial["number"] for trial in everything["trials"]] == [0, 1] and not everything["more"]
    lab.finish(first, 0.9)
    changes = client.get(f"{STUDY}/changes", params={"after": everything["seq"]}).json()
    whole = client.get(STUDY).json()
    assert (
        whole.pop("facts")
        and whole.pop("sizes") == {"train": 60, "validation": 20, "test": 20}
        and whole.pop("notes") == []
        and whole.pop("majority") is None
        and changes["study"] == whole
        and changes["seq"] == changes["study"]["seq"]
    )
    alone = client.get(f"{STUDY}/trials/0").json()
    assert len(alone.pop("attempts")) == 1 and alone.pop("checkpoints") == []  # which no list of trials tells
    for large in ("confusion_matrix", "per_class_recall"):
        assert alone["result"].pop(large)
    assert changes["trials"] == [alone]
    assert client.get(f"{STUDY}/changes", params={"after": changes["seq"]}).json()["trials"] == []
    lab.report(second, 1, accuracy=0.1)
    assert [trial["number"] for trial in client.get(f"{STUDY}/changes", params={"after": changes["seq"]}).json()["trials"]] == [1]


def test_pages_of_changes_leave_none_out_and_end_at_the_last_event(client: TestClient, lab: Laboratory) -> None:
    claims = lab.shared_pass("digits", 300)
    before = client.get(STUDY).json()["seq"]
    lab.finish_all(claims, 0.9)
    numbers, after, more = [], before, True
    while more:
        page = client.get(f"{STUDY}/changes", params={"after": after, "limit": 128}).json()
        numbers += [trial["number"] for trial in page["trials"]]
        after, more = page["seq"], page["more"]
    assert sorted(numbers) == list(range(300))
    assert after == client.get(STUDY).json()["seq"] and page["study"]["state"] == "complete"


@pytest.mark.parametrize("query", ["after=-1", "after=x", "limit=501"])
def test_a_wrong_query_is_a_fault(client: TestClient, lab: Laboratory, query: str) -> None:
    lab.study()
    assert_problem(client.get(f"{STUDY}/changes?{query}"), 422, "validation")
