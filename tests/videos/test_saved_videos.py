"""A local server checks inputs before it pays, and saves and shows the videos of its user."""

import base64
import hashlib
import os
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from importlib import resources
from pathlib import Path
from typing import Any
from urllib.parse import unquote_to_bytes

import anyio
import pytest
from mcp import Client
from mcp.shared.exceptions import MCPError
from mcp.types import BlobResourceContents, CallToolResult, ImageContent

from tests.bench.inspection import Clip
from wan_mcp.sandbox import Fault, Reply, Sandbox, Terms
from wan_mcp.sandbox.http import faults
from wan_mcp.sandbox.videos import samples
from wan_mcp.server import build_server
from wan_mcp.settings import Settings

pytestmark = pytest.mark.anyio

VIDEO = (resources.files("wan_mcp.sandbox") / "media/result.mp4").read_bytes()
SHA256 = hashlib.sha256(VIDEO).hexdigest()
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
    """A client of a server, by default as stdio has it, whose data folder is the test's."""

    @asynccontextmanager
    async def connected(*, local: bool = True, **given: str) -> AsyncIterator[Client]:
        account = {
            "PIXELDOJO_API_BASE": sandbox.api_base,
            "PIXELDOJO_API_KEY": sandbox.key,
            "WAN_MCP_DATA_DIR": str(tmp_path / "data"),
        }
        server = build_server(Settings.read(account | given, tmp_path), local=local)
        with anyio.fail_after(600):
            async with Client(server) as client:
                yield client

    return connected


@pytest.fixture(autouse=True)
def unhurried(monkeypatch: pytest.MonkeyPatch) -> None:
    """Inputs are looked at for as long as that takes on a busy computer."""
    monkeypatch.setattr("wan_mcp.jobs.ANSWER_SECONDS", 600.0)


async def submit(client: Client, sandbox: Sandbox, **more: object) -> CallToolResult:
    media = {"video": sandbox.source_video_url, "character_image": sandbox.image_url}
    return await client.call_tool("replace_character", {**media, **more})


async def finished_job(client: Client, sandbox: Sandbox, **more: object) -> CallToolResult:
    """The last answer about a job, whose video is saved if that is on."""
    job_id = data(await submit(client, sandbox, **more))["job_id"]
    await client.call_tool("get_job_status", {"job_id": job_id})
    return await client.call_tool("wait_for_job", {"job_id": job_id})


def data(result: CallToolResult) -> dict[str, Any]:
    content: dict[str, Any] | None = result.structured_content
    assert content is not None
    return content


def saved(folder: Path) -> list[Path]:
    return sorted(folder.rglob("*.mp4"))


def remove(path: str) -> None:
    Path(path).unlink()


def is_there(path: str) -> bool:
    return Path(path).exists()


def read(path: str) -> bytes:
    return Path(path).read_bytes()


# Saving


async def test_a_wait_ends_with_the_video_on_disk(opened: Open, sandbox: Sandbox) -> None:
    """The link expires; the file stays (ours)."""
    async with opened() as client:
        job = data(await finished_job(client, sandbox))

    assert read(job["saved_path"]) == VIDEO
    assert (job["sha256"], job["size"]) == (SHA256, len(VIDEO))
    assert "saved" in job["next"]


async def test_a_kept_video_outlives_the_size_limit(opened: Open, sandbox: Sandbox) -> None:
    """The mark is read when the next video needs the room (ours)."""
    async with opened(WAN_MCP_VIDEO_LIMIT_GB="0.000001") as client:
        jobs = [data(await finished_job(client, sandbox, seed=seed)) for seed in (1, 2)]
        await client.call_tool("keep_video", {"job_id": jobs[0]["job_id"]})
        for job in jobs:
            os.utime(job["saved_path"], (0, 0))
        jobs.append(data(await finished_job(client, sandbox, seed=3)))

    assert [is_there(job["saved_path"]) for job in jobs] == [True, False, True]


