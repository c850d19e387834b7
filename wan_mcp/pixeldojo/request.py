"""A request to PixelDojo before it is sent, and the time that it may take."""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

Commit = Callable[[], Awaitable[None]]
"""Writes down that a paid request is about to be sent."""


class Limits(NamedTuple):
    """How long each part of one request may take, in seconds (ours).

    Attributes:
        connect: to open the connection.
        write: for one write.
        read: between two pieces of the answer.
        submit_total: for a whole paid request.
        read_total: for a whole free request.
    """

    connect: float = 5.0
    write: float = 10.0
    read: float = 30.0
    submit_total: float = 40.0
    read_total: float = 15.0


@dataclass(frozen=True)
class Request:
    """A request before it is sent.

    Attributes:
        body: sent as JSON; only the paid request has a body.
        before_sending: awaited after connecting, before the first byte of the headers is sent; if
            it raises, nothing is sent.
    """

    method: str
    url: str
    headers: Mapping[str, str] = field(repr=False)  # one of them is the API key
    body: Mapping[str, Any] | None = None
    before_sending: Commit | None = None

    @property
    def paid(self) -> bool:
        """Whether this request may cost credits."""
        return self.body is not None
