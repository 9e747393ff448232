"""The settings: what cannot work is refused at the start, with what to write instead."""

import os

import pytest

from service.domain.errors import InvalidInput
from service.settings import Settings


def refusal(variable: str, text: str) -> str:
    with pytest.raises(InvalidInput) as caught:
        Settings.from_environment({variable: text})
    [fault] = caught.value.faults
    assert fault.code == "invalid_setting" and fault.message.startswith(f"{variable}: ")
    return fault.message


@pytest.mark.parametrize(
    "text",
    ["*", "*.example", "http://lab.example", "lab.example/thaw", "lab.example:http", "lab.example:0", "lab.example:70000", "::1", "0.0.0.0",  # noqa: S104
     "0.0.0.0:8000", "[::]", "lab example", "löb.example", ".example", "lab.example.", "a,b/c", "lab.example:", "[::1", "'lab'"],
)  # fmt: skip
def test_a_host_that_can_match_no_request_is_refused(text: str) -> None:
    assert "write lab.example, or lab.example:8443 for one port" in refusal("THAW_HOSTS", text)


def test_hosts_are_names_addresses_and_ports() -> None:
    hosts = Settings.from_environment({"THAW_HOSTS": "lab.example, LAB:8443,10.0.0.1,[::1]:80,[fe80::1],xn--lb-fka.example,a_b"}).hosts
    assert hosts == ("lab.example", "lab:8443", "10.0.0.1", "[::1]:80", "[fe80::1]", "xn--lb-fka.example", "a_b")


@pytest.mark.parametrize(
    "text", ["x" * 15, "x" * 16 + "\n", " " + "x" * 16, "pass word with spaces", "ö" * 20, "x" * 20 + "\t", "x" * 16 + "\u200b"]
)
def test_a_token_that_can_never_match_is_refused(text: str) -> None:
    message = refusal("THAW_TOKEN", text)
    assert "openssl rand -hex 24" in message and text.strip() not in message


@pytest.mark.parametrize(
    "text", ["thaw", "//thaw", "/thaw/../x", "http://lab.example/thaw", "/thaw?x", "/a b", "/studies", "/api", "/<x>", '/"x']
)
def test_a_prefix_that_cannot_be_told_from_a_path_is_refused(text: str) -> None:
    assert "THAW_ROOT_PATH" in refusal("THAW_ROOT_PATH", text)


def test_a_prefix_has_no_slash_at_its_end() -> None:
    assert [Settings.from_environment({"THAW_ROOT_PATH": text}).root_path for text in ("/", "/thaw/", "/user/a%40b/proxy/8000/")] == [
        "", "/thaw", "/user/a%40b/proxy/8000",
    ]  # fmt: skip


def test_data_roots_are_folders_as_in_path(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/ann")
    roots = Settings.from_environment({"THAW_DATA_ROOTS": os.pathsep.join(["/data", "~/images", ""])}).data_roots
    assert [str(root) for root in roots] == ["/data", "/home/ann/images"]
