"""Webhooks: events as signed POST requests, or as messages for Slack. docs/monitoring.md describes them for receivers."""

import asyncio
import base64
import hashlib
import hmac
import ipaddress
import json
import re
import socket
import ssl
import time
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any, ClassVar, Literal
from urllib.parse import urlsplit

import httpx2

from service.domain.errors import StudyNotFound, StudyUnreadable
from service.domain.records import Event, SinkProgress
from service.domain.states import EventKind
from service.outputs.following import EventBlock, EventRefused, Undelivered
from service.store import Store, queries

SECONDS = 10.0  # for a whole request and its answer
MOST_BYTES = 64 * 1024  # of a body; larger event data is cut
SHORTEST_SECRET = 16  # characters
STANDARD = "whsec_"  # prefix of a secret in base64, as in the specification Standard Webhooks
REFUSALS = frozenset({400, 409, 413, 415, 422})  # answers about this event; every other answer is about the receiver
HOST = re.compile(r"[a-z0-9._:-]{1,253}\Z")
INNER = tuple(map(ipaddress.ip_network, ("64:ff9b::/96", "64:ff9b:1::/48", "2002::/16", "fec0::/10")))
"""IPv6 networks that contain IPv4 addresses or are a site's own, and that Python counts as global."""

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
Preset = Literal["json", "slack"]

FREQUENT = (EventKind.TRIAL_QUEUED, EventKind.TRIAL_STARTED, EventKind.TRIAL_REPORTED, EventKind.TRIAL_SAVED, EventKind.TRIAL_LOGGED)
DEFAULT_KINDS: Mapping[Preset, frozenset[EventKind]] = {
    "json": frozenset(EventKind) - frozenset(FREQUENT),
    "slack": frozenset(
        {
            EventKind.STUDY_CREATED, EventKind.STUDY_CONFIRMING, EventKind.STUDY_COMPLETED, EventKind.STUDY_FAILED,
            EventKind.STUDY_STOPPED, EventKind.STUDY_UNAVAILABLE, EventKind.TRIAL_FAILED,
        }
    ),
}  # fmt: skip


def kinds_matching(patterns: Collection[str]) -> frozenset[EventKind]:
    """The event kinds that the patterns select, such as `study_*`. Raises ValueError for a pattern that selects none."""
    found = {pattern: {kind for kind in EventKind if fnmatchcase(kind, pattern)} for pattern in patterns}
    if unused := [pattern for pattern, kinds in found.items() if not kinds]:
        raise ValueError(f"{unused[0]!r} selects no event; write kinds such as study_completed or trial_*, separated by commas")
    return frozenset().union(*found.values())


@dataclass(frozen=True, slots=True)
class Target:
    """Where a webhook is sent."""

    url: str
    preset: Preset
    host: str
    trusted: bool  # whether private addresses and plain http are allowed: the operator wrote the address, or named the host

    @classmethod
    def parse(cls, text: str, private_hosts: Collection[str]) -> "Target":
        """The target of `URL` or `slack:URL`. Raises ValueError, whose message does not contain the URL, which may be a secret."""
        preset: Preset = "slack" if text.startswith("slack:") else "json"
        url = text.removeprefix("slack:")
        try:
            parts = urlsplit(url)
            host, _ = (parts.hostname or "").rstrip("."), parts.port
        except ValueError:
            raise ValueError("a webhook is not a URL; write https://host/path, or slack:https://host/path") from None
        if parts.scheme not in ("http", "https") or not HOST.match(host):
            raise ValueError("a webhook is not a URL; write https://host/path, or slack:https://host/path")
        if parts.username is not None or parts.password is not None:
            raise ValueError(f"the webhook to {host} has a password in its URL; the signature authenticates the sender, so remove it")
        trusted = host == "localhost" or host in private_hosts or _literal(host) is not None
        if parts.scheme == "http" and not trusted:
            raise ValueError(f"the webhook to {host} must use https; for a host of your own network, name it in THAW_WEBHOOK_HOSTS")
        return cls(url, preset, host, trusted)

    @property
    def name(self) -> str:
        """A name for logs and metrics, without the path, which may be a secret."""
        return f"webhook:{self.host[:40]}:{hashlib.sha256(self.url.encode()).hexdigest()[:8]}"

    def addresses(self) -> list[str]:
        """The addresses of the host. Raises Undelivered if it has none, or one that no webhook may reach."""
        parts = urlsplit(self.url)
        try:
            found = socket.getaddrinfo(self.host, parts.port or parts.scheme, type=socket.SOCK_STREAM)
        except OSError:
            raise Undelivered(f"{self.host} has no address") from None
        addresses = list(dict.fromkeys(str(entry[4][0]) for entry in found))
        if not all(_permitted(ipaddress.ip_address(one.partition("%")[0]), self.trusted) for one in addresses):
            raise Undelivered(f"{self.host} has an address in a private network; if that is intended, name it in THAW_WEBHOOK_HOSTS")
        return addresses


