"""Stands between a program and PostgreSQL, and cuts or holds a connection at a chosen moment."""

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from enum import Enum, auto
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple

from tests.ledger.stores import HANG_SECONDS
from tests.postgres.server import SOCKET, Server


class Fault(Enum):
    """What happens to a statement, and to the connection that it is sent on."""

    CUT = auto()
    """The server never gets it."""
    LOSE_ANSWER = auto()
    """The server carries it out, and the connection is cut instead of its answer."""
    DELIVER_LATE = auto()
    """The connection is cut, and the server gets it when the test says so: see `deliver`."""
    HOLD = auto()
    """It stays on its way, and so does all else, until the test says `release`."""


class _Planned(NamedTuple):
    text: bytes
    fault: Fault
    struck: threading.Event
    cuts_off: bool


class Proxy:
    """A socket that leads to a server.

    Attributes:
        connections: how many were made through it.
    """

    def __init__(self, server: Server, folder: Path) -> None:
        self.connections = 0
        self._server = server
        self._folder = folder
        self._planned: list[_Planned] = []
        self._open = threading.Event()
        self._open.set()
        self._late = threading.Event()
        self._delivered = threading.Event()
        self._refuses = False
        self._links: list[_Link] = []
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(str(folder / SOCKET))
        self._listener.listen(64)
        _start(self._accept)

    def url(self, database: str) -> str:
        """The address of a database, through the proxy."""
        return self._server.url(database, self._folder)

    def plan(self, text: str, fault: Fault, *, cuts_off: bool = False) -> threading.Event:
        """Let a fault happen to the next statement that contains a text.

        Args:
            cuts_off: whether the network is gone from then on, see `refuse`.

        Returns:
            What is set once it has happened. After LOSE_ANSWER the statement is carried out then.
        """
        planned = _Planned(text.encode(), fault, threading.Event(), cuts_off)
        self._planned.append(planned)
        return planned.struck

    def deliver(self) -> None:
        """Let the server have the late statement, and wait until it has carried it out."""
        self._late.set()
        assert self._delivered.wait(HANG_SECONDS)

    def hold(self) -> None:
        """From now on nothing gets through, in either direction, and nobody is told."""
        self._open.clear()

    def release(self) -> None:
        """Let everything through again, also what was held."""
        self._open.set()

    def refuse(self, refuses: bool = True) -> None:
        """Cut all connections, and every new one at once, as when there is no server."""
        self._refuses = refuses
        if refuses:
            self._cut_all()

    def _cut_all(self, but: "_Link | None" = None) -> None:
        for link in list(self._links):
            if link is not but:
                link.cut()

    def close(self) -> None:
        """Cut everything."""
        self.refuse()
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._open.set()
        self._late.set()
        for link in self._links:
            link.join()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            self.connections += 1
            upstream = socket.socket(socket.AF_UNIX)
            link = _Link(self, client, upstream)
            self._links.append(link)
            if self._refuses or upstream.connect_ex(str(self._server.folder / SOCKET)):
                link.cut()
            else:
                link.start()

    def pass_on(self, link: "_Link", data: bytes) -> bool:
        """Send what the client has sent, or let a planned fault happen.

        Returns:
            Whether the client may send more.
        """
        planned = next((each for each in self._planned if each.text in data), None)
        if planned is None:
            self._open.wait()
            link.upstream.sendall(data)
            return True
        self._planned.remove(planned)
        if planned.cuts_off:
            self._refuses = True
            self._cut_all(but=link)
        match planned.fault:
            case Fault.CUT:
                link.cut()
                planned.struck.set()
            case Fault.HOLD:
                self._open.clear()
                planned.struck.set()
                self._open.wait()
                link.upstream.sendall(data)
                return True
            case Fault.LOSE_ANSWER:
                link.answered = planned.struck
                link.upstream.sendall(data)
            case Fault.DELIVER_LATE:
                link.answered = self._delivered
                link.cut_client()
                planned.struck.set()
                self._late.wait()
                link.upstream.sendall(data)
        return False

    def wait_until_open(self) -> None:
        """Wait while everything is held."""
        self._open.wait()


class _Link:
    """One connection: two sockets, and a thread for each direction.

    Attributes:
        answered: set when the server has answered, and then the connection is cut.
    """

    def __init__(self, proxy: Proxy, client: socket.socket, upstream: socket.socket) -> None:
        self.upstream = upstream
        self.answered: threading.Event | None = None
        self._proxy = proxy
        self._client = client
        self._threads: list[threading.Thread] = []

    def start(self) -> None:
        self._threads = [_start(self._to_server), _start(self._to_client)]

    def join(self) -> None:
        for thread in self._threads:
            thread.join(HANG_SECONDS)
        self._client.close()
        self.upstream.close()

    def cut(self) -> None:
        """End the connection for both sides."""
        self.cut_client()
        with suppress(OSError):
            self.upstream.shutdown(socket.SHUT_RDWR)

    def cut_client(self) -> None:
        """End it for the client alone."""
        with suppress(OSError):
            self._client.shutdown(socket.SHUT_RDWR)

    def _to_server(self) -> None:
        with suppress(OSError):
            while data := self._client.recv(1 << 16):
                if not self._proxy.pass_on(self, data):
                    return
        if self.answered is None:
            self.cut()

    def _to_client(self) -> None:
        with suppress(OSError):
            while data := self.upstream.recv(1 << 16):
                self._proxy.wait_until_open()
                if self.answered is not None:
                    break
                self._client.sendall(data)
        self.cut()
        if self.answered is not None:
            self.answered.set()


@contextmanager
def proxy_to(server: Server) -> Iterator[Proxy]:
    """A proxy in front of a server."""
    with TemporaryDirectory(prefix="wan-mcp-proxy-") as folder:
        proxy = Proxy(server, Path(folder))
        try:
            yield proxy
        finally:
            proxy.close()


def _start(work: object) -> threading.Thread:
    thread = threading.Thread(target=work, daemon=True)  # type: ignore[arg-type]
    thread.start()
    return thread
