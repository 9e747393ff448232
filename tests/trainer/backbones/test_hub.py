"""A hub name is a snapshot of one commit, or an error with a remedy within a bounded time."""

import json
import socket
import threading
import time
import zlib
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import ClassVar

import pytest

from trainer.backbones import hub
from trainer.backbones.description import describe_folder
from trainer.backbones.hub import find, is_hub_name
from trainer.models import MissingWeights, WeightsUnavailable

NAME, COMMIT = "owner/tiny-bert", "0123456789abcdef0123456789abcdef01234567"


@pytest.fixture
def cache(text_extra: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The hub's cache, which is read from the environment when the library is imported."""
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True)
    return tmp_path / "hub"


class Hub(BaseHTTPRequestHandler):
    """A hub that has one model, the folder `model`."""

    model: ClassVar[Path]

    def do_GET(self) -> None:
        self.wfile.write(self.answer())

    def do_HEAD(self) -> None:
        self.answer()

    def answer(self) -> bytes:
        body = self.body(self.path.partition("?")[0])
        self.send_response(404 if body is None else 200)
        self.send_header("Content-Length", str(len(body or b"")))
        self.send_header("ETag", f'"{zlib.crc32(body or b""):x}"')
        self.send_header("X-Repo-Commit", COMMIT)
        if body is None:
            self.send_header("X-Error-Code", "RepoNotFound")
        self.end_headers()
        return body or b""

    def body(self, path: str) -> bytes | None:
        names = sorted(file.name for file in self.model.iterdir())
        if path.startswith(f"/api/models/{NAME}/tree/"):
            return json.dumps(
                [{"type": "file", "path": name, "size": (self.model / name).stat().st_size, "oid": name} for name in names]
            ).encode()
        if path in (f"/api/models/{NAME}", f"/api/models/{NAME}/revision/main", f"/api/models/{NAME}/revision/{COMMIT}"):
            return json.dumps({"id": NAME, "sha": COMMIT, "siblings": [{"rfilename": name} for name in names]}).encode()
        name = path.removeprefix(f"/{NAME}/resolve/{COMMIT}/").removeprefix(f"/{NAME}/resolve/main/")
        return (self.model / name).read_bytes() if name in names else None

    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.fixture
def endpoint(bert_folder: Callable[..., Path]) -> Iterator[str]:
    Hub.model = bert_folder()
    (Hub.model / "pytorch_model.bin").write_bytes(b"a pickle, which is not to be downloaded")
    with ThreadingHTTPServer(("127.0.0.1", 0), Hub) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


def closed() -> str:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return f"http://127.0.0.1:{server.getsockname()[1]}"


def test_a_local_folder_is_no_hub_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert is_hub_name(NAME) and not is_hub_name("/models/tiny") and not is_hub_name("a/b/c") and not is_hub_name("../up")
    (tmp_path / NAME).mkdir(parents=True)
    assert not is_hub_name(NAME)
    found = find(NAME)
    assert (found.folder, found.commit) == (Path(NAME), None)


def test_a_model_of_the_hub_is_downloaded_once_and_pinned_to_its_commit(endpoint: str, cache: Path) -> None:
    found = find(NAME, endpoint=endpoint)
    assert found.commit == COMMIT and found.folder.is_relative_to(cache)
    assert describe_folder(found.folder).stages == 3
    assert not (found.folder / "pytorch_model.bin").exists()
    assert find(NAME, COMMIT, endpoint=closed()) == found
    assert find(NAME, endpoint=closed()) == found


def test_an_incomplete_snapshot_is_not_used(endpoint: str, cache: Path) -> None:
    found = find(NAME, endpoint=endpoint)
    (found.folder / "model.safetensors").resolve().unlink()
    with pytest.raises(MissingWeights):
        find(NAME, COMMIT, endpoint=closed())


def test_a_name_or_a_revision_that_the_hub_does_not_have_is_an_error_of_the_study(endpoint: str, cache: Path) -> None:
    with pytest.raises(WeightsUnavailable, match=r"correct model\.name") as caught:
        find("owner/other", endpoint=endpoint)
    assert not isinstance(caught.value, MissingWeights)


def test_a_hub_that_cannot_be_reached_is_an_error_of_the_machine(cache: Path) -> None:
    with pytest.raises(MissingWeights, match=r"HF_HOME.*give its folder"):
        find(NAME, endpoint=closed())


def test_a_hub_that_does_not_answer_is_not_waited_for(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hub, "ANSWER_SECONDS", 1.0)
    with socket.create_server(("127.0.0.1", 0)) as server:
        began = time.monotonic()
        with pytest.raises(MissingWeights, match=r"within 1 seconds|timed out"):
            find(NAME, endpoint=f"http://127.0.0.1:{server.getsockname()[1]}")
        assert time.monotonic() - began < 10
