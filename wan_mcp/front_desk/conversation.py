"""Which early message gets which answer. In doubt it gets none, and the SDK answers.

The rules are those by which the SDK decides: the first request other than `server/discover`
settles the era of the protocol for the whole connection, and in the older era nothing but `ping` is
answered before `initialize`. A message that is not understood here may be understood there, and may
change what later ones get; then nothing more is answered.
"""

from __future__ import annotations

import json

from wan_mcp.front_desk import client
from wan_mcp.front_desk.snapshot import Snapshot

TYPE_CHECKING = False  # `typing` itself takes several ms to import
if TYPE_CHECKING:
    from typing import Any

MAX_LINE_BYTES = 32 * 1024
"""The longest line that the desk reads; a client's first messages have a few hundred bytes."""
MAX_BRACKETS = 100
"""Deeper nesting is left to the SDK, which has a limit of its own."""
_MEMBERS = {"jsonrpc", "id", "method", "params"}
_BYTE_ORDER_MARK = b"\xef\xbb\xbf"


class Conversation:
    """The first messages of one connection, and what the desk may answer to them.

    Args:
        snapshot: the answers.
    """

    def __init__(self, snapshot: Snapshot) -> None:
        self._snapshot = snapshot
        self._is_understood = True
        self._era: str | None = None
        self._revision: str | None = None
        """The revision that `initialize` settled."""
        self._shows_pages = False
        """What `initialize` said about that."""
        self._left_to_sdk: set[str] = set()

    def answer(self, line: bytes) -> bytes | None:
        """The answer to one line, or None when the SDK has to answer, or nobody."""
        if not self._is_understood or not line.strip():
            return None
        message = _message(line)
        if message is None:
            self._is_understood = False
            return None
        if "id" not in message:
            return None
        result = self._result(message["method"], message.get("params", {}))
        # Answers are recognised by the id, so an id that is in use must not be used twice. The SDK
        # takes 1 and "1" for the same in a cancellation.
        key = str(message["id"])
        if result is None or key in self._left_to_sdk:
            self._left_to_sdk.add(key)
            return None
        return _encoded(message["id"], result)

    def _result(self, method: str, params: dict[str, Any]) -> object:
        """The result of a request; in any case the state is afterwards that of the SDK."""
        is_modern = client.names_revision(params)
        if self._era is None and method != "server/discover":
            self._era = "modern" if is_modern and method != "initialize" else "handshake"
        if self._era == "handshake":
            return None if is_modern else self._handshake_result(method, params)
        revision = client.modern_revision(params, self._snapshot.modern)
        if not revision:
            return None
        return self._snapshot.result(revision, method, pages=client.modern_shows_pages(params))

    def _handshake_result(self, method: str, params: dict[str, Any]) -> object:
        if method == "initialize":
            if not client.is_hello(params):
                self._is_understood = False
                return None
            self._revision = self._snapshot.negotiated(params["protocolVersion"])
            self._shows_pages = client.shows_pages(params["capabilities"])
            return self._snapshot.result(self._revision, method)
        if not client.is_plain(params):
            return None
        if method == "ping":
            return self._snapshot.result(self._revision or self._snapshot.counter_offer, method)
        pages = self._shows_pages
        return self._revision and self._snapshot.result(self._revision, method, pages=pages)


def _message(line: bytes) -> dict[str, Any] | None:
    """The request or notification in a line; None if two readers of JSON might differ about it."""
    if len(line) > MAX_LINE_BYTES or line.count(b"[") + line.count(b"{") > MAX_BRACKETS:
        return None
    if b"\\ud" in line.lower():  # perhaps half of a surrogate pair
        return None
    try:
        text = line.removeprefix(_BYTE_ORDER_MARK).decode()
        message = json.loads(text, object_pairs_hook=_without_repetition, parse_constant=_refuse)
    except ValueError:
        return None
    if not isinstance(message, dict) or not message.keys() <= _MEMBERS:
        return None
    is_known = message.get("jsonrpc") == "2.0" and isinstance(message.get("method"), str)
    has_params = isinstance(message.get("params", {}), dict)
    return message if is_known and has_params and _is_id(message.get("id", 0)) else None


def _is_id(id: object) -> bool:
    return isinstance(id, str) or (type(id) is int and abs(id) < 2**53)


def _without_repetition(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    members = dict(pairs)
    if len(members) < len(pairs):
        raise ValueError("a name is repeated")
    return members


def _refuse(constant: str) -> None:
    raise ValueError(f"{constant} is not JSON")


def _encoded(id: object, result: object) -> bytes:
    answer = {"jsonrpc": "2.0", "id": id, "result": result}
    text = json.dumps(answer, ensure_ascii=False, separators=(",", ":"))
    return text.encode() + b"\n"
