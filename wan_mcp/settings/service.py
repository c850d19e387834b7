"""The settings of a server that serves others over HTTP, and of its operator."""

from typing import Annotated

from pydantic import BaseModel, BeforeValidator, Field

from wan_mcp.settings.values import Port, must_be

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


Address = Annotated[str, BeforeValidator(_address)]


class ServiceSettings(BaseModel):
    """What only an operator of a service sets.

    Attributes:
        drain_seconds: after the signal to stop, for so long the server still answers what is free
            of charge, while it is not ready any more.
        metrics_port: where metrics are shown; unset: nothing is counted.
        metrics_host: the address of this machine at which they are, an IP address.
    """

    drain_seconds: Pause = Field(default=0, alias="WAN_MCP_DRAIN_SECONDS")
    metrics_port: Port | None = Field(default=None, alias="WAN_MCP_METRICS_PORT")
    metrics_host: Address = Field(default="127.0.0.1", alias="WAN_MCP_METRICS_HOST")
