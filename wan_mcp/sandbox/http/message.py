"""A request as it arrived, and a reply as it will leave."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qs

import h11


@dataclass
class Request:
    """One request that reached the sandbox.

    Attributes:
        method: such as "POST".
        target: path and query, exactly as sent.
        headers: names in lower case; the values of a repeated name are joined by a comma.
        connection: the number of the TCP connection that brought it; the first is 1.
        body: empty until it has been read.
    """

    method: str
    target: str
    headers: Mapping[str, str]
    connection: int
    body: bytes = b""

    @property
    def path(self) -> str:
        """The target without its query."""
        return self.target.partition("?")[0]

    @property
    def query(self) -> dict[str, str]:
        """The query's parameters; of a repeated one, the last value."""
        return {
            name: values[-1] for name, values in parse_qs(self.target.partition("?")[2]).items()
        }

    def json(self) -> Any:
        """The body as JSON.

        Raises:
            ValueError: it is not JSON.
        """
        return json.loads(self.body)


@dataclass(frozen=True)
class Reply:
    """A status, headers and the whole body.

    Raises:
        ValueError: the status is not within 200 to 599, or HTTP does not allow the headers.
    """

    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes = b""

    def __post_init__(self) -> None:
        if not 200 <= self.status <= 599:
            raise ValueError(f"status must be 200 to 599, not {self.status!r}")
        try:
            h11.Response(status_code=self.status, headers=[*self.headers.items()])
        except h11.LocalProtocolError as exc:
            raise ValueError(f"headers: {exc}") from exc


def json_reply(value: object, status: int = 200, headers: Mapping[str, str] | None = None) -> Reply:
    """Any value as JSON. NaN and infinities are written as Python does it, which is not JSON."""
    content_type = {"Content-Type": "application/json"}
    return Reply(status, content_type | dict(headers or {}), json.dumps(value).encode())


def text_reply(text: str, status: int = 200, headers: Mapping[str, str] | None = None) -> Reply:
    """Text as HTML if it begins with "<", otherwise as plain text."""
    media_type = "text/html" if text.startswith("<") else "text/plain"
    content_type = {"Content-Type": f"{media_type}; charset=utf-8"}
    return Reply(status, content_type | dict(headers or {}), text.encode())
