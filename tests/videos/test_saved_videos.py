"""Inputs looked at before paying, films saved and shown: what a server does on its user's side."""

import base64
import hashlib
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from importlib import resources
from pathlib import Path
from typing import Any

import anyio
import pytest
from mcp import Client
from mcp.types import CallToolResult, ImageContent

from wan_mcp.sandbox import Sandbox, Terms
from wan_mcp.sandbox.http import faults
from wan_mcp.server import build_server
from wan_mcp.settings import Settings

pytestmark = pytest.mark.anyio

FILM = (resources.files("wan_mcp.sandbox") / "media/result.mp4").read_bytes()
SHA256 = hashlib.sha256(FILM).hexdigest()
RUN = "/api/v1/models/*/run"
RESULT = "/media/results/*"


@pytest.fixture
async def sandbox() -> AsyncIterator[Sandbox]:
    """Its jobs are completed as soon as they are accepted."""
    terms = Terms(pending_seconds=0, processing_seconds=0, requests_per_minute=600)
    async with Sandbox(terms) as sandbox:
        yield sandbox


Open = Callable[..., AbstractAsyncContextManager[Client]]


@pytest.fixture
def opened(sandbox: Sandbox, tmp_path: Path) -> Open:
    """A client of a server, by default as stdio has it, whose films lie in the test's folder."""

    @asynccontextmanager
    async def connected(*, local: bool = True, **given: str) -> AsyncIterator[Client]:
        account = {
            "PIXELDOJO_API_BASE": sandbox.api_base,
            "PIXELDOJO_API_KEY": sandbox.key,
            "WAN_MCP_DATA_DIR": str(tmp_path / "data"),
        }
        server = build_server(Settings.read(account | given, tmp_path), local=local)
        with anyio.fail_after(20):
            async with Client(server) as client:
                yield client

    return connected


async def submit(client: Client, sandbox: Sandbox, **more: object) -> CallToolResult:
    media = {"video": sandbox.source_video_url, "character_image": sandbox.image_url}
    return await client.call_tool("replace_character", {**media, **more})


async def film_of(client: Client, sandbox: Sandbox) -> CallToolResult:
    """A job from its submit to its film."""
    job_id = data(await submit(client, sandbox))["job_id"]
    await client.call_tool("get_job_status", {"job_id": job_id})
    return await client.call_tool("wait_for_job", {"job_id": job_id})


def data(result: CallToolResult) -> dict[str, Any]:
    told: dict[str, Any] | None = result.structured_content
    assert told is not None
    return told


def saved(folder: Path) -> list[Path]:
    return sorted(folder.rglob("*.mp4"))


def remove(path: str) -> None:
    Path(path).unlink()


def read(path: str) -> bytes:
    return Path(path).read_bytes()


# The film


async def test_a_wait_ends_with_the_film_on_disk(opened: Open, sandbox: Sandbox) -> None:
    """The link dies; the file stays (ours)."""
    async with opened() as client:
        told = data(await film_of(client, sandbox))

    assert read(told["saved_path"]) == FILM
    assert (told["sha256"], told["size"]) == (SHA256, len(FILM))
    assert "saved" in told["next"]


async def test_a_film_is_saved_though_nobody_waits(
    opened: Open, sandbox: Sandbox, tmp_path: Path
) -> None:
    """A host that was closed must not cost the film (ours)."""
    async with opened() as client:
        job_id = data(await submit(client, sandbox))["job_id"]
        told: dict[str, Any] = {}
        while "saved_path" not in told:
            told = data(await client.call_tool("get_job_status", {"job_id": job_id}))

    assert [path.read_bytes() for path in saved(tmp_path)] == [FILM]
    assert len(sandbox.seen("GET", RESULT)) == 1


async def test_the_operator_names_the_folder(
    opened: Open, sandbox: Sandbox, tmp_path: Path
) -> None:
    """Then films are saved over HTTP too, where no caller learns a path of the server (ours)."""
    async with opened(local=False, WAN_MCP_VIDEO_DIR=str(tmp_path / "mine")) as client:
        told = data(await film_of(client, sandbox))

    assert [path.read_bytes() for path in saved(tmp_path / "mine")] == [FILM]
    assert told["sha256"] == SHA256
    assert "saved_path" not in told
    assert "must be saved" in told["next"]  # by the caller, who has the link alone


@pytest.mark.parametrize(("local", "setting"), [(True, "off"), (False, "")])
async def test_nothing_is_saved_where_it_is_off(
    opened: Open, sandbox: Sandbox, tmp_path: Path, local: bool, setting: str
) -> None:
    """Over HTTP it is, unless configured (ours)."""
    async with opened(local=local, WAN_MCP_ARCHIVE=setting) as client:
        told = data(await film_of(client, sandbox))

    assert saved(tmp_path) == []
    assert not {"saved_path", "sha256", "size"} & told.keys()


async def test_a_film_that_the_user_has_moved_is_told_by_its_link(
    opened: Open, sandbox: Sandbox
) -> None:
    """A path that leads nowhere would hide the link that still lives (ours)."""
    async with opened() as client:
        first = data(await film_of(client, sandbox))
        remove(first["saved_path"])
        told = data(await client.call_tool("get_job_status", {"job_id": first["job_id"]}))

    assert not {"saved_path", "sha256", "size"} & told.keys()
    assert "must be saved" in told["next"]


