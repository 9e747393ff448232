"""The settings of a Thawline process. Only this module reads the environment."""

import ipaddress
import os
import re
import stat
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, ValidationError, field_validator

from search_spaces import Fault
from search_spaces.parameters import FrozenModel
from service.domain.errors import InvalidInput

SQLITE = re.compile(r"(sqlite(?:\+pysqlite)?:///)([^?]+)(.*)", re.DOTALL)
TOKEN = re.compile(r"[!-~]{16,}\Z")
HOST_NAME = re.compile(r"(?=.{1,253}\Z)[a-z0-9_](?:[a-z0-9_-]*[a-z0-9_])?(?:\.[a-z0-9_](?:[a-z0-9_-]*[a-z0-9_])?)*\Z")
PREFIX = re.compile(r"(?:/[A-Za-z0-9._~%@:+,=-]+)+\Z")
SWITCHES = {**dict.fromkeys(("1", "true", "yes"), "on"), **dict.fromkeys(("0", "false", "no"), "off")}
WORDS = {"webhooks", "webhook_events", "webhook_hosts"}  # lists separated by commas or spaces
OWN_PATHS = frozenset(
    ("api", "compare", "docs", "figure", "livez", "login", "logout", "metrics", "new",
     "openapi.json", "plotly.js", "readyz", "static", "studies", "workers")
)  # fmt: skip
"""The first parts of the server's own paths. A prefix that begins with one of them would be ambiguous."""


# Not a BaseSettings of pydantic-settings: its constructor reads the environment, so that a value would depend on the process that makes it.
class Settings(FrozenModel):
    """The settings, each read from the environment variable `THAW_<NAME>`. Command-line flags override them."""

    home: Path = Path("~/.thaw")
    database_url: str = ""
    token: str | None = None  # 16 or more visible ASCII characters
    server: str = "http://127.0.0.1:8000"
    claim_file: Path | None = None  # of `thaw trial`: the claim, with its token
    hosts: tuple[str, ...] = ()  # host names of the server besides loopback names, as `name` or `name:port`
    root_path: str = ""  # path prefix of the server behind a proxy, such as /user/ann/proxy/8000, without a slash at the end
    data_roots: tuple[Path, ...] = ()  # folders that must contain the data and weights files of studies; empty: any folder
    allow_scripts: tuple[Path, ...] = ()  # folders in which a worker runs scripts; empty: none
    heartbeat_seconds: float = Field(default=5.0, gt=0)
    lease_seconds: float = Field(default=30.0, gt=0)
    writes_per_second: int = Field(default=60, ge=1)  # writing requests of one client address; short bursts may be faster
    max_studies: int = Field(default=1_000, ge=1)  # on the server, ended ones included

    webhooks: tuple[str, ...] = ()  # URLs that get events, each perhaps with the prefix slack:
    webhook_events: tuple[str, ...] = ()  # kinds of events for all webhooks, such as trial_*; empty: those of service.outputs.webhooks
    webhook_secret: str | None = None  # of the signatures
    webhook_secret_file: Path | None = None  # its file, instead
    webhook_hosts: tuple[str, ...] = ()  # receivers in the own network, by host name
    mlflow_uri: str | None = None  # tracking server that gets the trials as runs

    cache_bytes: int = Field(default=20_000_000_000, ge=0)  # of decoded examples and features on disk; 0: no cache
    disk_floor_bytes: int = Field(default=1_000_000_000, ge=0)  # kept free on each disk for results; 0: none
    lane_bytes: int = Field(default=1_000_000_000, ge=0)  # memory of a slot for heads trained together; 0: each alone
    report_examples: int = Field(
        default=12, ge=0, le=20
    )  # most wrong examples whose text or picture a report has; 0: none leaves the worker
    step_graphs: Literal["off", "auto", "on"] = "off"  # perform training steps on GPUs by CUDA graphs; auto: where they are faster

    @field_validator("token")
    @classmethod
    def _token_can_match(cls, token: str | None) -> str | None:
        """An Authorization header carries visible ASCII characters; any other token would never match."""
        if token is not None and not TOKEN.match(token):
            raise ValueError(
                "a token has 16 or more visible ASCII characters, without spaces or a line end; make one with `openssl rand -hex 24`"
            )
        return token

    @field_validator("step_graphs", mode="before")
    @classmethod
    def _switches_are_words(cls, mode: Any) -> Any:
        return SWITCHES.get(str(mode).lower(), mode)

    @field_validator("hosts")
    @classmethod
    def _hosts_can_match(cls, hosts: tuple[str, ...]) -> tuple[str, ...]:
        for host in hosts:
            if (reason := _unfit_host(host)) is not None:
                raise ValueError(f"no request can match {host!r}: {reason}; write lab.example, or lab.example:8443 for one port")
        return tuple(host.lower() for host in hosts)

    @field_validator("root_path")
    @classmethod
    def _prefix_is_a_path(cls, prefix: str) -> str:
        prefix = prefix.rstrip("/")
        parts = prefix.split("/")[1:]
        if prefix and (not PREFIX.match(prefix) or {".", ".."} & set(parts)):
            raise ValueError(f"{prefix!r} is not a URL path; write, for example, /thaw, without host, query and spaces")
        if parts and parts[0] in OWN_PATHS:
            raise ValueError(f"/{parts[0]} is one of the server's own paths; choose another first part, such as /thaw/{parts[0]}")
        return prefix

    @field_validator("data_roots", "allow_scripts")
    @classmethod
    def _roots_are_absolute(cls, roots: tuple[Path, ...]) -> tuple[Path, ...]:
        return tuple(root.expanduser().absolute() for root in roots)

    def model_post_init(self, _context: object) -> None:
        """Make the home absolute and derive the database URL. The model is frozen, so the fields are set by object.__setattr__."""
        object.__setattr__(self, "home", self.home.expanduser().absolute())
        url = _with_absolute_file(self.database_url) or f"sqlite:///{self.home / 'thawline.db'}"
        object.__setattr__(self, "database_url", url)

    def protect_home(self) -> str | None:
        """Create the home with mode 0700, or restrict an existing one: it holds logs, checkpoints and often the database.

        A home with the set-group-id bit that its group may write (`chmod 2770`) is shared on purpose: its group keeps access.
        Returns a message for the user when the mode was changed.
        """
        try:
            self.home.mkdir(mode=0o700, parents=True, exist_ok=True)
            status = self.home.stat()
            mode = stat.S_IMODE(status.st_mode)
            kept = mode & ~0o007 if self.home_is_shared else mode & ~0o077
            if mode == kept or status.st_uid != os.geteuid():
                return None
            self.home.chmod(kept)
        except OSError:  # the first operation that needs the home reports the error
            return None
        return f"Removed the access of other users to {self.home} (mode {mode:o}, now {kept:o}); chmod 2770 shares it with its group."

    @property
    def home_is_shared(self) -> bool:
        """Whether the home is shared with its group: group-writable, with the set-group-id bit. Raises OSError."""
        return self.home.stat().st_mode & 0o2020 == 0o2020

    @property
    def look_seconds(self) -> float:
        """Seconds between two sweeps of a reaper: half a heartbeat, so that an expired lease is found within one heartbeat interval."""
        return self.heartbeat_seconds / 2

    @property
    def trust_seconds(self) -> float:
        """Seconds for which a worker trusts a lease that it cannot renew. Two heartbeats less than a reaper waits, so it stops first."""
        return self.lease_seconds - 2 * self.heartbeat_seconds

    @classmethod
    def from_environment(cls, environment: Mapping[str, str] = os.environ, **overrides: Any) -> "Settings":
        """The settings of this process: flags that are not None, then THAW_* variables, then defaults.

        Raises InvalidInput that names the variable.
        """
        values: dict[str, Any] = {name: text for name in cls.model_fields if (text := environment.get(f"THAW_{name.upper()}"))}
        if "hosts" in values:
            values["hosts"] = tuple(host.strip() for host in values["hosts"].split(",") if host.strip())
        for name in ("data_roots", "allow_scripts"):
            if name in values:
                values[name] = tuple(Path(root) for root in values[name].split(os.pathsep) if root)
        for name in WORDS & values.keys():
            values[name] = tuple(values[name].replace(",", " ").split())
        values |= {name: value for name, value in overrides.items() if value is not None}
        try:
            return cls.model_validate(values)
        except ValidationError as error:
            raise InvalidInput(_fault(item["loc"], item["msg"]) for item in error.errors(include_input=False)) from None


