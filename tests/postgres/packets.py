"""A PostgreSQL over TCP, to or from which the kernel drops packets from a chosen moment on.

Nobody closes a connection then, and nobody is told: both sides find out when their time is up. The
network is one of the server's own and has a loopback device only, so that of the machine stays as
it is. A socket belongs to the network in which it was made, whichever thread uses it.
"""

import ctypes
import os
import shutil
import socket
import struct
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple
from unittest.mock import patch

import pytest

from tests.postgres.fixtures import TEMPLATE, emptied, prepare
from tests.postgres.needs import missing
from tests.postgres.proxy import Fault
from tests.postgres.server import PORT, Server, private_server

ADDRESS = "127.0.0.1"
_NEW_NETWORK = 0x40000000  # CLONE_NEWNET
_SET_FLAGS = 0x8914  # SIOCSIFFLAGS
_UP = 0x1


class Network:
    """A network namespace. It ends with the last process in it, once it is closed.

    Raises:
        OSError: this system, or this user, may make none.
    """

    def __init__(self) -> None:
        self._libc = ctypes.CDLL(None, use_errno=True)
        self._own = os.open("/proc/thread-self/ns/net", os.O_RDONLY)
        self._made: list[int] = []
        maker = threading.Thread(target=self._make)  # a thread of its own changes its network
        maker.start()
        maker.join()
        if not self._made:
            os.close(self._own)
            raise OSError("no network namespace can be made here")

    @contextmanager
    def entered(self) -> Iterator[None]:
        """Within it, what this thread makes or starts is in this network."""
        self._enter(self._made[0])
        try:
            yield
        finally:
            self._enter(self._own)

    def filter(self, *words: str) -> None:
        """Run iptables on it."""
        with self.entered():
            subprocess.run(["iptables", "-w", *words], check=True, capture_output=True)

    def close(self) -> None:
        for each in (*self._made, self._own):
            os.close(each)

    def _make(self) -> None:
        if self._libc.unshare(_NEW_NETWORK):
            return
        with socket.socket() as any_socket:
            import fcntl

            fcntl.ioctl(any_socket, _SET_FLAGS, struct.pack("16sh22x", b"lo", _UP))
        self._made.append(os.open("/proc/thread-self/ns/net", os.O_RDONLY))

    def _enter(self, network: int) -> None:
        if self._libc.setns(network, _NEW_NETWORK):
            raise OSError(ctypes.get_errno(), "a thread cannot enter a network")


class _Planned(NamedTuple):
    text: bytes
    fault: Fault
    struck: threading.Event
    cuts_off: bool


class Packets:
    """The way of this process to a server in another network.

    Attributes:
        server: others reach it through its socket all the time.
    """

    def __init__(self, server: Server, network: Network) -> None:
        self.server = server
        self._network = network
        self._planned: list[_Planned] = []

    def url(self, database: str) -> str:
        """The address of a database. What is given up after 5 seconds otherwise, is after 1."""
        limits = "tcp_user_timeout=1000&connect_timeout=2"
        return f"postgresql://postgres@{ADDRESS}:{PORT}/{database}?{limits}"

    def plan(self, text: str, fault: Fault, *, cuts_off: bool = False) -> threading.Event:
        """Let a fault happen to the next statement that contains a text, and to its connection.

        Args:
            fault: CUT or LOSE_ANSWER.
            cuts_off: whether all other connections, and new ones, meet it too.

        Returns:
            What is set directly before the statement leaves.
        """
        planned = _Planned(text.encode(), fault, threading.Event(), cuts_off)
        self._planned.append(planned)
        return planned.struck

    def refuse(self, refuses: bool = True) -> None:
        """Drop all packets in both directions, or none any more."""
        self._network.filter("-F")
        if refuses:
            self._drop(Fault.CUT)

    @contextmanager
    def used(self) -> Iterator[None]:
        """Within it, connections of this process are made in the server's network."""
        from wan_mcp.ledger.postgres.connection import Link

        connect, run = Link.connect, Link.run

        def connected(*args: Any, **named: Any) -> Any:
            with self._network.entered():
                return connect(*args, **named)

        def watched(link: Any, *parts: Any) -> Any:
            self._strike(link, parts)
            return run(link, *parts)

        with patch.object(Link, "connect", connected), patch.object(Link, "run", watched):
            yield

    def _strike(self, link: Any, parts: Any) -> None:
        import psycopg

        if not self._planned or link.info.host != ADDRESS:
            return
        with psycopg.ClientCursor(link) as cursor:
            message = "; ".join(cursor.mogrify(*part) for part in parts).encode()
        for planned in [each for each in self._planned if each.text in message]:
            self._planned.remove(planned)
            self._drop(planned.fault, None if planned.cuts_off else link)
            planned.struck.set()

    def _drop(self, fault: Fault, link: Any = None) -> None:
        one = [] if link is None else ["--dport", str(_port(link))]
        self._network.filter(*_dropped("--sport", *one))
        if fault is Fault.CUT:
            one = [] if link is None else ["--sport", str(_port(link))]
            self._network.filter(*_dropped("--dport", *one))


def _dropped(which: str, *more: str) -> tuple[str, ...]:
    return "-A", "INPUT", "-p", "tcp", which, str(PORT), *more, "-j", "DROP"


def _port(link: Any) -> int:
    with socket.socket(fileno=os.dup(link.fileno())) as own:
        port: int = own.getsockname()[1]
        return port


@contextmanager
def server_in_a_network(shared: Server) -> Iterator[Callable[[], Packets]]:
    """A server in a network of its own. Each call gives a way to it, and an empty ledger."""
    network = _network()
    try:
        with private_server(shared) as server:
            with network.entered():
                server.start(address=ADDRESS)
            prepare(server)

            def way() -> Packets:
                network.filter("-F")
                emptied(server, TEMPLATE)
                return Packets(server, network)

            yield way
    finally:
        network.close()


def _network() -> Network:
    what = "a network of its own for a server (root on Linux, and its `iptables`)"
    if sys.platform != "linux" or os.geteuid() != 0 or shutil.which("iptables") is None:
        missing("iptables", what)
    try:
        network = Network()
    except OSError:
        missing("iptables", what)
    try:
        network.filter("-F")
    except subprocess.CalledProcessError:
        network.close()
        pytest.skip("the kernel of this machine filters no packets: no package would change that")
    return network
