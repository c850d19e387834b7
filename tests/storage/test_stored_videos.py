"""Finished videos in object storage, with a real server for it: saved whole, linked, removed."""

import hashlib
import os
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from datetime import UTC, datetime, timedelta
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast
from urllib.parse import urlsplit

import anyio
import httpx
import pytest
from mcp import Client
from mcp.types import TextResourceContents

from tests.storage.s3 import S3, URL
from tests.surface.scenarios import DONE, NOW, of_job
from tests.surface.scenarios import SAVED as SAVED_FILE
from tests.tenants.conftest import company, operator
from tests.tenants.test_isolation import ROUTES
from wan_mcp.clock import Clock
from wan_mcp.errors import NotFound
from wan_mcp.jobs import Jobs
from wan_mcp.ledger.record import Record
from wan_mcp.ledger.status import JobView
from wan_mcp.models import Replacement
from wan_mcp.payments.sources import NoVideo, Sources
from wan_mcp.sandbox import Sandbox, Terms
from wan_mcp.server import build_server
from wan_mcp.settings import Settings
from wan_mcp.storage.object_store import ObjectStore, Patience, StoredObject
from wan_mcp.storage.storage_url import link_origin
from wan_mcp.storage.unavailable import Reason, unavailable
from wan_mcp.surface.video_views import VideoViews
from wan_mcp.videos.archive import LEFTOVER_AGE_SECONDS, Archive
from wan_mcp.videos.in_storage.stored_archive import StoredArchive
from wan_mcp.videos.in_storage.stored_videos import LINK_SECONDS, StoredVideos
from wan_mcp.videos.job_files import JobFiles
from wan_mcp.videos.not_saved import NotSaved
from wan_mcp.web.fetch import Web

if TYPE_CHECKING:
    from tests.tenants.company import Company, Person

pytestmark = pytest.mark.anyio
_ = company, operator

VIDEO = (resources.files("wan_mcp.sandbox") / "media/result.mp4").read_bytes()
CLIP = (resources.files("wan_mcp.sandbox") / "media/clip.mp4").read_bytes()
SHA256 = hashlib.sha256(VIDEO).hexdigest()
MADE = datetime.fromisoformat("2026-11-23T12:00:00+00:00")
RESULT = "/media/results/*"
SAVED = "some/prefix/job_1.mp4"

Open = Callable[..., AbstractAsyncContextManager[Client]]
Made = Callable[..., StoredArchive]


@pytest.fixture
async def sandbox() -> AsyncIterator[Sandbox]:
    """Its jobs are completed as soon as they are accepted."""
    terms = Terms(pending_seconds=0, processing_seconds=0, requests_per_minute=600)
    async with Sandbox(terms) as sandbox:
        yield sandbox


@pytest.fixture
def opened(s3: S3, sandbox: Sandbox, tmp_path: Path) -> Open:
    """A client of a server that saves videos in the storage."""

    @asynccontextmanager
    async def connected(*, local: bool = True, **given: str) -> AsyncIterator[Client]:
        account = {
            "PIXELDOJO_API_BASE": sandbox.api_base,
            "PIXELDOJO_API_KEY": sandbox.key,
            "WAN_MCP_DATA_DIR": str(tmp_path / "data"),
            "WAN_MCP_VIDEO_DIR": URL,
        }
        environment = s3.environment() | account | given
        server = build_server(Settings.read(environment, tmp_path), local=local)
        with anyio.fail_after(600):
            async with Client(server) as client:
                yield client

    return connected


async def call(client: Client, tool: str, **arguments: object) -> dict[str, Any]:
    result = await client.call_tool(tool, arguments)
    assert result.structured_content is not None
    return {**result.structured_content, "text": result.content[0].text}  # type: ignore[union-attr]


async def submitted(client: Client, sandbox: Sandbox) -> str:
    media = {"video": sandbox.source_video_url, "character_image": sandbox.image_url}
    return str((await call(client, "replace_character", **media))["job_id"])


async def saved_job(client: Client, sandbox: Sandbox) -> dict[str, Any]:
    """The answer about a job whose video is saved."""
    job_id = await submitted(client, sandbox)
    await call(client, "get_job_status", job_id=job_id)
    return await call(client, "wait_for_job", job_id=job_id)


async def fetched(url: str) -> httpx.Response:
    async with httpx.AsyncClient(trust_env=False, timeout=120) as client:
        return await client.get(url)


