"""Clients that hold a connection for as long as they are let: a byte a second is read of a stream, sent of a body, or sent of a head."""

import socket
import threading
import time
from collections.abc import Sequence
from contextlib import suppress
from types import TracebackType
from typing import Self

RECEIVE_BYTES = 4096  # the kernel takes about so many ahead of the reader
BODY_BYTES = 1000
ESTABLISHED = b"\1"  # the first byte of TCP_INFO is the connection's state


class SlowClient:
    """One of them, until it is cut."""

    def __init__(self, server: str, kind: str, head: bytes, drip: bytes | None) -> None:
        """`drip` is sent byte by byte; without one, the answer is read byte by byte."""
        host, _, port = server.removeprefix("http://").partition(":")
        self.kind, self.answer = kind, b""
        self.closed_after: float | None = None  # seconds
        self._drip, self._sent = drip, 0
        self._socket = socket.socket()
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, RECEIVE_BYTES)
        self._socket.settimeout(60)
        self._socket.connect((host, int(port)))
        self._began = time.monotonic()
        self._socket.sendall(head.replace(b"<host>", f"{host}:{port}".encode()))
        self._socket.setblocking(False)

    def tick(self) -> None:
        """A byte, if the connection is still there."""
        if self.closed_after is not None:
            return
        try:
            self._read(1 if self._drip is None else 65_536)
            if self._drip is not None:
                self._socket.send(self._drip[self._sent : self._sent + 1])
                self._sent += 1
        except OSError:
            self._note_the_end()
            self._read_the_rest()
        if self._drip is None and self._socket.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 1) != ESTABLISHED:
            self._note_the_end()  # though the kernel has still something for the reader

    def close(self) -> None:
        self._socket.close()

    def _read(self, most: int) -> None:
        try:
            part = self._socket.recv(most)
        except BlockingIOError:
            return
        if part:
            self.answer = (self.answer + part)[:65_536]
        elif self.closed_after is None:
            self._note_the_end()

    def _read_the_rest(self) -> None:
        with suppress(OSError):
            self._read(65_536)

    def _note_the_end(self) -> None:
        self.closed_after = time.monotonic() - self._began


def stream_reader(server: str, path: str) -> SlowClient:
    """Reads a byte a second of a stream."""
    return SlowClient(server, "stream", f"GET {path} HTTP/1.1\r\nHost: <host>\r\n\r\n".encode(), None)


def uploader(server: str, path: str) -> SlowClient:
    """Sends a byte a second of a body."""
    head = f"POST {path} HTTP/1.1\r\nHost: <host>\r\nContent-Type: application/json\r\nContent-Length: {BODY_BYTES}\r\n\r\n"
    return SlowClient(server, "upload", head.encode(), b"{" + b" " * BODY_BYTES)


def head_sender(server: str, path: str) -> SlowClient:
    """Sends a byte a second of a head."""
    return SlowClient(server, "head", f"GET {path} HTTP/1.1\r\nHost: <host>\r\nX-Slow: ".encode(), b"x" * BODY_BYTES)


class Crowd:
    """All of them, a byte a second each, from the block's beginning to its end."""

    def __init__(self, clients: Sequence[SlowClient]) -> None:
        self.clients = clients
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._drip, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._stop.set()
        self._thread.join(60)
        for client in self.clients:
            client.close()

    def left(self, kind: str) -> int:
        """How many of that kind are still connected."""
        return sum(client.kind == kind and client.closed_after is None for client in self.clients)

    def _drip(self) -> None:
        while not self._stop.wait(1.0):
            for client in self.clients:
                client.tick()
