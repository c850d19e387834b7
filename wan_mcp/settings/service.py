"""The settings of a server that serves others over HTTP, and of its operator."""

from typing import Annotated

from pydantic import BaseModel, Field

from wan_mcp.settings.values import must_be

MAX_DRAIN_SECONDS = 300.0
"""Longer than any supervisor waits for the end of a process (assumed)."""

Pause = Annotated[
    float,
    Field(ge=0, le=MAX_DRAIN_SECONDS, allow_inf_nan=False),
    must_be(f"a number of seconds from 0 to {MAX_DRAIN_SECONDS:g}"),
]


class ServiceSettings(BaseModel):
    """What only an operator of a service sets.

    Attributes:
        drain_seconds: after the signal to stop, for so long the server still answers what is free
            of charge, while it is not ready any more.
    """

    drain_seconds: Pause = Field(default=0, alias="WAN_MCP_DRAIN_SECONDS")
