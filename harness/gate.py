"""Gate: lets whoever knows a key through to a server that listens on its node's loopback only.

Engines protect themselves unequally: vLLM's key guards /v1 and nothing else, SGLang takes its key on the
command line, `transformers serve` knows none. So none of them is bound to a node's address: the gate is.

A connection is let through by the `Authorization: Bearer KEY` of its first request, then copied byte by
byte, so that a stream costs no parsing. One connection is the gate's own, the lease (`GET /lease`): the
gate tells every second how the server is, the holder answers each time with one byte, and where either
falls silent or closes the connection, the lease is over, and the server with it.
"""

import asyncio
import contextlib
import hmac
import json
import socket
import threading
from collections.abc import Awaitable, Callable

from harness.errors import ServerError

BEAT = 1.0  # seconds between two signs of life
LOST = 15.0  # seconds without one: a node without power or network closes no connection
HEAD_BYTES = 65_536
CHUNK = 65_536
REFUSED = (
    b"HTTP/1.1 401 Unauthorized\r\ncontent-type: application/json\r\nconnection: close\r\n"
    b'content-length: 41\r\n\r\n{"error": {"message": "wrong API key"  }}'
)
OPENED = b"HTTP/1.1 200 OK\r\ncontent-type: application/jsonl\r\nconnection: close\r\n\r\n"


class Gate:
    """Listens on one address. `port` is the server's, which may change while it starts; `trouble` says
    what is wrong with it ("" while it is well); `end` is awaited once the lease is over."""

    def __init__(
        self,
        key: str,
        port: Callable[[], int],
        trouble: Callable[[], str],
        end: Callable[[], Awaitable[None]],
    ) -> None:
        self.key = key
        self.port = port
        self.trouble = trouble
        self.end = end
        self.leased = False

    async def open(self, address: str) -> int:
        """Listens at a free port of `address` and returns it."""
        self.listening = await asyncio.start_server(self.admit, address, 0, limit=HEAD_BYTES)
        return int(self.listening.sockets[0].getsockname()[1])

    async def admit(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            head = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), LOST)
            if not knows(head, self.key):
                writer.write(REFUSED)
                await writer.drain()
            elif head.startswith(b"GET /lease "):
                await self.lease(reader, writer)
            else:
                await self.pass_on(head, reader, writer)
        except (OSError, TimeoutError, asyncio.IncompleteReadError, asyncio.LimitOverrunError):
            return
        finally:
            writer.close()

    async def pass_on(self, head: bytes, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Copies both ways until one side has ended: a client that gives up must reach the engine."""
        behind, towards = await asyncio.open_connection("127.0.0.1", self.port())
        try:
            towards.write(head)
            ways = {asyncio.create_task(copied(reader, towards)), asyncio.create_task(copied(behind, writer))}
            _, open_still = await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
            for way in open_still:
                way.cancel()
        finally:
            towards.close()

    async def lease(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.leased = True
        writer.write(OPENED)
        with contextlib.suppress(OSError, TimeoutError, asyncio.IncompleteReadError):
            while True:
                trouble = self.trouble()
                writer.write(json.dumps({"trouble": trouble}).encode() + b"\n")
                await writer.drain()
                if trouble:
                    break
                await asyncio.wait_for(reader.readexactly(1), LOST)
                await asyncio.sleep(BEAT)
        await self.end()


async def copied(source: asyncio.StreamReader, target: asyncio.StreamWriter) -> None:
    with contextlib.suppress(OSError):
        while data := await source.read(CHUNK):
            target.write(data)
            await target.drain()


def knows(head: bytes, key: str) -> bool:
    """Whether a request's head carries the key; compared in a time that does not depend on it."""
    given = b""
    for line in head.split(b"\r\n")[1:]:
        name, _, value = line.partition(b":")
        if name.strip().lower() == b"authorization":
            given = value.strip()
    return hmac.compare_digest(given, b"Bearer " + key.encode())


class Lease:
    """The holder's end of a lease: knows within a second of a server, or a node, that is gone.

    `what` names the server in errors, `tail` gives the end of its log. Raises ServerError where the gate
    does not answer.
    """

    def __init__(self, address: str, port: int, key: str, what: str, tail: Callable[[], str]) -> None:
        self.what = what
        self.tail = tail
        self.trouble = ""
        try:
            self.socket = socket.create_connection((address, port), timeout=LOST)
            self.socket.sendall(b"GET /lease HTTP/1.1\r\nAuthorization: Bearer " + key.encode() + b"\r\n\r\n")
        except OSError as error:
            raise ServerError(
                f"{what} cannot be reached at {address}:{port}: {error}",
                "the nodes of the cluster must reach each other on all ports, as Ray asks, too",
            ) from error
        self.thread = threading.Thread(target=self.watch, name=f"lease of {what}", daemon=True)
        self.thread.start()

    def watch(self) -> None:
        """Answers every sign of life until there is none any more."""
        try:
            with self.socket, self.socket.makefile("rb") as lines:
                for line in lines:
                    if line.startswith(b"{"):
                        self.trouble = json.loads(line)["trouble"]
                        self.socket.sendall(b".")
        except OSError:
            pass  # the connection is broken, or nothing came for LOST seconds: what follows says so
        self.trouble = self.trouble or "is gone: its node or its process has ended"

    def alive(self) -> bool:
        return not self.trouble

    def check(self) -> None:
        """Raises ServerError, with the end of the server's log, where it is gone."""
        if self.trouble:
            raise ServerError(
                f"{self.what} {self.trouble}; its log ends:\n{self.tail()}",
                "everything generated so far is kept",
            )

    def release(self) -> None:
        """Ends the lease, whereupon the gate stops the server; returns at once."""
        with contextlib.suppress(OSError):
            self.socket.shutdown(socket.SHUT_WR)

    def wait(self, seconds: float) -> None:
        """Waits until the gate has stopped the server, or the node is gone."""
        self.thread.join(timeout=seconds)
