"""Files of this computer from a call to the finished video, through a real S3 server or lent."""

import shutil
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import pytest
from mcp.client import Client

import wan_mcp.sandbox
from tests.storage.conftest import running_s3, s3
from tests.storage.s3 import S3, SECRET, URL
from wan_mcp.sandbox import Sandbox, Terms
from wan_mcp.server import build_server
from wan_mcp.settings import Settings

pytestmark = pytest.mark.anyio

_ = running_s3, s3
MEDIA = Path(wan_mcp.sandbox.__file__).parent / "media"
TERMS = Terms(videos="own", pending_seconds=0, processing_seconds=0)
"""The videos are rendered from the inputs, which PixelDojo has to fetch for that."""


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """A folder with a clip and a picture."""
    folder = tmp_path / "Videos"
    folder.mkdir()
    shutil.copy(MEDIA / "clip.mp4", folder / "dance.mp4")
    shutil.copy(MEDIA / "character.png", folder / "ana.png")
    return folder


@pytest.fixture
async def sandbox() -> AsyncIterator[Sandbox]:
    pytest.importorskip("av", reason="the extra media is not installed")
    async with Sandbox(TERMS) as sandbox:
        yield sandbox


class Host:
    """A host over stdio."""

    def __init__(self, client: Client) -> None:
        self._client = client

    async def call(self, tool: str, **arguments: Any) -> dict[str, Any]:
        return (await self._client.call_tool(tool, arguments)).structured_content or {}

    async def made(self, **arguments: Any) -> dict[str, Any]:
        """The answer about the job when it has ended."""
        started = await self.call("replace_character", video_duration=1, **arguments)
        answer = started
        while answer.get("status") in ("submitting", "running"):
            answer = await self.call("wait_for_job", job_id=started["job_id"], timeout_seconds=60)
        return answer


@asynccontextmanager
async def connected(sandbox: Sandbox, home: Path, **settings: str) -> AsyncIterator[Host]:
    given = {
        "PIXELDOJO_API_BASE": sandbox.api_base,
        "PIXELDOJO_API_KEY": sandbox.key,
        "WAN_MCP_DATA_DIR": str(home.parent / "data"),
        "WAN_MCP_INPUT_DIRS": str(home),
        "WAN_MCP_POSTER": "off",
        **settings,
    }
    async with Client(build_server(Settings.read(given, home), local=True)) as client:
        yield Host(client)


async def test_a_path_becomes_a_video_and_that_video_the_next_input(
    sandbox: Sandbox, home: Path, s3: S3
) -> None:
    """One upload of each content, one charge for each job, and links that PixelDojo can fetch."""
    given = {"video": f"{home}/dance.mp4#t=1", "character_image": str(home / "ana.png")}
    environment = s3.environment()
    async with connected(sandbox, home, WAN_MCP_STORAGE_URL=URL, **environment) as host:
        first = await host.made(**given)
        again = await host.call("replace_character", video_duration=1, **given)
        uploaded = len(s3.objects())
        sandbox.terms = replace(TERMS, videos="sample")  # once is enough to see links fetched
        chain = {**given, "video": f"wan://jobs/{first['job_id']}/video"}
        second = await host.made(**chain)
        [later, earlier] = (await host.call("list_jobs"))["jobs"]

    assert (first["status"], second["status"]) == ("completed", "completed"), (first, second)
    assert (again["job_id"], again["charged"]) == (first["job_id"], "no")
    assert uploaded == 2
    assert len(s3.objects()) == 3
    assert len(sandbox.charges) == 2
    assert "X-Amz-Signature" in str(sandbox.charges[0].body["video"])
    assert "dance.mp4" in earlier["source_video"]
    assert first["job_id"] in later["source_video"]
    data = home.parent / "data"
    assert not list((data / "prepared").iterdir())
    kept = b"".join(path.read_bytes() for path in data.rglob("*") if path.is_file())
    assert b"dance.mp4" in kept
    assert not [secret for secret in (b"X-Amz-", SECRET.encode()) if secret in kept]


async def test_a_file_is_lent_through_an_address_of_the_users(sandbox: Sandbox, home: Path) -> None:
    """Without a bucket, while the job runs. Here the address is the port itself."""
    sandbox.terms = Terms(processing_seconds=3_600)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    address = f"http://127.0.0.1:{port}"
    settings = {"WAN_MCP_PUBLIC_URL": address, "WAN_MCP_PUBLIC_PORT": str(port)}
    async with connected(sandbox, home, **settings) as host:
        given = {"video": f"{home}/dance.mp4", "character_image": sandbox.image_url}
        await host.call("replace_character", video_duration=1, **given)
        await sandbox.until(lambda: len(sandbox.charges) == 1)
        link = str(sandbox.charges[0].body["video"])
        async with httpx.AsyncClient(trust_env=False) as pixeldojo:
            lent = await pixeldojo.get(link)

    assert link.startswith(address)
    assert (lent.status_code, lent.headers["content-type"]) == (200, "video/mp4")
    assert b"moov" in lent.content


async def test_without_a_way_to_pixeldojo_a_file_is_refused_with_three_ways(
    sandbox: Sandbox, home: Path
) -> None:
    """Nothing is read, claimed or sent."""
    async with connected(sandbox, home) as host:
        refused = await host.call(
            "replace_character",
            video=f"{home}/dance.mp4",
            character_image=sandbox.image_url,
        )
        listed = await host.call("list_jobs", status="not_sent")

    assert (refused["code"], refused["charged"]) == ("invalid_arguments", "no")
    ways = ["public https link", "WAN_MCP_STORAGE_URL", "WAN_MCP_PUBLIC_URL"]
    places = [refused["next"].find(way) for way in ways]
    assert places == sorted(places)
    assert places[0] > 0
    assert listed["jobs"] == []
    assert sandbox.charges == []