async def test_a_video_is_saved_even_if_nobody_waits(
    opened: Open, sandbox: Sandbox, tmp_path: Path
) -> None:
    """The user must not lose the video because the host stopped asking (ours)."""
    async with opened() as client:
        job_id = data(await submit(client, sandbox))["job_id"]
        job: dict[str, Any] = {}
        while "saved_path" not in job:
            job = data(await client.call_tool("get_job_status", {"job_id": job_id}))

    assert [path.read_bytes() for path in saved(tmp_path)] == [VIDEO]
    assert len(sandbox.seen("GET", RESULT)) == 1


async def test_the_operator_chooses_the_folder(
    opened: Open, sandbox: Sandbox, tmp_path: Path
) -> None:
    """Videos are then saved over HTTP too, where no caller sees a path of the server (ours)."""
    async with opened(local=False, WAN_MCP_VIDEO_DIR=str(tmp_path / "mine")) as client:
        job = data(await finished_job(client, sandbox))

    assert [path.read_bytes() for path in saved(tmp_path / "mine")] == [VIDEO]
    assert job["sha256"] == SHA256
    assert "saved_path" not in job
    assert "must be saved" in job["next"]  # by the caller, who has the link alone


@pytest.mark.parametrize(("local", "setting"), [(True, "off"), (False, "")])
async def test_nothing_is_saved_if_it_is_off(
    opened: Open, sandbox: Sandbox, tmp_path: Path, local: bool, setting: str
) -> None:
    """Over HTTP it is off unless the operator turns it on (ours)."""
    async with opened(local=local, WAN_MCP_ARCHIVE=setting) as client:
        job = data(await finished_job(client, sandbox))

    assert saved(tmp_path) == []
    assert not {"saved_path", "sha256", "size"} & job.keys()


async def test_a_video_that_the_user_has_moved_is_reported_by_its_link(
    opened: Open, sandbox: Sandbox
) -> None:
    """A path without a file would hide the link, which still works (ours)."""
    async with opened() as client:
        first = data(await finished_job(client, sandbox))
        remove(first["saved_path"])
        job = data(await client.call_tool("get_job_status", {"job_id": first["job_id"]}))

    assert not {"saved_path", "sha256", "size"} & job.keys()
    assert "must be saved" in job["next"]


async def test_two_servers_on_one_ledger_fetch_a_video_once(opened: Open, sandbox: Sandbox) -> None:
    """Several hosts on one machine behave as one (ours)."""
    async with opened() as one, opened() as other:
        job = data(await finished_job(one, sandbox))
        again = data(await other.call_tool("wait_for_job", {"job_id": job["job_id"]}))

    assert again["saved_path"] == job["saved_path"]
    assert len(sandbox.seen("GET", RESULT)) == 1


async def test_the_key_is_not_sent_to_the_storage(opened: Open, sandbox: Sandbox) -> None:
    """Only the API may see it (documented)."""
    async with opened() as client:
        await finished_job(client, sandbox)
    fetched = [*sandbox.seen("GET", RESULT), *sandbox.seen("GET", "/media/*")]

    assert fetched
    assert not [request for request in fetched if "authorization" in request.headers]


@pytest.mark.skipif(sys.platform != "linux", reason="other systems allow no such names")
@pytest.mark.parametrize("setting", ["WAN_MCP_DATA_DIR", "WAN_MCP_VIDEO_DIR"])
async def test_a_folder_named_in_another_encoding_is_reported(
    opened: Open, sandbox: Sandbox, tmp_path: Path, setting: str
) -> None:
    """By a file: URI, which the server itself understands after a restart, too (RFC 8089)."""
    folder = tmp_path / os.fsdecode(b"M\xfcnchen")
    async with opened(**{setting: str(folder)}) as client:
        job = data(await finished_job(client, sandbox))
    async with opened(**{setting: str(folder)}) as client:
        again = data(await client.call_tool("get_job_status", {"job_id": job["job_id"]}))
        video = await client.read_resource(f"wan://jobs/{job['job_id']}/video")
    [content] = video.contents

    assert job["saved_path"].startswith(f"{tmp_path.as_uri()}/M%FCnchen/")
    assert read_uri(job["saved_path"]) == VIDEO
    assert again["saved_path"] == job["saved_path"]
    assert isinstance(content, BlobResourceContents)
    assert base64.b64decode(content.blob) == VIDEO
    assert saved(folder)


