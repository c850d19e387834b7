"""Which scope a request needs.

Only the body decides: headers that repeat its method and its tool may say something else.
"""

import json
from collections.abc import Set

from wan_mcp.tenants.caller import MAKE, READ

ALL = (READ, MAKE)
"""The scopes that a client requests at first, so that it need not ask twice."""
READING_TOOLS = frozenset({"get_job_status", "wait_for_job", "list_jobs", "check_credits"})
"""The tools that change nothing."""
_CHANGING_METHODS = frozenset({"tasks/cancel"})


def needed(body: bytes | None) -> tuple[str, ...]:
    """All scopes that a request needs.

    Args:
        body: the body of a POST, b"" for other methods; None if it is too long to be read.
    """
    if body == b"":
        return (READ,)  # the method is not POST
    return (READ,) if body is not None and _only_reads(body) else ALL


def missing(needed: tuple[str, ...], granted: Set[str]) -> bool:
    """Whether a needed scope is not granted. Permission to buy jobs includes reading them."""
    return bool(set(needed) - granted - ({READ} if MAKE in granted else set()))


def _only_reads(body: bytes) -> bool:
    """Whether a message changes nothing; False for one that cannot be read."""
    # The SDK reads it once more, for some revisions with another parser, which may be able to read
    # what this one cannot, such as a number of 5,000 digits.
    try:
        message = json.loads(body)
    except (ValueError, RecursionError):
        return False
    if not isinstance(message, dict):
        return False
    method, params = message.get("method", ""), message.get("params")
    if method != "tools/call":
        return isinstance(method, str) and method not in _CHANGING_METHODS
    name = params.get("name") if isinstance(params, dict) else None
    return isinstance(name, str) and name in READING_TOOLS
