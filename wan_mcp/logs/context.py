"""What the lines of a log belong to: the request that is served, and the paid request in it."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from types import MappingProxyType

_NOTHING: Mapping[str, str] = MappingProxyType({})
_BELONGS: ContextVar[Mapping[str, str]] = ContextVar("wan_mcp_log", default=_NOTHING)


@contextmanager
def lines_about(**ids: str) -> Iterator[None]:
    """Within it, and in the tasks that are started within it, lines carry these ids.

    Args:
        ids: names of ours, and values in which nothing of a caller is repeated.
    """
    before = _BELONGS.set({**_BELONGS.get(), **ids})
    try:
        yield
    finally:
        _BELONGS.reset(before)


def ids_of_line() -> Mapping[str, str]:
    """The ids that a line carries which is written now."""
    return _BELONGS.get()
