"""Decodes lines of JSON-RPC, or refuses them with the id that can be read.

A client whose request gets no answer waits until its own timeout. So a line that is not a valid
message, but shows that it is a request and what its id is, gets an error. Before revision
2025-11-25 an error without an id is not valid, so a line without one (garbage, a batch) gets no
answer.
"""

import json
import re
from dataclasses import dataclass
from typing import Any

from mcp.types import ErrorData, JSONRPCError, JSONRPCMessage, jsonrpc_message_adapter

from wan_mcp.front_desk.lines import MAX_LINE_BYTES, Line, LongLine

_INVALID_REQUEST = -32600
_MEMBER = r'"(\w{1,20})"\s*:\s*("[^"\\]{0,200}"|-?\d{1,18})'
# Neither reaches a nested object: only plain members are between them and the outermost brace.
_FIRST_MEMBERS = re.compile(rf"\s*\{{\s*(?:{_MEMBER}\s*,\s*)*")
_LAST_MEMBERS = re.compile(rf"(?:,\s*{_MEMBER}\s*)+\}}\s*$")


@dataclass(frozen=True)
class Unreadable:
    """A request that cannot be read.

    Attributes:
        answer: the error that its sender gets.
    """

    answer: JSONRPCError


def decoded(line: Line) -> JSONRPCMessage | Unreadable | None:
    """The message of a line; None if it is not a message, and no answer is possible."""
    if isinstance(line, LongLine):
        return _refused(_members(line), f"The message is longer than {MAX_LINE_BYTES:,} bytes.")
    text = line.decode("utf-8-sig", errors="replace")  # some Windows shells begin with a BOM
    try:
        return jsonrpc_message_adapter.validate_json(text, by_name=False)
    except ValueError:
        pass
    try:
        document = json.loads(text)
    except (ValueError, RecursionError):
        return None
    return _refused(
        document if isinstance(document, dict) else {},
        "This is not a valid JSON-RPC 2.0 request: check that params is an object and that no text "
        "has half of a surrogate pair.",
    )


def _members(line: LongLine) -> dict[str, Any]:
    """The plain members at the beginning and at the end of the outermost object."""
    head = line.head.decode("utf-8-sig", errors="replace")
    tail = line.tail.decode("utf-8", errors="replace")
    ends = (_FIRST_MEMBERS.match(head), _LAST_MEMBERS.search(tail))
    return {
        name: json.loads(value)
        for end in ends
        if end is not None
        for name, value in re.findall(_MEMBER, end[0])
    }


def _refused(members: dict[str, Any], why: str) -> Unreadable | None:
    id = members.get("id")
    # Only a request is answered: the id of an answer is one of ours, not of the sender's.
    if type(id) not in (str, int) or not isinstance(members.get("method"), str):
        return None
    error = ErrorData(code=_INVALID_REQUEST, message=why)
    return Unreadable(JSONRPCError(jsonrpc="2.0", id=id, error=error))
