"""Webhooks: what receivers get, what they may answer, and where they may be."""

import io
import logging
import re
import socket
import ssl
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any

import pytest

from search_spaces import Fault
from service.cli.console import configure_logging
from service.domain.errors import InvalidInput
from service.domain.records import Event
from service.domain.states import EventKind
from service.outputs import webhooks
from service.outputs.configured import sinks_of
from service.outputs.following import EventBlock, EventRefused, Undelivered
from service.outputs.webhooks import DEFAULT_KINDS, MOST_BYTES, Target, Webhook, kinds_matching, payload, signature
from service.settings import Settings
from service.store import Store
from tests.outputs.receiver import Answer, receiving, wait_until, with_status
from tests.outputs.test_following import following
from tests.web.laboratory import Laboratory

SECRET = "correct-horse-battery-staple"
DOCS = (Path(__file__).resolve().parents[2] / "docs" / "monitoring.md").read_text()


def verifier() -> Callable[..., bool]:
    """The function of the documentation."""
    [source] = re.findall(r"```python\n(.*?)```", DOCS, re.DOTALL)
    names: dict[str, Any] = {}
    exec(source, names)  # noqa: S102  (our own documentation)
    found: Callable[..., bool] = names["verify"]
    return found


def block_of(*events: Event, name: str = "pets") -> EventBlock:
    return EventBlock("abcd", name, events[0].seq - 1, events)


def one_event(kind: str = "study_completed", seq: int = 7, **body: Any) -> Event:
    return Event(seq, kind, body, 1000.5)


@contextmanager
def webhook_to(store: Store, url: str, hosts: tuple[str, ...] = ()) -> Iterator[Webhook]:
    target = Target.parse(url, hosts)
    webhook = Webhook(store, target, SECRET if target.preset == "json" else None, DEFAULT_KINDS[target.preset])
    try:
        yield webhook
    finally:
        webhook.close()


def error_of(store: Store, url: str) -> str:
    """Why one event was not delivered."""
    with webhook_to(store, url) as webhook, pytest.raises(Undelivered) as raised:
        list(webhook.deliver(block_of(one_event())))
    return str(raised.value)


def test_a_receiver_verifies_the_events_of_a_study_by_the_documented_lines(lab: Laboratory, tmp_path: Path) -> None:
    (tmp_path / "secret").write_text(f"{SECRET}\n")
    verify = verifier()
    with receiving() as receiver:
        settings = Settings(home=tmp_path, webhooks=(receiver.url,), webhook_secret_file=tmp_path / "secret")
        with following(lab.store, *sinks_of(lab.store, settings)):
            study = lab.study("pets", budget={"trials": 1})
            claim = lab.claim()
            lab.report(claim, 1, accuracy=0.25)
            lab.finish(claim, 0.5)
            receiver.wait_for(4)
    assert [one.document["kind"] for one in receiver.requests] == ["study_created", "study_checked", "trial_completed", "study_completed"]
    ended = receiver.requests[2]
    assert ended.document["data"].items() >= {"number": 0, "state": "complete", "value": 0.5, "attempt": 1}.items()
    assert (ended.document["study"], ended.document["study_name"]) == (study.id, "pets")
    for one in receiver.requests:
        assert one.id == one.document["id"] == f"{study.id}-{one.document['seq']}"
        assert verify(SECRET, one.headers, one.body)
        assert not verify("another secret of 16 or more", one.headers, one.body)
        assert not verify(SECRET, one.headers, one.body + b" ")
        assert not verify(SECRET, {**one.headers, "webhook-id": "another-1"}, one.body)
        old = str(int(one.headers["webhook-timestamp"]) - 1000)
        signed = signature(SECRET, one.id, int(old), one.body)
        assert not verify(SECRET, {**one.headers, "webhook-timestamp": old, "webhook-signature": signed}, one.body)


def test_a_signature_is_that_of_the_specification() -> None:
    """The example of Standard Webhooks."""
    signed = signature("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", "msg_p5jXN8AQM9LWM0D4loKWxJek", 1614265330, b'{"test": 2432232314}')
    assert signed == "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="