@pytest.fixture
def without_poster(monkeypatch: pytest.MonkeyPatch) -> None:
    """No poster is made, which takes time and is tested elsewhere."""
    monkeypatch.setattr("wan_mcp.videos.contact_sheet.available", lambda: False)


def contents(data: Path) -> list[bytes]:
    """The videos that are left on the disk."""
    return [path.read_bytes() for path in (data / "uploads").glob("*.mp4")]


def left(data: Path) -> list[str]:
    """What is left of videos on the disk."""
    return sorted(path.name for path in (data / "uploads").iterdir())


async def test_finished_video_is_in_the_storage_and_its_link_works_for_hours(
    opened: Open,
    s3: S3,
    sandbox: Sandbox,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The link is signed for each answer and written nowhere: who has it has the video (ours)."""
    caplog.set_level("DEBUG")
    monkeypatch.setattr("wan_mcp.app.base.can_inspect", lambda: True)
    async with opened(WAN_MCP_POSTER="off") as client:
        job = await saved_job(client, sandbox)
        listed = await call(client, "list_jobs")
        [content] = (await client.read_resource(f"wan://jobs/{job['job_id']}/film")).contents
        again: dict[str, Any] = {}
        while "inspection" not in again:  # on a busy machine it comes after the place
            again = await call(client, "get_job_status", job_id=job["job_id"])
    name = f"some/prefix/{job['job_id']}.mp4"
    reply = await fetched(job["saved_url"])
    written = b"".join(p.read_bytes() for p in (tmp_path / "data").rglob("*") if p.is_file())

    assert {n: path.read_bytes() for n, path in s3.objects().items()} == {name: VIDEO}
    assert job["saved_path"] == f"s3://bucket/{name}" == listed["jobs"][0]["saved_path"]
    assert (job["sha256"], job["size"]) == (SHA256, len(VIDEO))
    assert (reply.content, reply.headers["content-type"]) == (VIDEO, "video/mp4")
    assert f"X-Amz-Expires={LINK_SECONDS:.0f}&" in job["saved_url"]
    assert "works until" in job["next"]
    assert job["saved_url"] in job["text"]
    assert again["inspection"] == []
    assert isinstance(content, TextResourceContents)
    assert content.mime_type == "text/uri-list"
    assert (await fetched(content.text.strip())).content == VIDEO
    assert b"X-Amz-" not in written
    assert "X-Amz-" not in caplog.text + str(listed)


async def test_caller_over_http_gets_the_link_too(opened: Open, sandbox: Sandbox) -> None:
    """A path of the server would be of no use there; a link is (ours)."""
    async with opened(local=False) as client:
        job = await saved_job(client, sandbox)

    assert job["saved_path"].startswith(URL)
    assert (await fetched(job["saved_url"])).content == VIDEO


async def saved_of(person: "Person", job_id: str) -> dict[str, Any]:
    """The answer to the owner of a job whose video is saved."""
    job = await person.call("get_job_status", job_id=job_id)
    while "saved_url" not in job:  # a wait may end before
        job = await person.call("wait_for_job", job_id=job_id)
    return job


@pytest.mark.usefixtures("without_poster")
async def test_videos_of_each_user_of_a_team_are_below_a_prefix_that_no_other_user_gets_at(
    company: "Company", s3: S3
) -> None:
    """Ann and Bob pay with one key, so PixelDojo would show each video to both (ours)."""
    settings = {"WAN_MCP_ARCHIVE": "on", "WAN_MCP_VIDEO_DIR": URL, **s3.environment()}
    users, found, codes = (company.ann, company.bob), {}, []
    async with (
        company.served(settings=settings),
        company.person(company.ann) as ann,
        company.person(company.bob) as bob,
    ):
        ids = [(await each.order())["job_id"] for each in (ann, bob)]
        company.jobs_time.now += 60
        saved = [await saved_of(ann, ids[0]), await saved_of(bob, ids[1])]
        read = [await ann.read(f"wan://jobs/{ids[0]}/video")]
        read.append(await bob.read(f"wan://jobs/{ids[1]}/video"))
        for stranger, job in zip(users, reversed(saved), strict=True):
            async with company.person(stranger, tasks=True) as person:
                codes.append((await person.order(video=job["saved_path"]))["code"])
                for name, (route, _) in ROUTES.items():
                    found[name, stranger] = await route(person, job["job_id"])
    names = [f"some/prefix/{user}/{id}.mp4" for user, id in zip(users, ids, strict=True)]
    links = [job["saved_url"] for job in saved]
    links += [each["result"]["contents"][0]["text"].strip() for each in read]

    assert set(s3.objects()) == set(names)
    assert [job["saved_path"] for job in saved] == [f"s3://bucket/{name}" for name in names]
    assert [urlsplit(link).path for link in links] == [f"/bucket/{name}" for name in names * 2]
    assert [(await fetched(link)).content for link in links] == [VIDEO] * 4
    assert (await fetched(links[1].replace(names[1], names[0]))).status_code == 403
    assert found == {(name, user): said for name, (_, said) in ROUTES.items() for user in users}
    assert codes == ["invalid_arguments"] * 2  # the place of a video is an input for nobody


@pytest.mark.usefixtures("without_poster")
async def test_storage_that_refuses_loses_no_video_and_says_what_to_do(
    opened: Open, s3: S3, sandbox: Sandbox, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The video is on the disk, whole, until somebody has put the key right (ours)."""
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "wrong")
    async with opened() as client:
        job = await saved_job(client, sandbox)
        kept = contents(tmp_path / "data")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", s3.environment()["AWS_SECRET_ACCESS_KEY"])
    async with opened() as client:
        again = await call(client, "wait_for_job", job_id=job["job_id"])
        while "saved_path" not in again:  # a wait does not last for a second attempt
            again = await call(client, "get_job_status", job_id=job["job_id"])

    assert kept == [VIDEO]
    assert "saved_path" not in job
    assert "AWS_SECRET_ACCESS_KEY" in job["next"]
    assert "goes on trying" in job["next"]
    assert len(sandbox.seen("GET", RESULT)) == 1  # downloaded once
    assert [path.read_bytes() for path in s3.objects().values()] == [VIDEO]


