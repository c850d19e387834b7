"""A request as it arrived and a reply as it will leave."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qs

import h11


@dataclass
class Request:
    """One request that reached the sandbox; `body` stays empty until it has been read."""

    method: str
    target: str
    """Path and query, exactly as sent."""
    headers: Mapping[str, str]
    """Names in lower case; repeated ones joined by a comma."""
    connection: int
    """Which TCP connection brought it; the first is 1."""
    body: bytes = b""

    @property
    def path(self) -> str:
        return self.target.partition("?")[0]

    @property
    def query(self) -> dict[str, str]:
        return {
            name: values[-1] for name, values in parse_qs(self.target.partition("?")[2]).items()
        }

    def json(self) -> Any:
        """The body as JSON. Raises: ValueError."""
        return json.loads(self.body)


@dataclass(frozen=True)
class Reply:
    """A status of 200 to 599, headers and the whole body. Raises: ValueError for any other."""

    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes = b""

    def __post_init__(self) -> None:
        if not 200 <= self.status <= 599:
            raise ValueError(f"status must be 200 to 599, not {self.status!r}")
        try:
            h11.Response(status_code=self.status, headers=[*self.headers.items()])
        except h11.LocalProtocolError as wrong:
            raise ValueError(f"headers: {wrong}") from wrong


def json_reply(value: object, status: int = 200, headers: Mapping[str, str] | None = None) -> Reply:
    """Any value as JSON; NaN and infinities are written as Python does, which is not JSON."""
    content_type = {"Content-Type": "application/json"}
    return Reply(status, content_type | dict(headers or {}), json.dumps(value).encode())


def text_reply(text: str, status: int = 200, headers: Mapping[str, str] | None = None) -> Reply:
    kind = "text/html" if text.startswith("<") else "text/plain"
    content_type = {"Content-Type": f"{kind}; charset=utf-8"}
    return Reply(status, content_type | dict(headers or {}), text.encode())
