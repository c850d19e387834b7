"""Inputs in a bucket: what is uploaded, reused, signed, deleted, and what is left after a failure.

The bucket is that of a real server, which checks signatures; only cuts and other clouds' answers
are made up by a socket in between.
"""

import hashlib
import io
import os
import random
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import BinaryIO

import httpx
import pytest

from tests.storage.s3 import S3, URL
from wan_mcp.clock import Clock
from wan_mcp.storage.delivery import Content
from wan_mcp.storage.object_store import ObjectStore, Patience
from wan_mcp.storage.uploads import Uploads

pytestmark = pytest.mark.anyio

SMALL = random.Random(1).randbytes(70_000)
LARGE = random.Random(2).randbytes((11 << 20) + 123)
"""Three parts, of which the last is short."""
QUICK = Patience(retries=2)


def content(data: bytes, read: Callable[[], BinaryIO] | None = None) -> Content:
    """An input with these bytes; `read` gives what is really read of it."""
    digest = hashlib.sha256(data).hexdigest()
    opened = read or (lambda: io.BytesIO(data))
    return Content(opened, len(data), digest, ".mp4", "video/mp4")


def uploads(clock: Clock | None = None, patience: Patience = QUICK) -> Uploads:
    return Uploads(ObjectStore(URL, os.environ, patience), clock or Clock())


def ahead(**time: float) -> Clock:
    """A clock of this computer that is ahead of the storage's."""
    return Clock(wall=lambda: datetime.now(UTC) + timedelta(**time))


async def link(of: Uploads, what: Content) -> str:
    return await of.link(what, "sub_1", "video", lambda sent: None)


async def fetched(url: str) -> httpx.Response:
    async with httpx.AsyncClient(trust_env=False, timeout=120) as client:
        return await client.get(url)


@pytest.mark.parametrize("data", [SMALL, LARGE], ids=["in one request", "in parts"])
async def test_link_leads_to_the_very_bytes_with_their_type(s3: S3, data: bytes) -> None:
    """PixelDojo downloads the inputs itself (documented)."""
    reply = await fetched(await link(uploads(), content(data)))

    assert reply.content == data
    assert reply.headers["content-type"] == "video/mp4"
    name = f"some/prefix/inputs/{hashlib.sha256(data).hexdigest()}.mp4"
    assert list(s3.objects()) == [name]
    assert s3.parts() == []
