"""Encrypted WebM and Matroska: certain is what the track of the pictures says of itself."""

import io
import struct
from functools import cache
from typing import Any

import pytest

from tests.inputs.test_preflight import Served, check, whole
from wan_mcp.inputs.byte_ranges import ByteRanges
from wan_mcp.inputs.ebml import MAX_ELEMENTS, MAX_TRACKS_BYTES, pictures_are_encrypted
from wan_mcp.inputs.probe import probe

pytestmark = pytest.mark.anyio

ROOM = 60
"""Bytes of a track's name, in whose place a test puts an element."""


def element(id: int, *parts: bytes) -> bytes:
    data = b"".join(parts)
    return id.to_bytes((id.bit_length() + 7) // 8) + struct.pack(">Q", 1 << 56 | len(data)) + data


def encodings(
    *,
    kind: bytes | None = b"\1",
    scope: bytes | None = None,
    algorithm: bytes | None = b"\5",
) -> bytes:
    """What a track says of the encoding of its frames; by default, that AES encrypts them."""
    settings = b"" if algorithm is None else element(0x5035, element(0x47E1, algorithm))
    type_ = b"" if kind is None else element(0x5033, kind)
    scopes = b"" if scope is None else element(0x5032, scope)
    return element(0x6D80, element(0x6240, scopes, type_, settings))


def track(kind: int, *more: bytes) -> bytes:
    return element(0xAE, element(0xD7, b"\1"), element(0x83, bytes([kind])), *more)


def file(*tracks: bytes, before: bytes = b"") -> ByteRanges:
    """A file of which nothing but the tracks matters."""
    head = element(0x1A45DFA3, bytes(20)) + UNSTATED
    return whole(head + before + element(0x1654AE6B, *tracks))


UNSTATED = b"\x18\x53\x80\x67\x01" + b"\xff" * 7
"""The start of a segment, which does not say how long it is."""
VIDEO, AUDIO = 1, 2


@pytest.mark.parametrize(
    ("tracks", "encrypted"),
    [
        ([track(VIDEO, encodings())], True),
        ([track(AUDIO), track(VIDEO, encodings(), b"")], True),
        ([track(VIDEO, encodings(scope=b"\3"))], True),
        ([track(VIDEO, encodings()), track(VIDEO, encodings(algorithm=b"\1"))], True),
        ([track(VIDEO)], False),
        ([track(VIDEO), track(AUDIO, encodings())], False),
        ([track(VIDEO, encodings()), track(VIDEO)], False),
        ([track(VIDEO, encodings(kind=b"\0"))], False),
        ([track(VIDEO, encodings(kind=None))], False),
        ([track(VIDEO, encodings(scope=b"\2"))], False),
        ([track(VIDEO, encodings(algorithm=b"\0"))], False),
        ([track(VIDEO, encodings(algorithm=None))], False),
        ([], False),
    ],
    ids=[
        *("pictures", "after-sound", "frames-and-settings", "two-tracks"),
        *("none", "sound-only", "one-of-two", "compressed", "compressed-by-default"),
        *("settings-only", "signed-only", "no-algorithm", "no-track"),
    ],
)
def test_pictures_are_encrypted_if_every_video_track_says_so(
    tracks: list[bytes], encrypted: bool
) -> None:
    """An algorithm for the contents of the frames (RFC 9559)."""
    assert pictures_are_encrypted(file(*tracks)) is encrypted


def test_the_tracks_may_stand_behind_other_elements() -> None:
    """A list of places and empty space come first (documented)."""
    before = element(0x114D9B74, bytes(300)) + element(0xEC, bytes(70_000))

    assert pictures_are_encrypted(file(track(VIDEO, encodings()), before=before))


@pytest.mark.parametrize(
    "content",
    [
        whole(b""),
        whole(b"\x1a\x45\xdf\xa3"),
        whole(bytes(500)),
        whole(b"\xff" * 500),
        whole(UNSTATED + b"\x1f\x43\xb6\x75" + b"\x01" + b"\xff" * 7),
        file(track(VIDEO, encodings()), before=b"\xec\x80" * MAX_ELEMENTS),
        whole(UNSTATED + element(0x1654AE6B, track(VIDEO, encodings()))[:-1]),
        file(track(VIDEO, encodings()), element(0xEC, bytes(MAX_TRACKS_BYTES))),
        file(track(VIDEO, encodings())[:-2] + b"\x00"),
    ],
    ids=[
        *("empty", "half", "zeros", "ones", "live", "many", "cut-off", "too-large"),
        "no-number",
    ],
)
def test_elements_that_make_no_sense_are_no_evidence(content: ByteRanges) -> None:
    """libav decides about such a file, within its limits (ours)."""
    assert not pictures_are_encrypted(content)


@cache
def video_file(form: str) -> bytes:
    """A video of 3 s, whose track has a name."""
    av: Any = pytest.importorskip("av")
    target = io.BytesIO()
    with av.open(target, "w", format=form) as container:
        stream = container.add_stream("libvpx", rate=8)
        stream.width, stream.height, stream.pix_fmt = 320, 240, "yuv420p"
        stream.metadata["title"] = "A" * ROOM
        for number in range(24):
            frame = av.VideoFrame(320, 240, "yuv420p")
            for plane in frame.planes:
                plane.update(bytes(plane.buffer_size))
            frame.pts = number
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return target.getvalue()


def with_element(data: bytes, added: bytes) -> bytes:
    """The same file with an element in place of the track's name."""
    name = b"\x53\x6e" + bytes([0x80 | ROOM]) + b"A" * ROOM
    assert data.count(name) == 1
    rest = len(name) - len(added) - 2
    return data.replace(name, added + b"\xec" + bytes([0x80 | rest]) + bytes(rest))


@pytest.mark.parametrize("form", ["webm", "matroska"])
async def test_an_encrypted_clip_is_refused(form: str) -> None:
    """As an encrypted MP4 is: nobody can decode it without its key (ours)."""
    data = with_element(video_file(form), encodings())

    checked = await check(Served(data))

    assert checked.refusal is not None
    assert "video is encrypted, so that nobody can decode it without its key" in checked.text


@pytest.mark.parametrize("form", ["webm", "matroska"])
def test_a_clip_that_is_not_encrypted_is_read_as_before(form: str) -> None:
    """Also one whose frames are only signed (ours)."""
    for data in (
        video_file(form),
        with_element(video_file(form), encodings(algorithm=b"\0")),
    ):
        header = probe(whole(data), "matroska")

        assert (header.is_encrypted, header.counted_seconds) == (False, 3.0)
