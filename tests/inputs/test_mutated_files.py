"""Files with random damage: no crash and no hang, and never an error of our own."""

import random
import sys
from collections.abc import Iterator

import anyio
import pytest

from tests.inputs.hostile import box
from tests.inputs.test_preflight import HEIC, jpeg, png, video_file, whole
from wan_mcp.inputs.decoder_limits import MEMORY_BYTES
from wan_mcp.inputs.decoder_process import DecoderProcess, NotLookedAt, started
from wan_mcp.inputs.file_types import file_type_of
from wan_mcp.inputs.image_headers import End, end_of, image_size
from wan_mcp.inputs.probe import MODULE, BytesMissing, DamagedVideo, header_of, question

pytestmark = pytest.mark.anyio


def mutants(data: bytes, count: int, *, seed: int) -> Iterator[bytes]:
    """So many damaged copies: bytes replaced, a piece taken out or doubled, the end cut off."""
    chance = random.Random(seed)
    for _ in range(count):
        copy = bytearray(data)
        for _ in range(chance.randint(1, 24)):
            copy[chance.randrange(len(copy))] = chance.choice(
                (0, 1, 0x7F, 0xFF, chance.getrandbits(8))
            )
        start = chance.randrange(len(copy))
        piece = copy[start : start + chance.randint(1, 64)]
        change = chance.randrange(4)
        if change == 0:
            del copy[start : start + len(piece)]
        elif change == 1:
            copy[start:start] = piece
        elif change == 2:
            del copy[start:]
        yield bytes(copy)


@pytest.mark.parametrize(
    "data",
    [png(640, 480), jpeg(640, 480, orientation=6), HEIC + box(b"meta", bytes(200))],
    ids=["png", "jpeg", "heic"],
)
def test_damaged_images_are_judged_without_an_error(data: bytes) -> None:
    """They are looked at in the server itself (ours)."""
    for mutant in mutants(data, 60, seed=len(data)):
        size = image_size(mutant)

        assert size is None or min(size) > 0
        assert end_of(whole(mutant)) in (End.UNKNOWN, End.MISSING)
        file_type_of(mutant, "image/png")


async def look(process: DecoderProcess, data: bytes, demuxer: str) -> None:
    """Each of these ends is one that the check knows."""
    asked, parts = question(whole(data), demuxer, count=True)
    try:
        header_of(await process.ask(asked, parts))
    except (BytesMissing, DamagedVideo):
        return


@pytest.mark.parametrize("form", ["mp4", "webm"])
async def test_damaged_videos_neither_crash_nor_stop_the_server(form: str) -> None:
    """A process that ends is started again; the memory of each stays within its limit (ours)."""
    demuxer, codec = {"mp4": ("mov", "libx264"), "webm": ("matroska", "libvpx")}[form]
    left = list(mutants(video_file(form, codec=codec), 60, seed=7))
    with anyio.fail_after(3_600):
        while left:
            async with started(MODULE) as process:
                try:
                    while left:
                        await look(process, left.pop(), demuxer)
                except NotLookedAt:
                    continue
                assert peak_bytes(process) <= MEMORY_BYTES


def peak_bytes(process: DecoderProcess) -> int:
    """The largest address space that the process has had; 0 where the system does not say."""
    if sys.platform != "linux":
        return 0
    with open(f"/proc/{process.pid}/status") as status:
        (line,) = (line for line in status if line.startswith("VmPeak:"))
    return int(line.split()[1]) * 1024