@pytest.mark.usefixtures("without_poster")
async def test_answer_without_a_link_names_the_object_and_the_reason(
    opened: Open, sandbox: Sandbox
) -> None:
    """Credentials may end after the video was saved (ours)."""
    async with opened() as client:
        job = await saved_job(client, sandbox)
    ends = {"AWS_SESSION_TOKEN": "t", "AWS_CREDENTIAL_EXPIRATION": "2020-01-01T00:00:00Z"}
    async with opened(**ends) as client:
        later = await call(client, "get_job_status", job_id=job["job_id"])

    assert later["saved_path"] == job["saved_path"]
    assert "saved_url" not in later
    assert "No link to it can be made now" in later["next"]


# A server that ends in the middle


class Ended(BaseException):
    """The process ends here."""


class Halting(ObjectStore):
    """A storage whose user ends before or after one of its steps."""

    def __init__(self, step: str) -> None:
        super().__init__(URL, os.environ, Patience(retries=0))
        self._step = step

    async def put(self, *given: Any) -> None:
        self._end("before the upload")
        await super().put(*given)
        self._end("after the upload")

    async def head(self, name: str) -> StoredObject | None:
        found = await super().head(name)
        self._end("after the check")
        return found

    def _end(self, step: str) -> None:
        if step == self._step:
            raise Ended


@pytest.fixture
async def archive(s3: S3, sandbox: Sandbox, tmp_path: Path) -> AsyncIterator[Made]:
    """Makes archives on the same disk and storage."""
    web = Web(loopback=True)

    async def show(path: Path, place: str) -> None:
        pass

    def made(store: ObjectStore | None = None, clock: Clock | None = None) -> StoredArchive:
        folder, clock = tmp_path / "uploads", clock or Clock()
        store = store or ObjectStore(URL, os.environ)
        return StoredArchive(folder, Archive(folder, web, clock), store, clock, show)

    yield made
    await web.aclose()


async def stored(archive: StoredArchive, sandbox: Sandbox, *, records: bool = True) -> str:
    """Save a video; return its place."""
    video = await archive.keep("job_1", sandbox.source_video_url, made_at=MADE)
    place = await archive.place("job_1", video)
    if records:
        done = anyio.Event()
        done.set()
        await archive.recorded(video, done)
    return place


