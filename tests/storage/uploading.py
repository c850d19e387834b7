"""A user with a large file, a bucket behind a slow line, and servers that upload the file."""

import asyncio
import hashlib
import json
import os
import random
import struct
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any

import anyio

from tests.bench.bench import HELLO, PLAIN
from tests.storage.s3 import S3, URL
from wan_mcp.sandbox import Sandbox, Terms

MB = 1_000_000
TERMS = Terms(credits=10_000, pending_seconds=0, processing_seconds=0)
MEDIA = resources.files("wan_mcp.sandbox") / "media"
_LARGEST_ANSWER = 1 << 24

# What hosts start, but as it is without the extra `media`: files go as they are.
_START = """
from wan_mcp.inputs import probe

probe.available = lambda: False

from wan_mcp.__main__ import main

raise SystemExit(main())
"""


@dataclass(frozen=True)
class Files:
    """The inputs of a job on the disk of this computer.

    Attributes:
        clip: a clip with that much of something behind it that players skip.
        sha256: the hash of all of it, in hex digits.
    """

    folder: Path
    clip: Path
    picture: Path
    sha256: str

    @classmethod
    def made(cls, folder: Path, size: int) -> "Files":
        """Write them.

        Args:
            size: how many bytes the clip is to have.
        """
        clip, picture = folder / "clip.mp4", folder / "character.png"
        picture.write_bytes((MEDIA / "character.png").read_bytes())
        start = (MEDIA / "clip.mp4").read_bytes()
        left = size - len(start)
        block = random.Random(size).randbytes(MB)
        digest = hashlib.sha256()
        with clip.open("wb") as file:
            rest = iter(range(left - 8, 0, -MB))
            for data in (
                start,
                struct.pack(">I4s", left, b"free"),
                *(block[:missing] for missing in rest),
            ):
                digest.update(data)
                file.write(data)
        return cls(folder, clip, picture, digest.hexdigest())

    @property
    def arguments(self) -> dict[str, str]:
        """What a call gives for them."""
        return {"video": str(self.clip), "character_image": str(self.picture)}

    @property
    def object(self) -> str:
        """The name under which the clip is in the bucket."""
        return f"some/prefix/inputs/{self.sha256}.mp4"

    def is_in(self, s3: S3) -> bool:
        """Whether the bucket has the clip, with the right bytes."""
        stored = s3.objects().get(self.object)
        if stored is None:
            return False
        with stored.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest() == self.sha256


def settings(files: Files, sandbox: Sandbox, s3: S3, endpoint: str) -> dict[str, str]:
    """The environment of a server that uploads these files over a line."""
    return {
        **PLAIN,
        **s3.environment(AWS_ENDPOINT_URL=endpoint),
        "PIXELDOJO_API_BASE": sandbox.api_base,
        "PIXELDOJO_API_KEY": sandbox.key,
        "WAN_MCP_STORAGE_URL": URL,
        "WAN_MCP_INPUT_DIRS": str(files.folder),
        "WAN_MCP_MAX_CREDITS_PER_DAY": "100000",
    }


class Process:
    """A server as a process, spoken to over stdio; one question at a time."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process
        self._asked = 0

    async def ask(self, method: str, **params: Any) -> dict[str, Any]:
        """The result of a request."""
        id = await self.begin(method, **params)
        assert self._process.stdout is not None
        while line := await self._process.stdout.readline():
            answer = json.loads(line)
            if answer.get("id") == id:
                return dict(answer["result"])
        raise RuntimeError("the server has ended")

    async def begin(self, method: str, **params: Any) -> int:
        """Send a request, and wait for nothing."""
        self._asked += 1
        await self._send({"id": self._asked, "method": method, "params": params})
        return self._asked

    async def call(self, tool: str, **arguments: Any) -> dict[str, Any]:
        """The data of a tool's answer."""
        answer = await self.ask("tools/call", name=tool, arguments=arguments)
        return dict(answer["structuredContent"])

    async def ended(self, answer: dict[str, Any]) -> dict[str, Any]:
        """How a request has ended that is not sent yet, or that runs; one that failed has none."""
        while answer.get("status") in ("submitting", "pending", "running"):
            answer = await self.call("wait_for_job", job_id=answer["job_id"])
        return answer

    async def kill(self) -> None:
        """End it at once, as no program can prevent."""
        self._process.kill()
        await self._process.wait()

    async def close(self) -> None:
        """End the session, as a host does that is closed; the server ends by itself."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        await self._process.wait()

    async def initialize(self) -> None:
        """Begin the session."""
        await self.ask("initialize", **HELLO)
        await self._send({"method": "notifications/initialized"})

    async def _send(self, message: dict[str, Any]) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps({"jsonrpc": "2.0", **message}).encode() + b"\n")
        await self._process.stdin.drain()


@asynccontextmanager
async def server_process(data: Path, environment: dict[str, str]) -> AsyncIterator[Process]:
    """A server with its ledger in `data`; it is killed at the end, if it has not ended."""
    with (data.parent / "log").open("ab") as log:
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-c", _START),
            env={**os.environ, **environment, "WAN_MCP_DATA_DIR": str(data)},
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=log,
            limit=_LARGEST_ANSWER,
        )
        try:
            server = Process(process)
            await server.initialize()
            yield server
        finally:
            if process.returncode is None:
                process.kill()
            with anyio.CancelScope(shield=True):  # else it would be left behind after a cancel
                assert process.stdin is not None
                process.stdin.close()
                await process.wait()
