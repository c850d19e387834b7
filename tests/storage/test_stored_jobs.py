"""`wan-mcp open`, `show` and `forget` for a job whose video is in object storage."""

import os
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from datetime import UTC
from pathlib import Path

import anyio.to_thread
import httpx
import pytest

from tests.ledger.stores import ME, SQLiteStore, reported, sent
from tests.storage.s3 import BUCKET, S3, URL
from wan_mcp.cli.jobs.commands import FAILED, JobCommands, Screen
from wan_mcp.cli.jobs.own_ledger import OwnLedger
from wan_mcp.cli.jobs.stored import Stored
from wan_mcp.ledger.contract import VideoPolicy
from wan_mcp.ledger.sqlite.places import Chosen
from wan_mcp.models import JobStatus, Replacement

pytestmark = pytest.mark.anyio

VIDEO = b"a video"
PLACE = f"{URL}/job_1.mp4"
WANTED = Replacement(video="https://media.example/clip.mp4", character_image="https://m.example/p")


@dataclass
class Person:
    """Somebody at a terminal, who agrees to everything."""

    commands: JobCommands = field(init=False)
    seen: list[str] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)
    opened: list[Path | str] = field(default_factory=list)

    async def types(self, command: Callable[[JobCommands], int]) -> tuple[int, str]:
        """Run one command, as a program of its own would; return its code and what it shows."""
        self.seen.clear()
        self.errors.clear()
        code = await anyio.to_thread.run_sync(command, self.commands)
        return code, "".join(self.seen + self.errors)


@pytest.fixture
async def store(s3: S3, tmp_path: Path) -> AsyncIterator[SQLiteStore]:
    """A ledger with one job, whose video belongs in the storage."""
    store = SQLiteStore(tmp_path / "data/ledger")
    policy = VideoPolicy(URL)
    ledger = store.ledger()
    claim = await ledger.claim(ME, WANTED, generated_seed=1, estimate=7.0, videos=policy)
    record = await sent(ledger, claim.record)
    await ledger.accept(record, reported(job_id="job_1", credit_cost=7.0))
    link = "https://temp.example/video.mp4"
    await ledger.record_update(ME, reported(JobStatus.COMPLETED, job_id="job_1", video_url=link))
    yield store
    for each in store.opened:
        await each.aclose()


async def saved(store: SQLiteStore, s3: S3) -> None:
    """The video of the job is in the storage, and the ledger knows it."""
    in_storage(s3)
    ledger = store.ledger()
    record = await ledger.find(ME, "job_1")
    assert record
    await ledger.coordination.saved(record.submission_id, PLACE, "ab" * 32, len(VIDEO))


def in_storage(s3: S3) -> None:
    folder = s3.folder / BUCKET / "some/prefix"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "job_1.mp4").write_bytes(VIDEO)


@pytest.fixture
def person(store: SQLiteStore, tmp_path: Path) -> Person:
    person = Person()

    def opens(path: Path | str) -> bool:
        person.opened.append(path)
        return True

    screen = Screen(person.seen.append, person.errors.append, lambda _: True, opens, zone=UTC)
    ledger = OwnLedger(Chosen(tmp_path / "data"), store)
    person.commands = JobCommands(ledger, screen, Stored(os.environ))
    return person


async def test_open_shows_a_stored_video_by_a_link_in_the_browser(
    person: Person, store: SQLiteStore, s3: S3
) -> None:
    """There is no file; the link says until when it works (ours)."""
    await saved(store, s3)
    code, seen = await person.types(lambda commands: commands.open("job_1", folder=False))
    [link] = person.opened
    async with httpx.AsyncClient(trust_env=False, timeout=120) as client:
        reply = await client.get(str(link))

    assert (code, reply.content) == (0, VIDEO)
    assert str(link) in seen
    assert "can fetch the video until" in seen


async def test_open_without_credentials_names_the_object_and_what_to_set(
    person: Person, store: SQLiteStore, s3: S3, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The terminal may lack what the configuration of the assistant sets (ours)."""
    await saved(store, s3)
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://storage.example")  # would not be encrypted
    code, seen = await person.types(lambda commands: commands.open("job_1", folder=False))
    in_folder = await person.types(lambda commands: commands.open("job_1", folder=True))

    assert (code, person.opened) == (FAILED, [])
    assert PLACE in seen
    assert "AWS_ENDPOINT_URL" in seen
    assert in_folder == (FAILED, f"The video is in object storage, in no folder: {PLACE}")


async def test_show_and_jobs_name_the_object_and_write_no_link(
    person: Person, store: SQLiteStore, s3: S3
) -> None:
    """Both work without a network (ours)."""
    await saved(store, s3)
    _, shown = await person.types(lambda commands: commands.show("job_1", as_json=False))
    _, table = await person.types(lambda commands: commands.jobs((), None, 20, as_json=False))

    assert PLACE in shown
    assert "X-Amz" not in shown
    assert " saved " in table


async def test_forget_deletes_the_object_and_the_file_that_a_crash_left(
    person: Person, store: SQLiteStore, s3: S3, tmp_path: Path
) -> None:
    """Whoever wants a video gone wants every copy of ours gone (ours)."""
    await saved(store, s3)
    uploads = file_to_upload(tmp_path)
    code, seen = await person.types(lambda commands: commands.forget("job_1", agreed=False))
    record = await store.ledger().find(ME, "job_1")

    assert code == 0
    assert f"It deletes its video: {PLACE}" in seen
    assert f"Deleted: {PLACE}" in seen
    assert s3.objects() == {}
    assert list(uploads.iterdir()) == []
    assert record
    assert record.saved_path is None


async def test_forget_deletes_what_was_uploaded_and_never_recorded(
    person: Person, s3: S3, tmp_path: Path
) -> None:
    """The server ended between the two; its file shows that there may be an object (ours)."""
    in_storage(s3)
    uploads = file_to_upload(tmp_path)
    code, _ = await person.types(lambda commands: commands.forget("job_1", agreed=True))

    assert code == 0
    assert s3.objects() == {}
    assert list(uploads.iterdir()) == []


async def test_nothing_is_forgotten_while_the_object_cannot_be_deleted(
    person: Person, store: SQLiteStore, s3: S3, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Afterwards nobody would know of it (ours)."""
    await saved(store, s3)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "wrong")
    code, seen = await person.types(lambda commands: commands.forget("job_1", agreed=True))
    record = await store.ledger().find(ME, "job_1")

    assert code == FAILED
    assert "Nothing was forgotten, because the video cannot be removed." in seen
    assert "AWS_SECRET_ACCESS_KEY" in seen
    assert record
    assert record.saved_path == PLACE
    assert len(s3.objects()) == 1


def file_to_upload(data: Path) -> Path:
    """A file that a server has left when it ended, and the folder that it is in."""
    uploads = data / "data/uploads"
    uploads.mkdir(mode=0o700)
    (uploads / "2026-11-23_job_1.mp4").write_bytes(VIDEO)
    (uploads / ".2026-11-23_job_1.json").write_text("{}")
    (uploads / ".2026-11-23_job_1.uploaded").touch()
    return uploads
