"""Lines that are no message: whose id can be read, and who is answered."""

import json

import pytest

from wan_mcp.front_desk.lines import LongLine
from wan_mcp.transports.messages import Unreadable, decoded

LONG = "x" * 2_000


def answered(text: str) -> object:
    """The id that the sender of a long line is answered with; None for no answer."""
    refused = decoded(LongLine(text[:1_000].encode(), text[-1_000:].encode()))
    return refused.answer.id if isinstance(refused, Unreadable) else None


@pytest.mark.parametrize(
    "message",
    [
        {"jsonrpc": "2.0", "id": 7, "method": "tools/call", "params": {"text": LONG}},
        {"method": "tools/call", "params": {"text": LONG, "id": 8}, "jsonrpc": "2.0", "id": 7},
        {"id": 7, "params": {"text": LONG, "id": 8}, "method": "tools/call"},
    ],
)
@pytest.mark.parametrize("indent", [None, 1])
def test_long_request_is_answered_wherever_its_id_stands(
    message: dict[str, object], indent: int | None
) -> None:
    """SDKs differ in the order of the members (observed)."""
    assert answered(json.dumps(message, indent=indent) + "\n") == 7


@pytest.mark.parametrize(
    "text",
    [
        json.dumps({"jsonrpc": "2.0", "id": 7, "result": {"text": LONG}}),
        json.dumps({"jsonrpc": "2.0", "method": "x", "params": {"text": LONG, "id": 7}}),
        json.dumps({"params": {"id": 7, "text": LONG}, "method": "x"}),
        json.dumps([{"id": 7, "method": "x", "params": LONG}]),
        f'{{"id": 7, "method": "x{LONG}',
        LONG,
        f'{{"a":"{{\\"id\\":7,\\"method\\":\\"x\\"{LONG}',
    ],
    ids=["answer", "notification", "nested", "batch", "cut", "garbage", "quoted"],
)
def test_id_that_is_not_certainly_that_of_a_request_is_not_used(text: str) -> None:
    """It may be the id of another request of the same client (ours)."""
    assert answered(text) is None