def _literal(host: str) -> Address | None:
    try:
        return ipaddress.ip_address(host)
    except ValueError:
        return None


def _permitted(address: Address, trusted: bool) -> bool:
    """Whether a webhook may connect to it. Link-local addresses, among them the metadata services of clouds, are never permitted."""
    if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped is not None:
        address = address.ipv4_mapped
    if address.is_link_local or address.is_multicast or address.is_unspecified:
        return False
    return trusted or (address.is_global and not any(address in network for network in INNER if network.version == address.version))


def signature(secret: str, event_id: str, timestamp: int, body: bytes) -> str:
    """The value of the header `webhook-signature`, as in the specification Standard Webhooks: HMAC-SHA256 of id, time and body."""
    key = base64.b64decode(secret.removeprefix(STANDARD)) if secret.startswith(STANDARD) else secret.encode()
    signed = b".".join((event_id.encode(), str(timestamp).encode(), body))
    return "v1," + base64.b64encode(hmac.digest(key, signed, "sha256")).decode()


def payload(block: EventBlock, event: Event) -> bytes:
    """The body of a webhook, at most `MOST_BYTES`: without the long parts of the event's data if those are too large."""
    document = {
        "id": f"{block.study}-{event.seq}", "kind": event.kind, "at": event.at,
        "study": block.study, "study_name": block.name, "seq": event.seq, "data": dict(event.body),
    }  # fmt: skip
    body = _encoded(document)
    if len(body) > MOST_BYTES:
        short = {name: value for name, value in event.body.items() if len(_encoded(value)) <= MOST_BYTES // 64}
        body = _encoded({**document, "data": short, "cut": True})
    return body


def _encoded(document: Any) -> bytes:
    return json.dumps(document, separators=(",", ":"), allow_nan=False).encode()


class Webhook:
    """Sends each event in a request of its own. Redirects are not followed, and of an answer only the status is read."""

    from_start: ClassVar[bool] = False

    def __init__(
        self, store: Store, target: Target, secret: str | None, kinds: Collection[EventKind], clock: Callable[[], float] = time.time
    ) -> None:
        self._store = store
        self._target = target
        self._secret = secret
        self._kinds = frozenset(map(str, kinds))
        self._clock = clock
        self._runner = asyncio.Runner()
        self._http: httpx2.AsyncClient | None = None

    @property
    def name(self) -> str:
        return self._target.name

    def deliver(self, block: EventBlock) -> Iterator[SinkProgress]:
        for event in block.events:
            if event.kind in self._kinds:
                self._send(block, event)
                yield SinkProgress(block.study, event.seq, 1)
        if block.events[-1].kind not in self._kinds:
            yield SinkProgress(block.study, block.events[-1].seq)

    def close(self) -> None:
        if self._http is not None:
            self._runner.run(self._http.aclose())
        self._runner.close()

    def _send(self, block: EventBlock, event: Event) -> None:
        body = payload(block, event) if self._target.preset == "json" else _encoded({"text": self._sentence(block, event)})
        event_id, timestamp = f"{block.study}-{event.seq}", int(self._clock())
        headers = {
            "Content-Type": "application/json",
            "User-Agent": "Thawline",
            "webhook-id": event_id,
            "webhook-timestamp": str(timestamp),
        }
        if self._secret is not None:
            headers["webhook-signature"] = signature(self._secret, event_id, timestamp, body)
        status = self._post(body, headers)
        if status in REFUSALS:
            raise EventRefused(event.seq, f"{self._target.host} answered {status}")
        if not 200 <= status < 300:
            redirects = "; redirects are not followed" if 300 <= status < 400 else ""
            raise Undelivered(f"{self._target.host} answered {status}{redirects}")

    def _post(self, body: bytes, headers: Mapping[str, str]) -> int:
        """The status of the answer. Raises Undelivered, without the text of an error, which may have been made by the receiver."""
        *others, last = self._target.addresses()
        host = self._target.host
        try:
            for address in others:
                with suppress(httpx2.ConnectError):
                    return self._runner.run(self._request(address, body, headers))
            return self._runner.run(self._request(last, body, headers))
        except (TimeoutError, httpx2.TimeoutException):
            raise Undelivered(f"{host} did not answer within {SECONDS:g} s") from None
        except httpx2.ConnectError as error:
            if _is_of_tls(error):
                raise Undelivered(f"the TLS connection to {host} failed; check its certificate") from None
            raise Undelivered(f"{host} cannot be reached") from None
        except httpx2.HTTPError as error:
            raise Undelivered(f"the connection to {host} failed ({type(error).__name__})") from None

    async def _request(self, address: str, body: bytes, headers: Mapping[str, str]) -> int:
        if self._http is None:  # it reads certificates, which takes longer than a request; trust_env: a proxy would resolve the name again
            context = ssl.create_default_context()
            self._http = httpx2.AsyncClient(verify=context, timeout=SECONDS, follow_redirects=False, trust_env=False)
        url = httpx2.URL(self._target.url)
        # The request goes to the address that was checked: a second look-up could give another one.
        pinned = {"Host": url.netloc.decode(), **headers}
        async with (
            asyncio.timeout(SECONDS),
            self._http.stream(
                "POST", url.copy_with(host=address), content=body, headers=pinned, extensions={"sni_hostname": self._target.host}
            ) as answer,
        ):
            return answer.status_code

    def _sentence(self, block: EventBlock, event: Event) -> str:
        """The event as a message for Slack. Its control characters &, < and > are escaped."""
        subject = f"Study *{_escaped(block.name)}*"
        if "number" in event.body:
            subject += f", trial {event.body['number']}"
        words = event.kind.partition("_")[2].replace("_", " ")
        because = event.body.get("reason")
        if because and event.body.get("detail"):
            because = f"{because}: {event.body['detail']}"
        reason = f" ({_escaped(str(because)[:500])})" if because else ""
        return f"{subject}: {words}{reason}{self._best(block.study) if event.kind in BEST_IN else ''}"

    def _best(self, study_id: str) -> str:
        try:
            with self._store.reading() as tx:
                study = queries.find_study(tx, study_id)
                best = queries.best_trials(tx, [study]).get(study_id)
        except (StudyNotFound, StudyUnreadable):
            return ""
        return "" if best is None else f". Best: trial {best.number}, {_escaped(study.spec.objective.metric)} {best.value:.6g}"


BEST_IN = frozenset({EventKind.STUDY_COMPLETED, EventKind.STUDY_STOPPED, EventKind.STUDY_CONFIRMING})


def _is_of_tls(error: BaseException | None) -> bool:
    while error is not None and not isinstance(error, ssl.SSLError):
        error = error.__cause__ or error.__context__
    return error is not None


def _escaped(text: str) -> str:
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
