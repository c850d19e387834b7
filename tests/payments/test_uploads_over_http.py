"""Files of users over HTTP, from a refused path to the finished video, through a real S3 server."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import pytest
from mcp.client import Client
from starlette.applications import Starlette

import wan_mcp.sandbox
from tests.storage.conftest import running_s3, s3
from tests.storage.s3 import S3, SECRET, URL
from wan_mcp.inputs.received import inspected
from wan_mcp.sandbox import Sandbox, Terms
from wan_mcp.server import RunningServer, build_server
from wan_mcp.settings import Settings
from wan_mcp.transports.operations.proxies import NOBODY_ELSE
from wan_mcp.transports.uploads import UploadSite

pytestmark = pytest.mark.anyio

_ = running_s3, s3
MEDIA = Path(wan_mcp.sandbox.__file__).parent / "media"
CLIP = (MEDIA / "clip.mp4").read_bytes()
PICTURE = (MEDIA / "character.png").read_bytes()
TERMS = Terms(pending_seconds=0, processing_seconds=0)
HERE = "http://127.0.0.1:8765"
PATHS = {"video": "~/Videos/dance.mp4", "character_image": "C:\\Users\\ana\\ana.png"}


class User:
    """A user of a server over HTTP: an assistant, and a browser or a shell.

    Attributes:
        web: what uploads.
        text: the text of the last answer.
    """

    def __init__(self, client: Client, web: httpx.AsyncClient) -> None:
        self.client = client
        self.web = web
        self.text = ""

    async def call(self, tool: str, **arguments: Any) -> dict[str, Any]:
        result = await self.client.call_tool(tool, arguments)
        self.text = getattr(result.content[0], "text", "")
        return result.structured_content or {}

    async def ordered(self, **arguments: Any) -> dict[str, Any]:
        return await self.call("replace_character", video_duration=1, **arguments)

    async def ended(self, answer: dict[str, Any]) -> dict[str, Any]:
        while answer.get("status") in ("submitting", "running", "queued"):
            answer = await self.call("wait_for_job", job_id=answer["job_id"], timeout_seconds=60)
        return answer

    async def upload(self, page: str, slot: str, data: bytes) -> dict[str, Any]:
        answer = await self.web.put(f"{page}/{slot}", content=data)
        return {"status": answer.status_code, **answer.json()}

    async def uploaded(self) -> dict[str, str]:
        """Both files as inputs, after a refused call with their paths."""
        page = (await self.ordered(**PATHS))["upload_page"]
        clip = await self.upload(page, "video", CLIP)
        picture = await self.upload(page, "image", PICTURE)
        return {"video": clip["uri"], "character_image": picture["uri"]}


@pytest.fixture
async def sandbox() -> AsyncIterator[Sandbox]:
    async with Sandbox(TERMS) as sandbox:
        yield sandbox


@pytest.fixture(autouse=True)
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """A busy machine may take long to find an upload (ours)."""
    monkeypatch.setattr("wan_mcp.inputs.received.own_uploads.FIND_SECONDS", 600)
    monkeypatch.setattr(inspected, "LOOK_SECONDS", 600)


@asynccontextmanager
async def connected(sandbox: Sandbox, data: Path, s3: S3, **settings: str) -> AsyncIterator[User]:
    given = {
        "PIXELDOJO_API_BASE": sandbox.api_base,
        "PIXELDOJO_API_KEY": sandbox.key,
        "WAN_MCP_DATA_DIR": str(data),
        "WAN_MCP_STORAGE_URL": URL,
        **s3.environment(),
        **settings,
    }
    running = RunningServer()
    read = Settings.read({name: value for name, value in given.items() if value}, data)
    server = build_server(read, running=running, upload_page=f"{HERE}/uploads")
    site = UploadSite(lambda: running.uploads, NOBODY_ELSE.page_rules(8765))
    web = httpx.ASGITransport(Starlette(routes=list(site.routes)))
    async with Client(server) as client, httpx.AsyncClient(transport=web, base_url=HERE) as caller:
        yield User(client, caller)


def everything_in(folder: Path) -> bytes:
    return b"".join(path.read_bytes() for path in folder.rglob("*") if path.is_file())


async def test_a_path_becomes_a_page_and_what_is_uploaded_there_a_video(
    sandbox: Sandbox, tmp_path: Path, s3: S3
) -> None:
    """The refusal is free, and the record says what was sent (ours)."""
    async with connected(sandbox, tmp_path, s3) as user:
        refused = await user.ordered(**PATHS)
        text, asked = user.text, len(sandbox.requests)
        page = refused["upload_page"]
        shown = await user.web.get(page)
        clip = await user.upload(page, "video", CLIP)
        picture = await user.upload(page, "image", PICTURE)
        given = {"video": f"{clip['uri']}#t=0,1", "character_image": picture["uri"]}
        done = await user.ended(await user.ordered(**given))
        again = await user.ordered(**given)
        [listed] = (await user.call("list_jobs"))["jobs"]

    assert (refused["code"], refused["charged"]) == ("invalid_arguments", "no")
    assert asked == 0
    assert page.startswith(f"{HERE}/uploads/")
    assert text.count(page) >= 2
    assert not [path for path in PATHS.values() if path in text]
    assert clip["uri"] in refused["next"]
    assert picture["uri"] in refused["next"]
    assert (shown.status_code, clip["status"], picture["status"]) == (200, 201, 201)
    assert done["status"] == "completed", done
    assert (again["job_id"], again["charged"]) == (done["job_id"], "no")
    assert listed["source_video"] == given["video"]
    assert len(sandbox.charges) == 1
    assert "X-Amz-Signature" in str(sandbox.charges[0].body["video"])
    assert everything_in(tmp_path / "prepared") == b""
    kept = everything_in(tmp_path)
    assert clip["sha256"].encode() in kept
    assert not [each for each in (b"X-Amz-", SECRET.encode(), page.encode()) if each in kept]


async def test_the_same_file_uploaded_again_is_the_same_request(
    sandbox: Sandbox, tmp_path: Path, s3: S3
) -> None:
    """Files are compared by their bytes, as those of a local server (ours)."""
    async with connected(sandbox, tmp_path, s3) as user:
        first, second = await user.uploaded(), await user.uploaded()
        done = await user.ended(await user.ordered(**first))
        again = await user.ordered(**second)
        part = await user.ended(
            await user.ordered(**{**second, "video": f"{second['video']}#t=0,1"})
        )

    assert first["video"] != second["video"]
    assert (again["job_id"], again["charged"]) == (done["job_id"], "no")
    assert part["job_id"] != done["job_id"]
    assert len(sandbox.charges) == 2


async def test_an_upload_or_a_job_of_another_account_is_not_found(
    sandbox: Sandbox, tmp_path: Path, s3: S3
) -> None:
    """On the same ledger, with a page of one's own to go on (ours)."""
    async with (
        connected(sandbox, tmp_path, s3) as ana,
        connected(sandbox, tmp_path, s3, PIXELDOJO_API_KEY="pd_of_ben") as ben,
    ):
        given = await ana.uploaded()
        refused = await ben.ordered(**given)
        mine = await ben.upload(refused["upload_page"], "video", CLIP)
        still = await ana.ended(await ana.ordered(**given))
        chain = {**given, "video": f"wan://jobs/{still['job_id']}/video"}
        stolen = await ben.ordered(**{**chain, "character_image": sandbox.image_url})

    assert (stolen["code"], stolen["charged"]) == ("not_found", "no")
    assert (refused["code"], refused["charged"]) == ("not_found", "no")
    assert refused["upload_page"]
    assert mine["uri"] == given["video"]  # the same id, on another shelf
    assert still["status"] == "completed"
    assert len(sandbox.charges) == 1


