"""Answers health checks over HTTP before the rest of the program is imported.

A supervisor that asks in the first second would find a closed port, and start the program again.
A balancer learns that it is too early for calls.
"""

from __future__ import annotations

import selectors
import socket
import threading

PATH = "/healthz"
ALIVE_PATH = "/livez"
READY_PATH = "/readyz"
BODY = b'{"status":"ok"}'
STARTING = b'{"status":"not ready","missing":{"server":"It is still starting."}}'
MAX_KEPT = 100
"""How many other callers are kept for the server; more wait in the queue of the system."""
_MAX_REQUEST_BYTES = 4096
_STATUSES = {
    PATH: (b"200 OK", BODY),
    ALIVE_PATH: (b"200 OK", BODY),
    READY_PATH: (b"503 Service Unavailable", STARTING),
}
_ANSWERS = {
    f"GET {path} HTTP/1.".encode(): (
        b"HTTP/1.1 %b\r\nContent-Length: %d\r\nContent-Type: application/json\r\n"
        b"Connection: close\r\n\r\n%b" % (status, len(body), body)
    )
    for path, (status, body) in _STATUSES.items()
}


class HealthDesk:
    """One listening socket, watched by a thread of its own from `start` to `hand_over`.

    A caller that asks for something else, or has not asked yet, waits for the server, which then
    finds its connection untouched.

    Args:
        listener: a listening socket; it stays the caller's to close.
    """

    def __init__(self, listener: socket.socket) -> None:
        self.listener = listener
        self._thread: threading.Thread | None = None
        self._kept: list[socket.socket] = []
        self._selector = selectors.DefaultSelector()
        self._end, self._ended = socket.socketpair()

    def start(self) -> None:
        """Begin to answer. The thread is a daemon: the end of the process waits for nobody."""
        self.listener.setblocking(False)
        self._selector.register(self.listener, selectors.EVENT_READ)
        self._selector.register(self._ended, selectors.EVENT_READ)
        self._thread = threading.Thread(target=self._run, name="health desk", daemon=True)
        self._thread.start()

    def hand_over(self) -> list[socket.socket]:
        """Answer nothing more. Returns the connections of those who wait for the server."""
        self._end.close()
        if self._thread is not None:
            self._thread.join()
        self._selector.close()
        self._ended.close()
        kept, self._kept = self._kept, []
        return kept

    def _run(self) -> None:
        while True:
            ready = [key.fileobj for key, _ in self._selector.select()]
            if self._ended in ready:
                return
            for each in ready:
                if each is self.listener:
                    self._accept()
                elif isinstance(each, socket.socket):
                    self._selector.unregister(each)
                    self._answer(each)

    def _accept(self) -> None:
        try:
            connection, _ = self.listener.accept()
        except OSError:  # the caller has left, or no descriptor is free; the server will say so
            self._selector.unregister(self.listener)
            return
        connection.setblocking(False)
        self._kept.append(connection)
        self._selector.register(connection, selectors.EVENT_READ)
        if len(self._kept) >= MAX_KEPT:
            self._selector.unregister(self.listener)

    def _answer(self, connection: socket.socket) -> None:
        """Answer a whole health check; leave any other request to the server, as it is."""
        try:
            begin = connection.recv(_MAX_REQUEST_BYTES, socket.MSG_PEEK)
            answers = (each for check, each in _ANSWERS.items() if begin.startswith(check))
            if (answer := next(answers, None)) is None:
                return
            if not begin.endswith(b"\r\n\r\n") or begin.count(b"\r\n\r\n") > 1:
                return
            connection.recv(len(begin))
            connection.sendall(answer)
            connection.shutdown(socket.SHUT_WR)
        except OSError:  # the caller has left
            pass
        self._kept.remove(connection)
        connection.close()
