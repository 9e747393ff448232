"""A trial's log on the terminal, once or for as long as the trial goes on."""

import sys
import time

from service.client import Client, Unreachable
from service.domain.text import clean
from service.rest_models import LogView
from service.settings import Settings

LOOK_SECONDS = 1.0


def show_log(settings: Settings, name: str, number: int, attempt: int | None, follow: bool) -> None:
    """Write the attempt's log as it stands; with `follow` all that comes until the attempt has ended, or without one the trial."""
    with Client(settings.server, settings.token) as client:
        reader = Reader(client, name, number, attempt)
        ended = reader.read()
        while follow and not ended:
            time.sleep(LOOK_SECONDS)
            try:
                ended = reader.read()
            except Unreachable:  # the server restarts
                continue


class Reader:
    """How far a log has been written out."""

    def __init__(self, client: Client, name: str, number: int, attempt: int | None) -> None:
        """`attempt` None: the newest one, then those that come after it."""
        self._client, self._name, self._number = client, name, number
        self._asked = self._attempt = attempt
        self._seen = 0

    def read(self) -> bool:
        """Write out what is new; whether that was the end."""
        ended = self._asked is None and self._client.trial(self._name, self._number).state.terminal  # asked first: the log is whole then
        while True:
            part = self._client.log(self._name, self._number, self._attempt, self._seen)
            self._write(part)
            if part.next is None and not self._goes_on(part):
                return ended or (self._asked is not None and _has_ended(part, self._asked))

    def _write(self, part: LogView) -> None:
        self._attempt = part.attempt
        for chunk in part.chunks:
            sys.stdout.write(clean(chunk.text))
            self._seen = chunk.seq
        sys.stdout.flush()

    def _goes_on(self, part: LogView) -> bool:
        """Whether a newer attempt is to be read; then it is the one to read."""
        if self._asked is not None or part.attempt is None or not (newer := [one for one in part.attempts if one.attempt > part.attempt]):
            return False
        self._attempt, self._seen = newer[0].attempt, 0
        sys.stdout.write(clean(f"--- attempt {newer[0].attempt}, on {newer[0].worker}\n"))
        return True


def _has_ended(part: LogView, attempt: int) -> bool:
    return any(one.ending is not None for one in part.attempts if one.attempt == attempt)