@pytest.mark.parametrize("step", ["before the upload", "after the upload", "after the check"])
async def test_crash_while_a_video_is_uploaded_costs_no_second_download(
    archive: Made, s3: S3, sandbox: Sandbox, tmp_path: Path, step: str
) -> None:
    """The file stays until the ledger has the place (ours)."""
    with pytest.raises(Ended):
        await stored(archive(Halting(step)), sandbox)
    kept = contents(tmp_path)
    place = await stored(archive(), sandbox)

    assert kept == [CLIP]
    assert place == f"s3://bucket/{SAVED}"
    assert {name: path.read_bytes() for name, path in s3.objects().items()} == {SAVED: CLIP}
    assert left(tmp_path) == []
    assert len(sandbox.seen("GET", "/media/clip.mp4")) == 1


async def test_crash_before_the_ledger_is_written_uploads_the_same_object_again(
    archive: Made, s3: S3, sandbox: Sandbox, tmp_path: Path
) -> None:
    """Nobody looks for what the ledger does not name (ours)."""
    await stored(archive(), sandbox, records=False)
    await stored(archive(), sandbox)

    assert list(s3.objects()) == [SAVED]
    assert left(tmp_path) == []
    assert len(sandbox.seen("GET", "/media/clip.mp4")) == 1


async def test_object_of_another_size_is_not_called_saved(
    archive: Made, s3: S3, sandbox: Sandbox, tmp_path: Path
) -> None:
    """Something between here and the storage may cut what it passes on (ours)."""

    class Cutting(ObjectStore):
        async def head(self, name: str) -> StoredObject | None:
            found = await super().head(name)
            return found and StoredObject(found.name, found.size - 1, found.modified)

    with pytest.raises(NotSaved, match="the storage shows") as caught:
        await stored(archive(Cutting(URL, os.environ)), sandbox)

    assert not caught.value.final
    assert contents(tmp_path) == [CLIP]


async def test_file_that_was_uploaded_is_removed_after_a_day_and_no_other(
    archive: Made, sandbox: Sandbox, tmp_path: Path
) -> None:
    """Its server ended before it could do so; what was never uploaded is the only copy (ours)."""
    await stored(archive(), sandbox, records=False)
    only = tmp_path / "uploads/2026-11-23_job_2.mp4"
    only.write_bytes(CLIP)
    for path in (tmp_path / "uploads").iterdir():
        os.utime(path, (0, 0))
    os.utime(tmp_path / "uploads/.2026-11-23_job_1.uploaded", (10, 10))
    wall = [0.0]
    later = archive(clock=Clock(wall=lambda: datetime.fromtimestamp(wall[0], UTC)))
    seen = []
    for wall[0] in (LEFTOVER_AGE_SECONDS + 9, LEFTOVER_AGE_SECONDS + 10):
        await later.keep("job_2", "https://never.asked/", made_at=MADE)
        seen.append([name for name in left(tmp_path) if "job_1" in name])

    assert len(seen[0]) == 3
    assert seen[1] == []
    assert only.read_bytes() == CLIP


async def test_video_that_was_forgotten_on_its_way_is_removed_everywhere(
    archive: Made, s3: S3, sandbox: Sandbox, tmp_path: Path
) -> None:
    """Its user was promised so (ours)."""
    saving = archive()
    video = await saving.keep("job_1", sandbox.source_video_url, made_at=MADE)
    await saving.place("job_1", video)
    await saving.remove("job_1", video)

    assert s3.objects() == {}
    assert left(tmp_path) == []


async def test_file_stays_until_it_is_inspected(
    archive: Made, sandbox: Sandbox, tmp_path: Path
) -> None:
    """The inspection may last longer than the upload (ours)."""
    saving, inspected = archive(), anyio.Event()
    video = await saving.keep("job_1", sandbox.source_video_url, made_at=MADE)
    await saving.place("job_1", video)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(saving.recorded, video, inspected)
        await anyio.wait_all_tasks_blocked()
        was_there = video.path.exists()
        inspected.set()

    assert was_there
    assert left(tmp_path) == []


# What is shown