async def test_a_queued_request_gets_its_upload_when_its_turn_has_come(
    sandbox: Sandbox, tmp_path: Path, s3: S3
) -> None:
    async with connected(sandbox, tmp_path, s3, WAN_MCP_MAX_IN_FLIGHT="1") as user:
        given = await user.uploaded()
        sandbox.terms = replace(TERMS, processing_seconds=3_600)
        running = await user.ordered(
            video=sandbox.source_video_url, character_image=sandbox.image_url
        )
        queued = await user.ordered(**given)
        sandbox.terms = TERMS
        await user.ended(running)
        done = await user.ended(queued)

    assert queued["status"] == "queued"
    assert done["status"] == "completed", done
    assert len(sandbox.charges) == 2


@pytest.mark.parametrize("given", [*PATHS.values(), "dance.mov", "data:video/mp4;base64,AAAA"])
async def test_without_a_storage_a_path_is_refused_with_what_the_operator_can_set(
    sandbox: Sandbox, tmp_path: Path, s3: S3, given: str
) -> None:
    """Otherwise everything is as it was (ours)."""
    async with connected(sandbox, tmp_path, s3, WAN_MCP_STORAGE_URL="") as user:
        refused = await user.ordered(video=given, character_image=sandbox.image_url)
        upload = "wan://uploads/video_aaaaaaaaaaaaaaaa"
        unknown = await user.ordered(video=upload, character_image=sandbox.image_url)
        page = await user.web.get("/uploads/x")

    assert (refused["code"], refused.get("upload_page")) == ("invalid_arguments", None)
    assert "WAN_MCP_STORAGE_URL" in refused["next"]
    assert (unknown["code"], unknown["charged"]) == ("invalid_arguments", "no")
    assert page.status_code == 404
    assert sandbox.charges == []


async def test_the_prompt_says_that_files_can_be_uploaded(
    sandbox: Sandbox, tmp_path: Path, s3: S3
) -> None:
    async with connected(sandbox, tmp_path, s3) as user:
        answer = await user.client.get_prompt("replace_a_character", {"video": "~/dance.mov"})
    text = getattr(answer.messages[0].content, "text", "")

    assert "upload" in text
    assert "not usable" not in text.partition("1. Ask")[0]


async def test_a_clip_that_has_to_be_prepared_is_prepared_as_a_file_of_this_computer_is(
    sandbox: Sandbox, tmp_path: Path, s3: S3
) -> None:
    """What PixelDojo gets is cut, and not the whole upload (ours)."""
    pytest.importorskip("av", reason="the extra `media` is not installed")
    async with connected(sandbox, tmp_path, s3) as user:
        given = await user.uploaded()
        cut = {**given, "video": f"{given['video']}#t=1,2"}
        done = await user.ended(await user.ordered(**cut))

    objects = s3.objects()
    sent = [path for name, path in objects.items() if "/inputs/" in name]
    sizes = [path.stat().st_size for path in sent if path.suffix == ".mp4"]
    assert done["status"] == "completed", done
    assert "cut" in done["message"]
    assert sizes[0] < len(CLIP)
