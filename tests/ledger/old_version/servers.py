"""Servers of both versions as processes on one ledger, spoken to by hosts over stdio."""

import os
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mcp import Client
from mcp.client.stdio import StdioServerParameters, stdio_client

from tests.ledger.old_version.contents import ARCHIVE
from wan_mcp.sandbox import Sandbox

RUN = "/api/v1/models/*/run"

SLOWEST_SECONDS = 600
"""How long anything may take: it must not end a test on a slow machine."""

# What hosts start, but PixelDojo's answer may be held for longer than 30 s. The old version has its
# limits in a data class, the new one in a named tuple.
_START = f"""
from wan_mcp.pixeldojo.exchange import Limits

made = Limits.__new__ if issubclass(Limits, tuple) else Limits.__init__
made.__defaults__ = ({SLOWEST_SECONDS}.0,) * len(made.__defaults__)

from wan_mcp.__main__ import main

raise SystemExit(main())
"""
# -S: without the site module nothing that is installed can put itself before the archive, and a
# measurement of coverage, which starts with it, does not look for the archive's source files.
OLD_PYTHON = [sys.executable, "-S", "-P"]


def settings(sandbox: Sandbox, data: Path) -> dict[str, str]:
    """The environment of each server: no limit, and nothing that only videos need."""
    return {
        "PIXELDOJO_API_BASE": sandbox.api_base,
        "PIXELDOJO_API_KEY": sandbox.key,
        "WAN_MCP_DATA_DIR": str(data),
        "WAN_MCP_MAX_CREDITS_PER_DAY": "100000",
        "WAN_MCP_MAX_IN_FLIGHT": "1000",
        "WAN_MCP_MAX_SUBMITS_PER_MINUTE": "1000",
        "WAN_MCP_PREFLIGHT": "off",
        "WAN_MCP_ARCHIVE": "off",
        "WAN_MCP_POSTER": "off",
    }


def old_path() -> str:
    """The PYTHONPATH of a process of the old version: its archive before all else."""
    return os.pathsep.join([str(ARCHIVE), *filter(None, sys.path)])


@dataclass(frozen=True)
class Host:
    """A host on a server process."""

    client: Client
    sandbox: Sandbox

    async def call(self, tool: str, **arguments: object) -> dict[str, Any]:
        """The data of a tool's answer."""
        return (await self.client.call_tool(tool, arguments)).structured_content or {}

    async def submit(self, seed: int) -> dict[str, Any]:
        """The answer to a submit, which is "submitting" when PixelDojo takes more than 4 s."""
        inputs = {"video": self.sandbox.source_video_url, "character_image": self.sandbox.image_url}
        return await self.call("replace_character", **inputs, seed=seed)

    async def settled(self, seed: int) -> dict[str, Any]:
        """The answer to an equal submit once PixelDojo's answer is recorded.

        On a busy computer a server may have to wait for the ledger for too long: then it buys
        nothing and says that the same call may be made again.
        """
        while _is_not_the_last(answer := await self.submit(seed)):
            pass
        return answer

    async def jobs(self) -> list[dict[str, Any]]:
        """The list of jobs, newest first."""
        return list((await self.call("list_jobs"))["jobs"])

    async def status(self, id: str) -> dict[str, Any]:
        """One job, by either id."""
        return await self.call("get_job_status", job_id=id)


@asynccontextmanager
async def server(sandbox: Sandbox, data: Path, *, old: bool = False) -> AsyncIterator[Host]:
    """A host on a server that has just started; `data` is an empty folder, or another server's."""
    environment = settings(sandbox, data) | ({"PYTHONPATH": old_path()} if old else {})
    command, *options = OLD_PYTHON if old else [sys.executable]
    started = StdioServerParameters(
        command=command, args=[*options, "-c", _START], env=environment, cwd=data
    )
    with (data / f"{'old' if old else 'new'}.log").open("a") as log:
        async with Client(stdio_client(started, errlog=log)) as client:
            yield Host(client, sandbox)


def _is_not_the_last(answer: dict[str, Any]) -> bool:
    return answer.get("status") == "submitting" or bool(answer.get("retry_safe"))
