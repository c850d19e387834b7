"""Inputs in a bucket: what is uploaded, reused, signed, deleted, and what is left of a failure.

The bucket is that of a real server, which checks signatures and how long they work.
"""

import hashlib
import io
import os
import random
import subprocess
import sys
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import BinaryIO
from urllib.parse import parse_qs, urlsplit

import anyio
import httpx
import pytest

from tests.storage.s3 import BUCKET, S3, URL
from tests.storage.wire import Wire
from wan_mcp.clock import Clock
from wan_mcp.errors import NotSent
from wan_mcp.storage.delivery import Content
from wan_mcp.storage.object_store import ObjectStore, Patience
from wan_mcp.storage.uploads import Uploads

pytestmark = pytest.mark.anyio

SMALL = random.Random(1).randbytes(70_000)
LARGE = random.Random(2).randbytes((5 << 20) + 200_000)
"""More than the program and the system hold at once."""
PATIENT = Patience(answer=600, stall=600, retries=3)
OF_BOTH_SIZES = pytest.mark.parametrize("data", [SMALL, LARGE], ids=["small", "large"])


def content(data: bytes, read: Callable[[], BinaryIO] | None = None) -> Content:
    """An input with these bytes; `read` gives what is really read of it."""
    digest = hashlib.sha256(data).hexdigest()
    opened = read or (lambda: io.BytesIO(data))
    return Content(opened, len(data), digest, ".mp4", "video/mp4")


def uploads(clock: Clock | None = None, patience: Patience = PATIENT) -> Uploads:
    return Uploads(ObjectStore(URL, os.environ, patience), clock or Clock())


def ahead(time: timedelta) -> Clock:
    """A clock of this computer that is ahead of the storage's."""
    return Clock(wall=lambda: datetime.now(UTC) + time)


def name(data: bytes) -> str:
    return f"some/prefix/inputs/{hashlib.sha256(data).hexdigest()}.mp4"


async def link(of: Uploads, what: Content) -> str:
    return await of.link(what, "sub_1", "video", lambda sent: None)


async def fetched(url: str) -> httpx.Response:
    async with httpx.AsyncClient(trust_env=False, timeout=600) as client:
        return await client.get(url)


async def refusal(of: Uploads, what: Content) -> NotSent:
    with pytest.raises(NotSent) as refused:
        await link(of, what)
    return refused.value


class Openings:
    """Counts how often a content is opened."""

    def __init__(self, data: bytes) -> None:
        self.count = 0
        self._data = data

    def __call__(self) -> BinaryIO:
        self.count += 1
        return io.BytesIO(self._data)


@OF_BOTH_SIZES
async def test_link_leads_to_the_very_bytes_with_their_type(s3: S3, data: bytes) -> None:
    """PixelDojo downloads the inputs itself (documented)."""
    reply = await fetched(await link(uploads(), content(data)))

    assert reply.content == data
    assert reply.headers["content-type"] == "video/mp4"
    assert list(s3.objects()) == [name(data)]
    assert await s3.has_forgotten()


async def test_link_lives_six_hours_and_without_its_signature_nothing_is_given(s3: S3) -> None:
    """Whoever has the link has the file, but not for ever (ours)."""
    url = await link(uploads(), content(SMALL))

    assert parse_qs(urlsplit(url).query)["X-Amz-Expires"] == ["21600"]
    assert (await fetched(url.partition("?")[0])).status_code == 403
    assert (await fetched(url.replace("Signature=", "Signature=0"))).status_code == 403


async def test_link_does_not_work_after_its_time(s3: S3) -> None:
    """The server refuses it by its own clock (documented)."""
    await link(uploads(), content(SMALL))
    store = ObjectStore(URL, os.environ)
    short, long = [await store.sign(name(SMALL)[12:], seconds) for seconds in (300, 1200)]

    s3.set_clock_ahead(600)

    assert (await fetched(short)).status_code == 403
    assert (await fetched(long)).status_code == 200