def read_uri(uri: str) -> bytes:
    """The file of a file: URI, whose %XX are the bytes of its path."""
    with open(unquote_to_bytes(uri.removeprefix("file://")), "rb") as file:
        return file.read()


@pytest.mark.skipif(sys.platform == "win32", reason="folders have other rights there")
async def test_an_answer_says_why_the_video_is_not_saved_and_what_happens_next(
    opened: Open, sandbox: Sandbox, tmp_path: Path
) -> None:
    """The reason, the link, and for how long the server goes on trying (ours)."""
    folder = tmp_path / "open to all"
    folder.mkdir()
    folder.chmod(0o777)
    async with opened(WAN_MCP_VIDEO_DIR=str(folder)) as client:
        job = data(await finished_job(client, sandbox))

    assert "every user of this computer can write into the folder for videos" in job["next"]
    assert "the server goes on trying for" in job["next"]
    assert job["video_url"]
    assert saved(folder) == []


@pytest.mark.parametrize(
    ("content_type", "body", "expected"),
    [
        ("binary/octet-stream", VIDEO, "video/mp4"),
        ("text/plain", VIDEO, "video/mp4"),
        ("video/webm", VIDEO, "video/mp4"),
        ("video/mp4", b"<!DOCTYPE html><title>gone</title>", None),
        ("video/mp4", b"\x89PNG\r\n\x1a\n" + bytes(2_000), None),
        ("video/x-special", bytes(2_000), "video/x-special"),
        ("application/octet-stream", bytes(2_000), None),
    ],
)
async def test_the_bytes_of_a_source_video_decide_about_its_type(
    opened: Open, sandbox: Sandbox, content_type: str, body: bytes, expected: str | None
) -> None:
    """Storages often declare a video as something else (observed elsewhere)."""
    async with opened(WAN_MCP_PREFLIGHT="off") as client:
        job_id = data(await submit(client, sandbox))["job_id"]
        reply = Reply(200, {"Content-Type": content_type}, body)
        sandbox.fault("GET", "/media/clip.mp4", Fault(work=True, reply=reply))
        try:
            [content] = (await client.read_resource(f"wan://jobs/{job_id}/source")).contents
        except MCPError:
            content = None

    assert (content and content.mime_type) == expected
    if isinstance(content, BlobResourceContents):
        assert base64.b64decode(content.blob) == body


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such links")
@pytest.mark.parametrize("part", ["film", "poster"])
async def test_a_link_in_the_place_of_a_saved_video_is_not_shown(
    opened: Open, sandbox: Sandbox, tmp_path: Path, part: str
) -> None:
    """It may lead to a private file of the user (ours)."""
    if part == "poster":
        pytest.importorskip("av", reason="the extra `media` is not installed")
    secret = tmp_path / "secret.mp4"
    secret.write_bytes(VIDEO)
    async with opened(WAN_MCP_POSTER="off") as client:
        job = data(await finished_job(client, sandbox))
        replace_by_link(job["saved_path"], secret)
        with pytest.raises(MCPError, match="a link now, or a file of another user"):
            await client.read_resource(f"wan://jobs/{job['job_id']}/{part}")


def replace_by_link(path: str, target: Path) -> None:
    Path(path).unlink()
    Path(path).symlink_to(target)