async def test_poster_of_a_stored_video_is_made_from_its_file_and_outlives_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The answer that says where the video is comes after the file is gone (ours)."""

    class KnownJobs:
        async def known(self, id: str) -> JobView:
            return of_job(DONE, **{**SAVED_FILE, "saved_path": f"s3://bucket/{SAVED}"})

    async def drawn(path: Path) -> bytes:
        return f"drawn of {path.name}".encode()

    monkeypatch.setattr("wan_mcp.videos.contact_sheet.contact_sheet", drawn)
    monkeypatch.setattr("wan_mcp.surface.video_views.makes_contact_sheets", lambda: True)
    shown = []
    for wanted in (True, False):
        files = JobFiles(loopback=True, clock=Clock(), data=tmp_path, with_contact_sheets=wanted)
        await files.show(tmp_path / "job_1.mp4", f"s3://bucket/{SAVED}")
        shown.append(VideoViews(cast(Jobs, KnownJobs()), files))

    assert (await shown[0].contact_sheet("job_1")).data == b"drawn of job_1.mp4"
    with pytest.raises(NotFound, match="kept by the server that saves it"):
        await shown[1].contact_sheet("job_1")


# Links


@pytest.mark.parametrize(("left", "is_stored"), [(600, False), (599, True)])
async def test_chain_takes_the_stored_video_when_the_first_link_is_about_to_expire(
    left: float, is_stored: bool
) -> None:
    """PixelDojo may fetch an input minutes later (ours)."""
    ends = NOW + timedelta(seconds=left)
    place = f"s3://bucket/{SAVED}"
    job = of_job(DONE, **{**SAVED_FILE, "saved_path": place}).record
    assert job
    job = job.model_copy(update={"expires_at": ends})

    async def find(id: str) -> Record:
        return job

    async def signed(video: str) -> str:
        return f"signed link to {video}"

    sources = Sources(None, find, Clock(wall=lambda: NOW), signed, delivers=False)
    wanted = Replacement(video="wan://jobs/job_1/video", character_image="https://a.example/p")
    source = await sources.source(wanted, "video")

    assert source
    assert source.link == (f"signed link to {place}" if is_stored else DONE.video_url)


async def test_chain_without_any_link_is_refused_with_what_to_do() -> None:
    """Nothing is sent, and so nothing charged (ours)."""
    job = of_job(DONE, **{**SAVED_FILE, "saved_path": f"s3://bucket/{SAVED}"}).record

    async def find(id: str) -> Record | None:
        return job

    async def refused(video: str) -> str:
        raise unavailable(Reason.NO_CREDENTIALS, "s3://bucket")

    wall = NOW + timedelta(days=2)
    sources = Sources(None, find, Clock(wall=lambda: wall), refused, delivers=False)
    wanted = Replacement(video="wan://jobs/job_1/video", character_image="https://a.example/p")
    with pytest.raises(NoVideo, match="no credentials") as caught:
        await sources.source(wanted, "video")

    assert "AWS_ACCESS_KEY_ID" in caught.value.next_step


@pytest.mark.parametrize(
    ("url", "variables", "origin"),
    [
        ("s3://my-bucket/v", {}, "https://s3.us-east-1.amazonaws.com"),
        ("s3://my-bucket", {"AWS_REGION": "eu-west-1"}, "https://s3.eu-west-1.amazonaws.com"),
        (
            "s3://my-bucket",
            {"AWS_VIRTUAL_HOSTED_STYLE_REQUEST": "true"},
            "https://my-bucket.s3.us-east-1.amazonaws.com",
        ),
        (
            "s3://my-bucket/v",
            {"AWS_ENDPOINT_URL": "https://s3.example.com:9000", "AWS_REGION": "auto"},
            "https://s3.example.com:9000",
        ),
        (
            "az://box/v",
            {"AZURE_STORAGE_ACCOUNT_NAME": "me", "AZURE_STORAGE_ACCOUNT_KEY": "a2V5"},
            "https://me.blob.core.windows.net",
        ),
    ],
)
async def test_origin_that_the_player_may_load_from_is_that_of_the_links(
    s3: S3, monkeypatch: pytest.MonkeyPatch, url: str, variables: dict[str, str], origin: str
) -> None:
    """A host blocks every other one (MCP Apps 2026-01-26)."""
    for name in ("AWS_ENDPOINT_URL", "AWS_REGION"):
        monkeypatch.delenv(name)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    link = await StoredVideos(os.environ, Clock()).link(f"{url}/job_1.mp4")

    assert link_origin(url, os.environ) == origin
    assert str(link.url).startswith(f"{origin}/")


def test_google_s_links_lead_to_one_host() -> None:
    """As documented by Google; signing one needs a key of theirs."""
    assert link_origin("gs://bucket/v", {}) == "https://storage.googleapis.com"
