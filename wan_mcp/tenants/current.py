"""Whose request is served now, for everything that a request starts.

A task that works for several callers, such as the reconciliation of a wallet, must not use this: it
would find the caller whose request happened to start the task.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

from wan_mcp.tenants.caller import Caller

_CALLER: ContextVar[Caller | None] = ContextVar("wan_mcp_caller", default=None)


def current_caller() -> Caller | None:
    """The caller whose request is served now; None at a server without sign-in."""
    return _CALLER.get()


@contextmanager
def calling(caller: Caller) -> Iterator[None]:
    """Within it, and in the tasks that are started within it, requests come from this caller."""
    before = _CALLER.set(caller)
    try:
        yield
    finally:
        _CALLER.reset(before)