async def test_the_bytes_of_a_saved_video_decide_about_its_type(
    opened: Open, sandbox: Sandbox
) -> None:
    """A file saved by an earlier version may have the name of another type (ours)."""
    body = b"\x1a\x45\xdf\xa3\x87\x42\x82\x84webm" + bytes(2_000)
    async with opened(WAN_MCP_POSTER="off") as client:
        job = data(await finished_job(client, sandbox))
        await anyio.Path(job["saved_path"]).write_bytes(body)
        [content] = (await client.read_resource(f"wan://jobs/{job['job_id']}/video")).contents

    assert job["saved_path"].endswith(".mp4")
    assert content.mime_type == "video/webm"


# The inspection


async def test_a_video_as_ordered_says_so(
    opened: Open, sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every frame was decoded, and nothing differs (ours)."""
    pytest.importorskip("av", reason="the extra `media` is not installed")
    inspects(monkeypatch)
    async with opened() as client:
        answer = await finished_job(client, sandbox)

    assert data(answer)["inspection"] == []
    assert "nothing differs from the order" in text_of(answer)


async def test_a_video_that_is_not_as_ordered_says_so_and_is_no_error(
    opened: Open, sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The sample has 5 s, 270 lines and 16 frames per second, whatever is ordered (ours)."""
    pytest.importorskip("av", reason="the extra `media` is not installed")
    inspects(monkeypatch)
    async with opened() as client:
        order = {"video_duration": 3, "resolution": "720", "frames_per_second": 12}
        job_id = data(await submit(client, sandbox, **order))["job_id"]
        answer = await client.call_tool("wait_for_job", {"job_id": job_id})
        later = await client.call_tool("get_job_status", {"job_id": job_id})

    assert not answer.is_error
    assert data(answer)["inspection"] == [
        "seconds: expected 3, seen 5",
        "lines: expected 720, seen 480 x 270",
        "frames_per_second: expected 12, seen 16",
    ]
    assert "lines: expected 720, seen 480 x 270" in text_of(answer)
    assert "what the inspection found" in data(answer)["next"]
    assert data(later)["inspection"] == data(answer)["inspection"]
    assert "code" not in data(answer)


async def test_missing_sound_is_named_because_the_clip_was_looked_at_before(
    opened: Open, sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """What the preflight found is kept with the request (ours)."""
    pytest.importorskip("av", reason="the extra `media` is not installed")
    inspects(monkeypatch)
    silent = Clip(frames=80, sound=False).write(tmp_path / "silent.mp4").read_bytes()
    monkeypatch.setattr("wan_mcp.sandbox.videos.samples._file", result_is(silent))
    async with opened() as client:
        known = data(await finished_job(client, sandbox))
    async with opened(WAN_MCP_PREFLIGHT="off", WAN_MCP_DATA_DIR=str(tmp_path / "2")) as client:
        unknown = data(await finished_job(client, sandbox))

    assert known["inspection"] == ["sound: expected yes, seen none"]
    assert unknown["inspection"] == []


async def test_without_the_extra_the_answer_says_nothing_of_an_inspection(
    opened: Open, sandbox: Sandbox
) -> None:
    """The plain install has no PyAV (ours)."""
    async with opened() as client:
        answer = await finished_job(client, sandbox)

    assert "inspection" not in data(answer)
    assert "nspect" not in text_of(answer)


def inspects(monkeypatch: pytest.MonkeyPatch) -> None:
    """Saved videos are inspected, however long that takes on a busy machine."""
    monkeypatch.setattr("wan_mcp.app.base.can_inspect", lambda: True)
    monkeypatch.setattr("wan_mcp.videos.saver.INSPECTION_SECONDS", 600.0)
    monkeypatch.setattr("wan_mcp.polling.waits.SAVE_SECONDS", 600.0)


def result_is(content: bytes) -> Callable[[str], tuple[bytes, str]]:
    """The sandbox's files, with this one as the result."""
    files = samples._file
    return lambda name: (content, '"1"') if name == "result.mp4" else files(name)


def text_of(answer: CallToolResult) -> str:
    (text, *_) = answer.content
    assert text.type == "text"
    return text.text


# The contact sheet


async def test_a_finished_video_is_shown(opened: Open, sandbox: Sandbox) -> None:
    """A few frames in one small JPEG, in addition to the text (ours)."""
    pytest.importorskip("av", reason="the extra `media` is not installed")
    async with opened() as client:
        result = await finished_job(client, sandbox)
    text, image = result.content

    assert text.type == "text"
    assert text.text.endswith("Picture: frames of the video.")
    assert isinstance(image, ImageContent)
    assert image.mime_type == "image/jpeg"
    assert len(base64.b64decode(image.data)) < 60_000


async def test_no_image_comes_if_it_is_off(opened: Open, sandbox: Sandbox) -> None:
    """With some hosts images use many tokens (ours)."""
    async with opened(WAN_MCP_POSTER="off") as client:
        result = await finished_job(client, sandbox)

    assert [block.type for block in result.content] == ["text"]


# The check before paying


async def test_an_unusable_input_is_refused_before_anything_is_sent(
    opened: Open, sandbox: Sandbox
) -> None:
    """Nothing is recorded, requested or charged (ours)."""
    async with opened() as client:
        result = await submit(client, sandbox, video=sandbox.image_url)
        listed = data(await client.call_tool("list_jobs", {}))

    assert result.is_error
    assert (data(result)["code"], data(result)["charged"]) == ("unusable_input", "no")
    assert data(result)["next"]
    assert sandbox.seen("POST", RUN) == []
    assert listed.get("jobs", []) == []


async def test_a_check_that_breaks_refuses_nothing(
    opened: Open,
    sandbox: Sandbox,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """What cannot be checked may well work (ours)."""

    async def broken(*args: object, **named: object) -> list[str]:
        raise ZeroDivisionError

    monkeypatch.setattr("wan_mcp.inputs.preflight.check_inputs", broken)
    async with opened() as client:
        result = await submit(client, sandbox)

    assert data(result)["charged"] == "yes"
    assert "the preflight of the inputs broke" in caplog.text


async def test_two_submits_at_once_use_the_same_price(opened: Open, sandbox: Sandbox) -> None:
    """The second must not be refused because the price is not known yet (ours)."""
    results: list[CallToolResult] = []

    async with opened(WAN_MCP_MAX_CREDITS_PER_JOB="50") as client:

        async def one(seed: int) -> None:
            results.append(await submit(client, sandbox, seed=seed))

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(one, 1)
            tasks.start_soon(one, 2)

    assert [result.is_error for result in results] == [False, False]


async def test_a_repeated_call_does_not_check_its_inputs_again(
    opened: Open, sandbox: Sandbox
) -> None:
    """Its links may have expired meanwhile, but the job is paid (ours)."""
    async with opened() as client:
        first = data(await submit(client, sandbox))
        sandbox.fault("GET", "/media/*", faults.status(404, "gone"), times=None)
        again = await submit(client, sandbox)

    assert not again.is_error
    assert data(again)["job_id"] == first["job_id"]
    assert len(sandbox.charges) == 1


@pytest.mark.parametrize(("local", "setting"), [(True, "off"), (False, "")])
async def test_inputs_are_not_checked_if_that_is_off(
    opened: Open, sandbox: Sandbox, local: bool, setting: str
) -> None:
    """A server over HTTP must not fetch addresses for strangers, unless its operator allows it."""
    async with opened(local=local, WAN_MCP_PREFLIGHT=setting) as client:
        await submit(client, sandbox, video=sandbox.image_url)

    assert sandbox.seen("GET", "/media/*") == []
    assert len(sandbox.charges) == 1


async def test_a_note_on_an_input_comes_with_the_job(opened: Open, sandbox: Sandbox) -> None:
    """A video with fewer frames than asked for still makes a result (ours)."""
    pytest.importorskip("av", reason="the extra `media` is not installed")
    async with opened() as client:
        job = data(await submit(client, sandbox, frames_per_second=30))

    assert job["charged"] == "yes"
    assert "16 frames per second" in job["message"]