def test_a_receiver_that_fails_for_a_while_gets_every_event_with_its_id(lab: Laboratory, tmp_path: Path) -> None:
    with receiving(with_status(500)) as receiver:
        settings = Settings(home=tmp_path, webhooks=(receiver.url,), webhook_secret=SECRET)
        with following(lab.store, *sinks_of(lab.store, settings)):
            lab.study("pets")
            lab.finish(lab.claim(), 0.5)
            wait_until(lambda: len(receiver.requests) >= 4)
            receiver.answer = with_status(200)
            receiver.wait_for(3)
    tried = receiver.ids
    assert len(set(tried[:4])) == 1  # the first one, in order, until it was delivered
    assert list(dict.fromkeys(tried)) == sorted(set(tried), key=lambda one: int(one.rpartition("-")[2]))
    assert len({one.body for one in receiver.requests if one.id == tried[0]}) == 1


@pytest.mark.parametrize(
    ("status", "kind", "message"),
    [
        (301, Undelivered, "127.0.0.1 answered 301; redirects are not followed"),
        (307, Undelivered, "127.0.0.1 answered 307; redirects are not followed"),
        (403, Undelivered, "127.0.0.1 answered 403"),
        (404, Undelivered, "127.0.0.1 answered 404"),
        (429, Undelivered, "127.0.0.1 answered 429"),
        (503, Undelivered, "127.0.0.1 answered 503"),
        (400, EventRefused, "127.0.0.1 answered 400"),
        (422, EventRefused, "127.0.0.1 answered 422"),
    ],
)
def test_answers_that_deliver_nothing(embedded_store: Store, status: int, kind: type[Undelivered], message: str) -> None:
    with receiving() as elsewhere, receiving(with_status(status, Location=elsewhere.url)) as receiver:
        with webhook_to(embedded_store, receiver.url) as webhook, pytest.raises(kind) as raised:
            list(webhook.deliver(block_of(one_event())))
        assert (type(raised.value), str(raised.value)) == (kind, message)
        assert len(receiver.requests) == 1 and elsewhere.requests == []


def hang(handler: BaseHTTPRequestHandler) -> None:
    time.sleep(30)


def drip(handler: BaseHTTPRequestHandler) -> None:
    """A head that never ends."""
    handler.wfile.write(b"HTTP/1.1 200 OK\r\nX-Drip: ")
    while True:
        handler.wfile.write(b"x")
        handler.wfile.flush()
        time.sleep(0.05)


