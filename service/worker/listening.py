"""A trainer's standard error, read by a thread of its own so that the pipe never fills, whatever else its reader is busy with."""

import os
import select
import threading
import time
from typing import IO

from service.worker.transcript import Transcript

CHUNK_BYTES = 65_536
CHUNKS_AT_ONCE = 16
FLOOD_SECONDS = 0.02  # between two looks at one that nobody will read the whole of


class Listener:
    """From the pipe into the transcript, until the last process that can write to the pipe has closed it."""

    def __init__(self, pipe: IO[bytes], transcript: Transcript) -> None:
        self._pipe, self._transcript = pipe, transcript
        self._ended = False
        self._reading = threading.Lock()
        os.set_blocking(pipe.fileno(), False)
        self._thread = threading.Thread(target=self._listen, name="trainer-stderr", daemon=True)
        self._thread.start()

    @property
    def ended(self) -> bool:
        """Whether nothing more will come."""
        return not self._thread.is_alive()

    def catch_up(self) -> None:
        """Take in what stands in the pipe now. For any thread: what the trainer printed before a line of the protocol is there after it."""
        with self._reading:
            chunks = 0
            while not self._ended and chunks < CHUNKS_AT_ONCE:
                try:
                    chunk = os.read(self._pipe.fileno(), CHUNK_BYTES)
                except BlockingIOError:
                    return
                self._transcript.add(chunk)
                self._ended, chunks = not chunk, chunks + 1

    def await_end(self, seconds: float) -> None:
        """Wait for the end of the pipe, but not for long: a grandchild in another session may hold it open."""
        self._thread.join(seconds)

    def _listen(self) -> None:
        with self._pipe:
            while not self._ended:
                select.select([self._pipe], [], [])
                self.catch_up()
                if self._transcript.overflows:
                    time.sleep(FLOOD_SECONDS)
