"""Figures that were drawn before, kept in bounded memory: many look at the same study, and it changes many times a second."""

import hashlib
import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass

MOST_BYTES = 16_000_000
LEISURE = 10  # a figure that took a second is drawn every ten seconds at most, however often its study changes
LONGEST_LEISURE = 5.0  # seconds


@dataclass(frozen=True, slots=True)
class Subject:
    """What a figure shows: a study's key, the figure's name, its parameters."""

    study: str
    figure: str
    params: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Drawing:
    """A figure as JSON."""

    body: bytes
    seq: int  # the study's last event that is in it
    drawn_at: float  # by the monotonic clock
    leisure: float  # seconds for which it will do, also when the study goes on

    @property
    def etag(self) -> str:
        """Of the content."""
        return f'"{hashlib.sha256(self.body).hexdigest()[:32]}"'

    def will_do(self, seq: int) -> bool:
        """Whether it may still be shown when the study has come to event `seq`."""
        return self.seq >= seq or time.monotonic() < self.drawn_at + self.leisure


class Drawings:
    """The drawings of one process. One is made at a time; who asks for the same one meanwhile waits for it."""

    def __init__(self, most_bytes: int = MOST_BYTES) -> None:
        self._most = most_bytes
        self._kept: OrderedDict[Subject, Drawing] = OrderedDict()
        self._size = 0
        self._lock = threading.Lock()
        self._easel = threading.Lock()

    def kept(self, subject: Subject, seq: int) -> Drawing | None:
        """The drawing, if one that will do is at hand."""
        return self._find(subject, seq)

    def get(self, subject: Subject, seq: int, draw: Callable[[], bytes]) -> Drawing:
        """The drawing, made now unless one that will do is at hand. What `draw` raises goes through."""
        if (known := self._find(subject, seq)) is not None:
            return known
        with self._easel:
            if (known := self._find(subject, seq)) is not None:
                return known
            start = time.monotonic()
            body = draw()
            now = time.monotonic()
            drawing = Drawing(body, seq, now, min(LEISURE * (now - start), LONGEST_LEISURE))
            self._keep(subject, drawing)
            return drawing

    def _find(self, subject: Subject, seq: int) -> Drawing | None:
        with self._lock:
            known = self._kept.get(subject)
            if known is None or not known.will_do(seq):
                return None
            self._kept.move_to_end(subject)
            return known

    def _keep(self, subject: Subject, drawing: Drawing) -> None:
        with self._lock:
            if (old := self._kept.pop(subject, None)) is not None:
                self._size -= len(old.body)
            self._kept[subject] = drawing
            self._size += len(drawing.body)
            while self._size > self._most and len(self._kept) > 1:
                self._size -= len(self._kept.popitem(last=False)[1].body)