@pytest.mark.parametrize("answer", [hang, drip])
def test_a_receiver_that_does_not_answer_is_given_up(embedded_store: Store, answer: Answer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(webhooks, "SECONDS", 0.5)
    with receiving(answer) as receiver:
        started_at = time.monotonic()
        assert error_of(embedded_store, receiver.url) == "127.0.0.1 did not answer within 0.5 s"
        assert time.monotonic() - started_at < 5


def test_a_body_of_the_answer_is_not_read(embedded_store: Store) -> None:
    def flood(handler: BaseHTTPRequestHandler) -> None:
        handler.send_response(200)
        handler.send_header("Content-Length", str(10**12))
        handler.end_headers()
        try:
            while True:
                handler.wfile.write(b"x" * 65536)
        except OSError:
            return

    with receiving(flood) as receiver, webhook_to(embedded_store, receiver.url) as webhook:
        assert [one.delivered for one in webhook.deliver(block_of(one_event()))] == [1]


def test_what_a_receiver_says_is_in_no_error(embedded_store: Store) -> None:
    def confess(handler: BaseHTTPRequestHandler) -> None:
        handler.wfile.write(b"HTTP/1.1 500 SECRET-OF-THE-NETWORK\r\nContent-Length: 6\r\n\r\nSECRET")

    def babble(handler: BaseHTTPRequestHandler) -> None:
        handler.wfile.write(b"SECRET-OF-THE-NETWORK\r\n\r\n")

    for answer, expected in ((confess, "127.0.0.1 answered 500"), (babble, "the connection to 127.0.0.1 failed (RemoteProtocolError)")):
        with receiving(answer) as receiver:
            assert error_of(embedded_store, receiver.url) == expected


def test_the_log_of_a_server_has_no_address_of_a_webhook(embedded_store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """T19: the address of a Slack webhook is a secret, and the HTTP client logs the address of each request."""
    monkeypatch.setattr(logging.getLogger(), "handlers", [])
    monkeypatch.setattr(logging.getLogger("httpx2"), "level", logging.NOTSET)
    written = io.StringIO()
    with receiving() as receiver, webhook_to(embedded_store, f"slack:{receiver.url}") as webhook:
        configure_logging(Settings(webhooks=(f"slack:{receiver.url}",), webhook_secret=SECRET), "server", written)
        list(webhook.deliver(block_of(one_event())))
        logging.getLogger("thawline.web").error("%s %s", receiver.url, SECRET)
        assert len(receiver.requests) == 1
    assert written.getvalue().count("***") == 2 and "secret-path" not in written.getvalue() and SECRET not in written.getvalue()


def test_a_closed_port_and_an_unknown_name(embedded_store: Store) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        assert error_of(embedded_store, f"http://127.0.0.1:{free.getsockname()[1]}/") == "127.0.0.1 cannot be reached"
    assert error_of(embedded_store, "https://nobody.invalid/") == "nobody.invalid has no address"


@pytest.mark.parametrize(
    "address",
    ["127.0.0.1", "10.1.2.3", "192.168.0.1", "172.16.0.1", "100.64.0.1", "169.254.169.254", "224.0.0.1",
     "0.0.0.0",  # noqa: S104  (an address to refuse)
     "::1", "fe80::1", "fc00::1",
     "::ffff:10.0.0.1", "64:ff9b::a00:1", "64:ff9b:1::a00:1", "fec0::1", "2002:a00:1::1"],
)  # fmt: skip
def test_a_name_with_an_address_in_a_private_network_is_refused(
    embedded_store: Store, address: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def resolve(host: str, *_: object, **__: object) -> list[Any]:
        found = ["93.184.216.34", address] if host == "hooks.example.org" else []  # one good address does not help
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (one, 443)) for one in found]

    monkeypatch.setattr(socket, "getaddrinfo", resolve)
    assert "has an address in a private network" in error_of(embedded_store, "https://hooks.example.org/")


def test_a_host_that_the_operator_named_may_be_private_but_never_link_local(monkeypatch: pytest.MonkeyPatch) -> None:
    addresses = ["10.1.2.3"]
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: [(2, 1, 6, "", (one, 80)) for one in addresses])
    target = Target.parse("http://hooks.intranet/x", ("hooks.intranet",))
    assert target.addresses() == addresses
    addresses[:] = ["169.254.169.254"]
    for one in (target, Target.parse("http://169.254.169.254/latest/meta-data", ())):
        with pytest.raises(Undelivered, match="private network"):
            one.addresses()