async def test_equal_content_is_uploaded_once_also_by_the_next_server(s3: S3) -> None:
    """The name of the object is the hash of its content (ours)."""
    opened = Openings(SMALL)
    sent: list[int] = []

    first = await link(uploads(), content(SMALL, opened))
    second = await uploads().link(content(SMALL, opened), "sub_2", "video", sent.append)

    assert opened.count == 1
    assert sent == [len(SMALL)]
    assert first.partition("?")[0] == second.partition("?")[0]


async def test_two_calls_at_once_upload_equal_content_once_and_both_see_progress(s3: S3) -> None:
    """The second waits for the first (ours)."""
    opened = Openings(LARGE)
    one = uploads()
    progress: list[list[int]] = [[], []]

    async with anyio.create_task_group() as tasks:
        for number, sent in enumerate(progress):
            what = content(LARGE, opened)
            tasks.start_soon(one.link, what, f"sub_{number}", "video", sent.append)

    assert opened.count == 1
    for sent in progress:
        assert sent == sorted(sent)
        assert sent[-1] == len(LARGE)
        assert any(0 < each < len(LARGE) for each in sent)


async def test_second_of_two_calls_goes_on_when_the_first_is_cancelled(s3: S3) -> None:
    """A cancelled request must not take another one with it (ours)."""
    one = uploads()
    scope = anyio.CancelScope()
    links: list[str] = []

    async def first() -> None:
        with scope:
            await one.link(content(LARGE), "sub_1", "video", lambda sent: scope.cancel())

    async def second() -> None:
        links.append(await link(one, content(LARGE)))

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(first)
        tasks.start_soon(second)

    assert scope.cancelled_caught
    assert (await fetched(links[0])).content == LARGE


@pytest.mark.parametrize(("hours", "times"), [(23, 1), (25, 2)])
async def test_object_older_than_a_day_is_uploaded_anew(s3: S3, hours: int, times: int) -> None:
    """So whatever is two days old can be deleted: no request needs it (ours)."""
    opened = Openings(SMALL)
    await link(uploads(), content(SMALL, opened))
    s3.make_older(name(SMALL), timedelta(hours=hours))

    await link(uploads(), content(SMALL, opened))

    assert opened.count == times


async def test_object_of_another_size_is_replaced(s3: S3) -> None:
    """Its name says what it should be, not what it is (ours)."""
    await link(uploads(), content(SMALL))
    s3.objects()[name(SMALL)].write_bytes(b"half")
    s3.make_older(name(SMALL), timedelta())

    assert (await fetched(await link(uploads(), content(SMALL)))).content == SMALL


class Unreadable(io.BytesIO):
    """A file on a disk that goes away."""

    def read(self, size: int | None = -1) -> bytes:
        if self.tell():
            raise OSError("canary-path")
        return super().read(size)


def gone() -> BinaryIO:
    raise OSError("canary-path")


@OF_BOTH_SIZES
@pytest.mark.parametrize(
    "change",
    [
        lambda data: io.BytesIO(data[:-1] + b"?"),
        lambda data: io.BytesIO(data[:-1]),
        lambda data: io.BytesIO(data + b"?"),
        lambda data: io.BytesIO(),
        Unreadable,
        lambda data: gone(),
    ],
    ids=["other byte", "shorter", "longer", "empty", "unreadable", "gone"],
)
async def test_file_that_changes_while_it_is_uploaded_is_never_visible(
    s3: S3, data: bytes, change: Callable[[bytes], BinaryIO]
) -> None:
    """What is paid for is what was looked at (ours)."""
    refused = await refusal(uploads(), content(data, lambda: change(data)))

    assert refused.what == "The file changed while it was uploaded, or can no longer be read."
    assert refused.next_step == "Call again when the program that writes it has finished."
    assert refused.retry_safe
    assert s3.objects() == {}
    assert await s3.has_forgotten()


async def test_cancelled_upload_leaves_nothing_in_the_bucket(s3: S3) -> None:
    """Nor anything that nobody can see and the cloud charges for (documented)."""
    with anyio.CancelScope() as scope:
        await uploads().link(
            content(LARGE), "sub_1", "video", lambda sent: scope.cancel() if sent else None
        )

    assert scope.cancelled_caught
    assert s3.objects() == {}
    assert await s3.has_forgotten()


