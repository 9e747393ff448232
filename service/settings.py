"""The settings of a Thawline process; the one place that reads the environment."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import Field, ValidationError

from search_spaces import Fault
from search_spaces.parameters import Frozen
from service.domain.errors import InvalidInput


class Settings(Frozen):
    """Values that are handed down. Each is `THAW_<NAME>` in the environment; a flag wins over it."""

    home: Path = Path("~/.thaw")
    database_url: str = ""
    token: str | None = Field(default=None, min_length=16)
    server: str = "http://127.0.0.1:8000"
    hosts: tuple[str, ...] = ()
    heartbeat_seconds: float = Field(default=5.0, gt=0)
    lease_seconds: float = Field(default=30.0, gt=0)
    writes_per_second: int = Field(default=60, ge=1)  # requests that change something, of one address; short bursts may be faster
    max_studies: int = Field(default=1_000, ge=1)  # that the server holds, ended ones included

    cache_bytes: int = Field(default=20_000_000_000, ge=0)  # of decoded images and features on the disk; 0 for no cache
    disk_floor_bytes: int = Field(default=1_000_000_000, ge=0)  # of a disk that stay free for results; 0 for none
    lane_bytes: int = Field(default=1_000_000_000, ge=0)  # of memory that a slot gives to head-only trials trained together; 0: each alone

    def model_post_init(self, _context: object) -> None:
        """Fill what follows from the home. Frozen fields are set here once, before anyone has the value."""
        object.__setattr__(self, "home", self.home.expanduser().absolute())
        if not self.database_url:
            object.__setattr__(self, "database_url", f"sqlite:///{self.home / 'thawline.db'}")

    @property
    def look_seconds(self) -> float:
        """Between two looks of a reaper at the leases: half a heartbeat, so that one that ends is found within a heartbeat of its end."""
        return self.heartbeat_seconds / 2

    @property
    def trust_seconds(self) -> float:
        """How long a worker believes in a lease that it cannot renew: it gives up well before a reaper may take the lease away."""
        return self.lease_seconds - 2 * self.heartbeat_seconds

    @classmethod
    def from_environment(cls, environment: Mapping[str, str] = os.environ, **overrides: Any) -> "Settings":
        """The settings of this process: flags that are not None, then THAW_* variables, then defaults.

        Raises InvalidInput that names the variable.
        """
        values: dict[str, Any] = {name: text for name in cls.model_fields if (text := environment.get(f"THAW_{name.upper()}"))}
        if "hosts" in values:
            values["hosts"] = tuple(host.strip() for host in values["hosts"].split(",") if host.strip())
        values |= {name: value for name, value in overrides.items() if value is not None}
        try:
            return cls.model_validate(values)
        except ValidationError as error:
            raise InvalidInput(_fault(item["loc"], item["msg"]) for item in error.errors(include_input=False)) from None


def _fault(place: tuple[int | str, ...], message: str) -> Fault:
    return Fault(place, "invalid_setting", f"THAW_{str(place[0]).upper()}: {message}; correct the variable or the flag")