def test_the_request_goes_to_the_address_that_was_checked(embedded_store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """A name server that gives another address at a second look-up has no effect."""
    asked = list[str]()
    real = socket.getaddrinfo

    def resolve(host: Any, *rest: Any, **more: Any) -> Any:
        asked.append(str(host))
        return real("127.0.0.1" if host == "hooks.intranet" and len(asked) == 1 else host, *rest, **more)

    monkeypatch.setattr(socket, "getaddrinfo", resolve)
    with receiving() as receiver, webhook_to(embedded_store, f"http://hooks.intranet:{receiver.port}/x", ("hooks.intranet",)) as webhook:
        list(webhook.deliver(block_of(one_event())))
        assert receiver.requests[0].headers["host"] == f"hooks.intranet:{receiver.port}"
    assert asked.count("hooks.intranet") == 1


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A certificate of localhost and its key, in one file."""
    file = tmp_path_factory.mktemp("tls") / "localhost.pem"
    command = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=localhost"]
    options = ["-addext", "subjectAltName=DNS:localhost", "-keyout", str(file), "-out", f"{file}.crt"]
    subprocess.run([*command, *options], check=True, capture_output=True)
    file.write_text(file.read_text() + Path(f"{file}.crt").read_text())
    return file


def test_the_certificate_must_be_that_of_the_host(embedded_store: Store, certificate: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    with receiving(context=context) as receiver:
        trusted, other = (f"https://{host}:{receiver.port}/" for host in ("localhost", "127.0.0.1"))
        assert error_of(embedded_store, trusted) == "the TLS connection to localhost failed; check its certificate"
        monkeypatch.setenv("SSL_CERT_FILE", f"{certificate}.crt")
        assert error_of(embedded_store, other) == "the TLS connection to 127.0.0.1 failed; check its certificate"
        with webhook_to(embedded_store, trusted) as webhook:
            assert [one.delivered for one in webhook.deliver(block_of(one_event()))] == [1]


def test_large_event_data_is_cut() -> None:
    small, large = one_event(number=3, state="x"), one_event(number=3, state="x", detail="d" * 100_000, metrics={"a": [1] * 100_000})
    assert b'"cut"' not in payload(block_of(small), small)
    body = payload(block_of(large), large)
    assert len(body) <= MOST_BYTES and b'"data":{"number":3,"state":"x"},"cut":true' in body


def test_slack_gets_sentences_without_markup_of_others(lab: Laboratory, tmp_path: Path) -> None:
    with receiving() as receiver:
        settings = Settings(home=tmp_path, webhooks=(f"slack:{receiver.url}",))
        with following(lab.store, *sinks_of(lab.store, settings)):
            lab.study("<!channel> & co", budget={"trials": 2}, limits={"failures": 5})
            lab.finish(lab.claim(), 0.5)
            lab.fail(lab.claim())
            receiver.wait_for(3)
    assert [one.document for one in receiver.requests] == [
        {"text": "Study *&lt;!channel&gt; &amp; co*: created"},
        {"text": "Study *&lt;!channel&gt; &amp; co*, trial 1: failed (out_of_memory: the batch did not fit)"},
        {"text": "Study *&lt;!channel&gt; &amp; co*: completed. Best: trial 0, accuracy 0.5"},
    ]
    assert all("webhook-signature" not in one.headers for one in receiver.requests)


def test_kinds_are_chosen_by_patterns() -> None:
    assert kinds_matching(["trial_failed", "study_c*"]) == {
        EventKind.TRIAL_FAILED, EventKind.STUDY_CREATED, EventKind.STUDY_CHECKED, EventKind.STUDY_CONFIRMING, EventKind.STUDY_COMPLETED,
    }  # fmt: skip
    assert kinds_matching([]) == frozenset()


@pytest.mark.parametrize(
    ("given", "setting", "words"),
    [
        ({"webhooks": ("ftp://h/x",)}, "webhooks", "write https://host/path"),
        ({"webhooks": ("https://",)}, "webhooks", "write https://host/path"),
        ({"webhooks": ("https://[::1/x",)}, "webhooks", "write https://host/path"),
        ({"webhooks": ("https://h:99999/x",)}, "webhooks", "write https://host/path"),
        ({"webhooks": ("https://user:hunter22hunter22@h/x",)}, "webhooks", "the webhook to h has a password in its URL"),
        ({"webhooks": ("http://hooks.example.org/x",)}, "webhooks", "name it in THAW_WEBHOOK_HOSTS"),
        ({"webhooks": ("https://h/x", "https://h/x")}, "webhooks", "is given twice"),
        ({"webhooks": ("https://h/x",), "webhook_secret": None}, "webhook_secret", "openssl rand -hex 24"),
        ({"webhooks": ("https://h/x",), "webhook_secret": "short"}, "webhook_secret", "16 or more characters"),
        ({"webhooks": ("https://h/x",), "webhook_secret_file": Path("/nowhere/at/all")}, "webhook_secret_file", "cannot be read"),
        ({"webhooks": ("https://h/x",), "webhook_events": ("trail_*",)}, "webhook_events", "'trail_*' selects no event"),
    ],
)
def test_wrong_settings_are_refused_in_words(
    embedded_store: Store, tmp_path: Path, given: dict[str, Any], setting: str, words: str
) -> None:
    settings = Settings(home=tmp_path, **{"webhook_secret": SECRET, **given})
    with pytest.raises(InvalidInput) as raised:
        sinks_of(embedded_store, settings)
    (fault,) = raised.value.faults
    assert isinstance(fault, Fault) and fault.path == (setting,)
    assert words in fault.message and "hunter22" not in fault.message


def test_the_environment_has_lists(tmp_path: Path) -> None:
    variables = {
        "THAW_WEBHOOKS": "https://a/x slack:https://b/y",
        "THAW_WEBHOOK_EVENTS": "study_*, trial_failed",
        "THAW_WEBHOOK_HOSTS": "a",
    }
    settings = Settings.from_environment({"THAW_HOME": str(tmp_path), **variables})
    assert settings.webhooks == ("https://a/x", "slack:https://b/y")
    assert (settings.webhook_events, settings.webhook_hosts) == (("study_*", "trial_failed"), ("a",))
