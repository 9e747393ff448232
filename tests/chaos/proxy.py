"""A network cable that can be stretched, cut and left hanging: a proxy between one of ours and a server."""

import asyncio
import socket
import struct
import threading
from collections.abc import Callable, Coroutine
from contextlib import suppress
from pathlib import Path
from typing import TypeVar

from sqlalchemy import make_url

CHUNK = 65_536
RESET = struct.pack("ii", 1, 0)  # linger for no seconds: closing sends RST
T = TypeVar("T")


class Proxy:
    """Listens on 127.0.0.1 and passes all on to the target: the path of a Unix socket, or a port of this machine."""

    def __init__(self, target: Path | int) -> None:
        self.target = target
        self.delay = 0.0  # seconds that each piece is under way
        self.refusing = False  # connections are ended as soon as they are made
        self.dark = False  # nothing arrives and nothing is closed; what was sent in the dark never arrives
        self.cut_answers = 0  # so many answers end by RST after half of their first piece
        self.lose_answer_to: bytes | None = None  # the answer to the next piece that holds this is lost, by RST
        self.cut = self.lost = 0  # how often that happened
        self._links = set[Link]()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()
        self._server = self._call(asyncio.start_server(self._connected, "127.0.0.1", 0))
        self.port: int = self._server.sockets[0].getsockname()[1]

    @classmethod
    def to(cls, database_url: str) -> "Proxy":
        """A proxy in front of a PostgreSQL server on this machine."""
        url = make_url(database_url)
        place = url.query.get("host") or url.host
        if isinstance(place, str) and place.startswith("/"):
            return cls(Path(place) / f".s.PGSQL.{url.query.get('port') or url.port or 5432}")
        return cls(url.port or 5432)

    def close(self) -> None:
        """End all connections, and listen no more."""
        self._call(self._closed())
        self.end()
        self._call(self._settled())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    async def _closed(self) -> None:
        """In the loop's own thread: a connection that ends just now closes the server, too."""
        self._server.close()

    def end(self, *, reset: bool = False) -> int:
        """Close all connections, or end them by RST; how many there were."""

        async def ended() -> int:
            for link in (links := list(self._links)):
                link.end(reset=reset)
            return len(links)

        return self._call(ended())

    def hang(self) -> int:
        """Leave all connections half open: nothing arrives on them any more, ever. How many there were."""
        for link in (links := list(self._links)):
            link.dead = True
        return len(links)

    def _call(self, work: Coroutine[object, object, T]) -> T:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(30)

    async def _settled(self) -> None:
        others = asyncio.all_tasks() - {asyncio.current_task()}
        for task in others:
            task.cancel()
        await asyncio.gather(*others, return_exceptions=True)

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        link = Link(self, writer)
        self._links.add(link)
        try:
            with suppress(OSError):
                if not self.refusing:
                    await link.carry(reader, self.target)
        finally:
            link.end(reset=False)
            self._links.discard(link)


def through(proxy: Proxy, database_url: str) -> str:
    """The URL of the same database behind the proxy."""
    url = make_url(database_url).difference_update_query(["host", "port"])
    return url.set(host="127.0.0.1", port=proxy.port).render_as_string(hide_password=False)


class Link:
    """One connection, in both directions."""

    def __init__(self, proxy: Proxy, client: asyncio.StreamWriter) -> None:
        self._proxy, self._ends = proxy, [client]
        self.dead = False
        self._answer_is_lost = False

    async def carry(self, client: asyncio.StreamReader, target: Path | int) -> None:
        """Until one side closes."""
        connecting = asyncio.open_unix_connection(str(target)) if isinstance(target, Path) else asyncio.open_connection("127.0.0.1", target)
        server, to_server = await connecting
        self._ends.append(to_server)
        there = asyncio.create_task(self._pass_on(client, to_server, self._request))
        back = asyncio.create_task(self._pass_on(server, self._ends[0], self._answer))
        _, pending = await asyncio.wait((there, back), return_when=asyncio.FIRST_COMPLETED)
        for task in pending:
            task.cancel()
        await asyncio.gather(there, back, return_exceptions=True)

    def end(self, *, reset: bool) -> None:
        """Close both ends."""
        for writer in self._ends:
            if reset and (opened := writer.get_extra_info("socket")) is not None:
                with suppress(OSError):
                    opened.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
            writer.transport.abort() if reset else writer.close()

    async def _pass_on(self, source: asyncio.StreamReader, sink: asyncio.StreamWriter, look: Callable[[bytes], bytes]) -> None:
        while piece := await source.read(CHUNK):
            if self._proxy.delay:
                await asyncio.sleep(self._proxy.delay)
            if self._proxy.dark:
                self.dead = True
            if not self.dead and (passed := look(piece)):
                sink.write(passed)
                await sink.drain()
        if self.dead:
            await asyncio.Event().wait()  # nobody hears that it was closed

    def _request(self, piece: bytes) -> bytes:
        if self._proxy.lose_answer_to is not None and self._proxy.lose_answer_to in piece:
            self._proxy.lose_answer_to, self._answer_is_lost = None, True
        return piece

    def _answer(self, piece: bytes) -> bytes:
        if self._answer_is_lost:
            self._proxy.lost += 1
            self.end(reset=True)
            return b""
        if self._proxy.cut_answers > 0:
            self._proxy.cut_answers -= 1
            self._proxy.cut += 1
            self._ends[0].write(piece[: len(piece) // 2])
            self._proxy._loop.call_later(0.05, lambda: self.end(reset=True))
            self.dead = True
            return b""
        return piece
