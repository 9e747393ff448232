"""Clients of event streams that behave badly: they break off, vanish, hardly read, and come back with the id that they know."""

import json
import random
import socket
import threading
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Self

import h11

SECONDS = 60.0
FORGOTTEN = 4  # connections that a follower leaves open without a word
RETRY, PING = "retry: 2000", ": still here"
HEADERS = {b"content-type": b"text/event-stream; charset=utf-8", b"cache-control": b"no-cache", b"x-accel-buffering": b"no"}


@dataclass(frozen=True, slots=True)
class Message:
    """A block of a stream: an event, or a comment or instruction, whose `event` is empty."""

    text: str
    id: str = ""
    event: str = ""

    @property
    def seq(self) -> int:
        return int(self.id.rpartition("-")[2])


class Stream:
    """One connection. `receive_bytes` makes the kernel take no more than about that many ahead of us."""

    def __init__(self, server: str, path: str, last_id: str | None = None, receive_bytes: int | None = None) -> None:
        host, _, port = server.removeprefix("http://").partition(":")
        self.socket = socket.socket()
        if receive_bytes is not None:
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_bytes)
        self.socket.settimeout(SECONDS)
        self._http = h11.Connection(h11.CLIENT)
        try:
            self.socket.connect((host, int(port)))
            headers = {"Host": f"{host}:{port}", "Accept": "text/event-stream"} | (
                {"Last-Event-ID": last_id} if last_id is not None else {}
            )
            request = h11.Request(method="GET", target=path, headers=list(headers.items()))
            self.socket.sendall((self._http.send(request) or b"") + (self._http.send(h11.EndOfMessage()) or b""))
        except OSError:
            self.socket.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.socket.close()

    def response(self) -> h11.Response:
        """The head of the answer. Raises OSError when the connection breaks."""
        found = self._next()
        if not isinstance(found, h11.Response):
            raise ConnectionError("no answer")
        return found

    def messages(self) -> Iterator[Message]:
        """What comes after the head, block by block, until the stream ends. Raises OSError when the connection breaks."""
        text = ""
        while isinstance(part := self._next(), h11.Data):
            text += bytes(part.data).decode()
            *blocks, text = text.split("\n\n")
            yield from map(_message, blocks)

    def reset(self) -> None:
        """Break off with a reset in place of a good-bye."""
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        self.socket.close()

    def _next(self) -> Any:
        try:
            while (event := self._http.next_event()) is h11.NEED_DATA:
                self._http.receive_data(self.socket.recv(65_536))
        except h11.RemoteProtocolError as error:
            raise ConnectionError(str(error)) from None
        return event


def _message(block: str) -> Message:
    fields = dict(line.split(": ", 1) for line in block.split("\n") if not line.startswith(":"))
    return Message(block, fields.get("id", ""), fields.get("event", ""))


class Follower(threading.Thread):
    """Reads a study's events to the end over many connections, to whichever of the servers answers."""

    def __init__(self, servers: Sequence[str], path: str, seed: int) -> None:
        super().__init__(daemon=True)
        self.received = list[int]()
        self.broken_off = Counter[str]()
        self.failure: BaseException | None = None
        self._servers, self._path = list(servers), path
        self._random = random.Random(seed)
        self._last_id: str | None = None
        self._opened = list[Stream]()

    def run(self) -> None:
        """Until an `end` has come, and after it the word to stay away."""
        try:
            while not self._follow():
                pass
            with Stream(self._servers[0], self._path, self._last_id) as stream:
                assert stream.response().status_code == 204
        except BaseException as error:
            self.failure = error
        finally:
            for stream in self._opened:
                stream.socket.close()

    def _follow(self) -> bool:
        """One connection; whether it was the last one."""
        try:
            stream = Stream(self._servers[0], self._path, self._last_id)
        except OSError:
            return self._broken()
        self._opened.append(stream)
        try:
            head = stream.response()
            if head.status_code == 204:  # all was received, but the connection broke before its `end`
                return True
            assert head.status_code == 200 and HEADERS.items() <= dict(head.headers).items(), head
            ended = self._read(stream)
        except OSError:
            return self._broken()
        if not ended:
            self._leave(stream)
        return ended

    def _broken(self) -> bool:
        self.broken_off["by the server"] += 1
        self._servers.append(self._servers.pop(0))
        return False

    def _read(self, stream: Stream) -> bool:
        most = self._random.randint(1, 40)
        messages = stream.messages()
        assert next(messages).text == RETRY
        for message in messages:
            if message.event == "end":
                assert message.id == self._last_id, f"the end is {message.id}, the last event was {self._last_id}"
                return True
            if message.event:
                body = json.loads(message.text.partition("data: ")[2])
                assert (body["seq"], body["kind"]) == (message.seq, message.event)
                self.received.append(message.seq)
                self._last_id = message.id
                most -= 1
            if most == 0:
                return False
        raise ConnectionError("it broke off without an end")

    def _leave(self, stream: Stream) -> None:
        how = self._random.choice(["with a good-bye", "with a reset", "without a word"])
        self.broken_off[how] += 1
        if how == "with a reset":
            stream.reset()
        elif how == "with a good-bye":
            stream.socket.close()
        # else the connection stays, and nobody reads
        while len(self._opened) > FORGOTTEN:  # a server has only so many
            self._opened.pop(0).socket.close()