def _with_absolute_file(url: str) -> str:
    """The URL with the path of an SQLite file made absolute, so that it names the same file from every working directory."""
    if (parts := SQLITE.fullmatch(url)) is None or parts[2] == ":memory:":
        return url
    return f"{parts[1]}{Path(parts[2]).expanduser().absolute()}{parts[3]}"


def _unfit_host(host: str) -> str | None:
    """Why no Host header can equal the text, or None."""
    if "*" in host:
        return "wildcards are not supported, so list each name"
    if host.count(":") > 1 and not host.startswith("["):
        return "an IPv6 address needs brackets"
    name, colon, port = host.lower().rpartition(":") if re.search(r":[^\]]*\Z", host) else (host.lower(), "", "")
    if "://" in host or "/" in host:
        return "it has a scheme or a path, and only the host is compared"
    if colon and not (port.isascii() and port.isdecimal() and 1 <= int(port) <= 65_535):
        return "the part after the colon is not a port from 1 to 65535"
    try:
        address = ipaddress.ip_address(name[1:-1] if name.startswith("[") and name.endswith("]") else name)
    except ValueError:
        return None if HOST_NAME.match(name) else "it is not a host name (write international names as xn--…)"
    return "it is an address to listen on, which no browser sends as Host" if address.is_unspecified else None


def _fault(place: tuple[int | str, ...], message: str) -> Fault:
    return Fault(
        place, "invalid_setting", f"THAW_{str(place[0]).upper()}: {message.removeprefix('Value error, ')}; correct the variable or the flag"
    )