async def test_two_servers_on_one_ledger_fetch_a_film_once(opened: Open, sandbox: Sandbox) -> None:
    """Several hosts on one machine behave as one (design)."""
    async with opened() as one, opened() as other:
        told = data(await film_of(one, sandbox))
        again = data(await other.call_tool("wait_for_job", {"job_id": told["job_id"]}))

    assert again["saved_path"] == told["saved_path"]
    assert len(sandbox.seen("GET", RESULT)) == 1


async def test_the_key_is_not_sent_for_a_film(opened: Open, sandbox: Sandbox) -> None:
    """It belongs to the API alone (pixeldojo-api)."""
    async with opened() as client:
        await film_of(client, sandbox)
    fetched = [*sandbox.seen("GET", RESULT), *sandbox.seen("GET", "/media/*")]

    assert fetched
    assert not [request for request in fetched if "authorization" in request.headers]


# The poster


async def test_a_finished_film_is_shown(opened: Open, sandbox: Sandbox) -> None:
    """A few frames as one small JPEG, besides the text (ours)."""
    pytest.importorskip("av", reason="the extra `media` is not installed")
    async with opened() as client:
        result = await film_of(client, sandbox)
    text, picture = result.content

    assert text.type == "text"
    assert text.text.endswith("Picture: frames of the film.")
    assert isinstance(picture, ImageContent)
    assert picture.mime_type == "image/jpeg"
    assert len(base64.b64decode(picture.data)) < 60_000


async def test_no_picture_comes_where_it_is_off(opened: Open, sandbox: Sandbox) -> None:
    """Some hosts count pictures dearly (ours)."""
    async with opened(WAN_MCP_POSTER="off") as client:
        result = await film_of(client, sandbox)

    assert [block.type for block in result.content] == ["text"]


# The look before paying


async def test_an_unusable_input_is_refused_before_anything_is_sent(
    opened: Open, sandbox: Sandbox
) -> None:
    """No row, no request, no charge (ours)."""
    async with opened() as client:
        result = await submit(client, sandbox, video=sandbox.image_url)
        listed = data(await client.call_tool("list_jobs", {}))

    assert result.is_error
    assert (data(result)["code"], data(result)["charged"]) == ("unusable_input", "no")
    assert data(result)["next"]
    assert sandbox.seen("POST", RUN) == []
    assert listed.get("jobs", []) == []


async def test_a_look_that_breaks_refuses_nothing(
    opened: Open,
    sandbox: Sandbox,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """What cannot be checked may well work (ours)."""

    async def broken(*args: object, **named: object) -> list[str]:
        raise ZeroDivisionError

    monkeypatch.setattr("wan_mcp.inputs.preflight.look", broken)
    async with opened() as client:
        result = await submit(client, sandbox)

    assert data(result)["charged"] == "yes"
    assert "the look at the inputs broke" in caplog.text


async def test_two_submits_at_once_are_told_the_same_price(opened: Open, sandbox: Sandbox) -> None:
    """The second must not be refused for want of a price (ours)."""
    results: list[CallToolResult] = []

    async with opened(WAN_MCP_MAX_CREDITS_PER_JOB="50") as client:

        async def one(seed: int) -> None:
            results.append(await submit(client, sandbox, seed=seed))

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(one, 1)
            tasks.start_soon(one, 2)

    assert [result.is_error for result in results] == [False, False]


async def test_a_joined_job_does_not_need_its_inputs_any_more(
    opened: Open, sandbox: Sandbox
) -> None:
    """Its links may have died since: the job is paid (ours)."""
    async with opened() as client:
        first = data(await submit(client, sandbox))
        sandbox.fault("GET", "/media/*", faults.status(404, "gone"), times=None)
        again = await submit(client, sandbox)

    assert not again.is_error
    assert data(again)["job_id"] == first["job_id"]
    assert len(sandbox.charges) == 1


@pytest.mark.parametrize(("local", "setting"), [(True, "off"), (False, "")])
async def test_inputs_are_not_looked_at_where_it_is_off(
    opened: Open, sandbox: Sandbox, local: bool, setting: str
) -> None:
    """Over HTTP a server must not become a way to fetch addresses, unless its operator says so."""
    async with opened(local=local, WAN_MCP_PREFLIGHT=setting) as client:
        await submit(client, sandbox, video=sandbox.image_url)

    assert sandbox.seen("GET", "/media/*") == []
    assert len(sandbox.charges) == 1


async def test_what_is_only_worth_a_word_is_told_with_the_job(
    opened: Open, sandbox: Sandbox
) -> None:
    """A clip with fewer frames than asked for still makes a film (ours)."""
    pytest.importorskip("av", reason="the extra `media` is not installed")
    async with opened() as client:
        told = data(await submit(client, sandbox, frames_per_second=30))

    assert told["charged"] == "yes"
    assert "16 frames per second" in told["message"]
