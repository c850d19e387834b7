"""The settings of a server that serves others over HTTP, and of its operator."""

import re
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, BeforeValidator, Field

from wan_mcp.settings.values import Port, Switch, must_be

MAX_DRAIN_SECONDS = 300.0
"""Longer than any supervisor waits for the end of a process (assumed)."""

Pause = Annotated[
    float,
    Field(ge=0, le=MAX_DRAIN_SECONDS, allow_inf_nan=False),
    must_be(f"a number of seconds from 0 to {MAX_DRAIN_SECONDS:g}"),
]


def _address(value: object) -> str:
    import ipaddress  # most servers have no such setting

    try:
        return str(ipaddress.ip_address(str(value)))
    except ValueError:
        raise ValueError("must be an IP address, such as 0.0.0.0 for all of this machine") from None


def _listed(is_right: Callable[[str], object], allowed: str) -> Callable[[object], tuple[str, ...]]:
    """Reads words with commas between them, each of one form."""

    def read(value: object) -> tuple[str, ...]:
        words = value if isinstance(value, tuple) else str(value).split(",")
        found = tuple(filter(None, (str(word).strip() for word in words)))
        if not all(map(is_right, found)):
            raise ValueError(f"must be {allowed}, with commas between them")
        return found

    return read


def _is_network(word: str) -> bool:
    import ipaddress

    try:
        return ipaddress.ip_network(word).prefixlen > 0  # else everybody would be believed
    except ValueError:
        return False


TOOLS = (
    *("replace_character", "get_job_status", "wait_for_job", "list_jobs", "check_credits"),
    *("cancel_job", "keep_video"),
)
"""The names of all tools."""
_NAME = r"[a-z0-9]([a-z0-9.-]*[a-z0-9])?(:[0-9]{1,5})?"

TOKENS = "tokens"
"""The word for own tokens alone."""


def _signing_in(value: object) -> Path | str:
    text = str(value)
    if text != TOKENS and not Path(text).is_absolute():
        raise ValueError("must be tokens, or the full path of a file")
    return text if text == TOKENS else Path(text)


Address = Annotated[str, BeforeValidator(_address)]
SignInBy = Annotated[Path | str, BeforeValidator(_signing_in)]
LogFormat = Annotated[Literal["text", "json"], must_be("text or json")]
Tools = Annotated[
    tuple[str, ...],
    BeforeValidator(_listed(TOOLS.__contains__, f"names of tools ({', '.join(TOOLS)})")),
]
Hosts = Annotated[
    tuple[str, ...],
    BeforeValidator(
        _listed(partial(re.fullmatch, _NAME), "names of hosts in lower case, as wan.example.com")
    ),
]
Origins = Annotated[
    tuple[str, ...],
    BeforeValidator(
        _listed(
            partial(re.fullmatch, f"https?://{_NAME}"),
            "addresses of web pages without a path, as https://wan.example.com",
        )
    ),
]
Networks = Annotated[
    tuple[str, ...],
    BeforeValidator(_listed(_is_network, "IP addresses or networks, as 10.1.0.0/16")),
]


class ServiceSettings(BaseModel):
    """What only an operator of a service sets.

    Attributes:
        drain_seconds: after the signal to stop, for so long the server still answers what is free
            of charge, while it is not ready any more.
        metrics_port: where metrics are shown; unset: nothing is counted.
        metrics_host: the address of this machine at which they are, an IP address.
        log_format: how a line of the log is written.
        read_only: whether no job is bought; unset: jobs are.
        disabled_tools: the names of tools that are not offered.
        allowed_hosts: the names under which a proxy reaches this server, perhaps with a port.
        allowed_origins: the web pages that may call it, besides those of `allowed_hosts`.
        sign_in: how people sign in: `tokens`, or the full path of the file about the authorization
            servers that are trusted; unset: nobody signs in.
        personal_keys: whether users may store PixelDojo keys of their own on a page.
        trusted_proxies: whose word about the address of a caller is believed: IP addresses and
            networks.
    """

    drain_seconds: Pause = Field(default=0, alias="WAN_MCP_DRAIN_SECONDS")
    metrics_port: Port | None = Field(default=None, alias="WAN_MCP_METRICS_PORT")
    metrics_host: Address = Field(default="127.0.0.1", alias="WAN_MCP_METRICS_HOST")
    log_format: LogFormat = Field(default="text", alias="WAN_MCP_LOG_FORMAT")
    read_only: Switch | None = Field(default=None, alias="WAN_MCP_READ_ONLY")
    disabled_tools: Tools = Field(default=(), alias="WAN_MCP_DISABLED_TOOLS")
    allowed_hosts: Hosts = Field(default=(), alias="WAN_MCP_ALLOWED_HOSTS")
    allowed_origins: Origins = Field(default=(), alias="WAN_MCP_ALLOWED_ORIGINS")
    sign_in: SignInBy | None = Field(default=None, alias="WAN_MCP_SIGN_IN")
    personal_keys: Switch | None = Field(default=None, alias="WAN_MCP_PERSONAL_KEYS")
    trusted_proxies: Networks = Field(default=(), alias="WAN_MCP_TRUSTED_PROXIES")
