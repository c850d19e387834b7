"""Whose request is served now, for everything that a request starts.

A task that serves several callers, as the reconciliation of a wallet, must not ask: it would find
whoever happened to start it.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

from wan_mcp.tenants.caller import Caller

_CALLER: ContextVar[Caller | None] = ContextVar("wan_mcp_caller", default=None)


def current_caller() -> Caller | None:
    """Who the request comes from that is served now; None where nobody signs in."""
    return _CALLER.get()


@contextmanager
def calling(caller: Caller) -> Iterator[None]:
    """Within it, and in the tasks that are started within it, requests come from this caller."""
    before = _CALLER.set(caller)
    try:
        yield
    finally:
        _CALLER.reset(before)