async def test_killed_upload_leaves_nothing_and_the_next_call_makes_it_whole(s3: S3) -> None:
    """No program has to find out what another one has left (ours)."""
    program = """
import io, os, sys, anyio
from tests.storage.test_uploads import LARGE, content, uploads
anyio.run(uploads().link, content(LARGE), "sub_1", "video", lambda sent: os._exit(9))
"""
    killed = await anyio.to_thread.run_sync(
        lambda: subprocess.run([sys.executable, "-c", program], cwd=os.getcwd()).returncode
    )
    assert killed == 9
    assert s3.objects() == {}
    assert await s3.has_forgotten()

    assert (await fetched(await link(uploads(), content(LARGE)))).content == LARGE


POINTS = sorted(random.Random(4).sample(range(len(LARGE)), 10))


@pytest.mark.parametrize("after", POINTS)
async def test_upload_whose_connection_breaks_once_is_finished(
    s3: S3, after: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is sent again, from its beginning (ours)."""
    wire = Wire(s3.endpoint, breaks_after=after)
    async with wire.opened() as endpoint:
        monkeypatch.setenv("AWS_ENDPOINT_URL", endpoint)
        await link(uploads(), content(LARGE))

    assert wire.breaks == 1
    assert s3.objects()[name(LARGE)].read_bytes() == LARGE
    assert await s3.has_forgotten()


@OF_BOTH_SIZES
async def test_upload_whose_connections_all_break_is_not_sent_and_leaves_nothing(
    s3: S3, data: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same call may be repeated: nothing was charged (ours)."""
    wire = Wire(s3.endpoint, breaks_each_after=60_000)
    async with wire.opened() as endpoint:
        monkeypatch.setenv("AWS_ENDPOINT_URL", endpoint)
        refused = await refusal(uploads(), content(data))

    assert refused.what == f"The connection to the storage {URL} broke off."
    assert refused.retry_safe
    assert s3.objects() == {}
    assert await s3.has_forgotten()


async def test_upload_that_stands_still_ends_after_the_limit(
    s3: S3, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A request must not wait for ever with its credits reserved (ours)."""
    wire = Wire(s3.endpoint, breaks_after=1_000_000, falls_silent=True)
    async with wire.opened() as endpoint:
        monkeypatch.setenv("AWS_ENDPOINT_URL", endpoint)
        patience = Patience(answer=600, stall=1)  # it never moves again
        refused = await refusal(uploads(patience=patience), content(LARGE))

    assert refused.what.startswith(f"The storage {URL} was too slow")
    assert refused.retry_safe
    assert s3.objects() == {}


OLD = timedelta(days=2, minutes=1)


@pytest.mark.parametrize("wrong", [timedelta(), timedelta(days=9), timedelta(days=-9)])
async def test_only_own_inputs_older_than_two_days_are_deleted_by_the_storages_clock(
    s3: S3, wrong: timedelta
) -> None:
    """A wrong clock of this computer must not delete what a living request needs (ours)."""
    young, old = SMALL, SMALL[:-1]
    for data in (young, old):
        await link(uploads(), content(data))
    s3.make_older(name(old), OLD)
    own_name = f"{'0' * 64}.mp4"
    others = [
        *("some/prefix/inputs/holiday.mp4", f"some/prefix/inputs/deeper/{own_name}"),
        *(f"some/prefix/videos/{own_name}", f"some/{own_name}", f"inputs/{own_name}"),
        *(f"some/prefix/inputs2/{own_name}", f"some/prefix/inputs/{own_name}.bak.txt"),
    ]
    for other in others:
        path = s3.folder / BUCKET / other
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"theirs")
        then = datetime.now(UTC) - OLD
        os.utime(path, (then.timestamp(), then.timestamp()))

    assert await uploads(ahead(wrong)).delete_old() == 1

    assert set(s3.objects()) == {name(young), *others}


async def test_nothing_is_written_to_an_empty_bucket_to_delete_what_is_old(s3: S3) -> None:
    """Somebody who never uploads must not find anything there (ours)."""
    s3.set_clock_ahead(60)

    assert await uploads().delete_old() == 0
    assert s3.objects() == {}
    assert not (s3.folder / BUCKET / "some").exists()
