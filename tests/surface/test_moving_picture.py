"""The README's moving picture: it shows what the demo wrote, in the order in which it did."""

import io
from itertools import pairwise

import pytest

av = pytest.importorskip("av", reason="the extra media is not installed")

from tests.surface.host.moving_picture import (  # noqa: E402 - it needs PyAV
    COMMAND,
    PICTURE,
    gif,
    screen,
    screens,
    without_repeats,
)

RED, BLUE = (255, 0, 0), (0, 0, 255)


def plain(colour: tuple[int, int, int]) -> bytes:
    """A small PNG of one colour."""
    frame = av.VideoFrame(16, 16, "rgb24")
    frame.planes[0].update(bytes(colour) * 16 * (frame.planes[0].line_size // 3))
    target = io.BytesIO()
    with av.open(target, "w", format="image2pipe") as output:
        stream = output.add_stream("png")
        stream.width, stream.height, stream.pix_fmt = 16, 16, "rgb24"
        output.mux(stream.encode(frame))
        output.mux(stream.encode(None))
    return target.getvalue()


def test_a_line_that_is_written_again_is_overwritten() -> None:
    """As on a terminal: the demo's bar draws itself over itself (ours)."""
    assert screen("Server\n[#..] 0:01\r[##.] 0:02\r          \rDone\n") == "Server\nDone\n"


def test_every_screen_comes_in_its_turn_and_the_last_one_stays() -> None:
    """The command is typed, then its output appears when it was written (ours)."""
    pieces = [(0.5, "Server\n"), (8.0, "Saved\n")]

    shown = list(without_repeats(screens(pieces)))

    texts = [text for _, text in shown]
    assert texts[1:3] == [COMMAND[:1], COMMAND[:2]]
    assert texts[-2:] == [f"{COMMAND}\nServer\n", f"{COMMAND}\nServer\nSaved\n"]
    assert all(one != other for one, other in pairwise(texts))
    assert sum(seconds for seconds, _ in shown) == pytest.approx(
        sum(seconds for seconds, _ in screens(pieces))
    )


def test_gif_shows_each_picture_for_its_time() -> None:
    """Colours survive the palette, and nothing is lost at the end (ours)."""
    content = gif([(0.25, plain(RED)), (1.5, plain(BLUE))])

    with av.open(io.BytesIO(content)) as file:
        frames = [
            (float(frame.time), bytes(frame.reformat(format="rgb24").planes[0])[:3])
            for frame in file.decode(video=0)
        ]
        lasts = file.duration / av.time_base
    assert frames[:2] == [(0.0, bytes(RED)), (0.25, bytes(BLUE))]
    assert lasts >= 1.75


def test_picture_of_the_readme_moves_and_loads_fast() -> None:
    """A first visitor sees it within seconds, and to its end (ours)."""
    with av.open(str(PICTURE)) as file:
        frames = sum(1 for _ in file.decode(video=0))
        lasts = file.duration / av.time_base
        size = (file.streams.video[0].width, file.streams.video[0].height)

    assert PICTURE.stat().st_size < 1_000_000
    assert size == (720, 500)
    assert frames > 30
    assert 8 < lasts < 25
