"""Makes the README's moving picture: `wan-mcp demo` in a terminal, then its video in the player.

    python -m tests.surface.host.moving_picture .venv/bin/wan-mcp

It needs Linux or macOS, Chromium, playwright and PyAV, and the program that the README's first
command installs. What it shows is what this program wrote to a terminal, at four times its speed,
and the video that it saved, in the real player. Only the typing of the command is drawn.
"""

import io
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator
from fractions import Fraction
from html import escape
from itertools import accumulate
from pathlib import Path
from typing import Any

import av
from av.filter import Graph

from wan_mcp.inputs.preparing.filters import filtered

PICTURE = Path(__file__).parents[3] / ".github" / "demo.gif"
WIDTH, HEIGHT = 720, 500
COLUMNS = 74
COMMAND = "wan-mcp demo"
TYPING_SECONDS = 1.2
FRAME_SECONDS = 0.25
SPEED = 4.0
"""How much faster than the recording the terminal runs."""
PAUSE_SECONDS = 1.5
"""How long the last lines and the last picture stay."""
WIPE_SECONDS, WIPE_FRAMES = 4.0, 28
COLOURS = 128
TICK = Fraction(1, 100)
"""In which a GIF counts time, in seconds."""

TERMINAL = """<!doctype html><meta charset="utf-8"><style>
body {{ margin: 0; background: #0d1117; color: #e6edf3; height: {height}px; overflow: hidden }}
pre {{ margin: 24px; font: 15px/1.7 "Liberation Mono", monospace; white-space: pre-wrap;
  overflow-wrap: anywhere }}
b {{ color: #3fb950 }}
</style><pre><b>$</b> {text}</pre>"""

Frames = list[tuple[float, bytes]]
"""Pictures as PNG, each with the seconds that it stays."""


def recorded(program: str, folder: Path) -> list[tuple[float, str]]:
    """What the demo writes to a terminal, with the second of each piece; its video is in folder."""
    import fcntl
    import pty
    import struct
    import termios

    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, COLUMNS, 0, 0))
    home = {"PATH": os.environ["PATH"], "HOME": str(folder)}
    pieces = []
    start = time.monotonic()
    with subprocess.Popen(
        [program, "demo"], cwd=folder, env=home, stdout=theirs, stderr=theirs
    ) as demo:
        os.close(theirs)
        with open(ours, "rb", buffering=0) as terminal:
            while piece := read(terminal):
                pieces.append((time.monotonic() - start, piece.decode()))
    if demo.returncode:
        raise SystemExit("the demo failed:\n" + "".join(text for _, text in pieces))
    return pieces


def read(terminal: io.FileIO) -> bytes:
    """The next piece; empty when the program has ended, which Linux reports as an error."""
    try:
        return terminal.read(65_536) or b""
    except OSError:
        return b""


def screen(written: str) -> str:
    """What a terminal shows after this was written to it: `\\r` goes back and overwrites."""
    lines = [""]
    column = 0
    for character in written:
        if character == "\r":
            column = 0
        elif character == "\n":
            lines.append("")
            column = 0
        else:
            lines[-1] = lines[-1][:column] + character + lines[-1][column + 1 :]
            column += 1
    return "\n".join(line.rstrip() for line in lines)


def screens(pieces: list[tuple[float, str]]) -> Iterator[tuple[float, str]]:
    """The terminal from the first key to the last line: each screen, and how long it stays."""
    for count in range(len(COMMAND) + 1):
        yield TYPING_SECONDS / len(COMMAND), COMMAND[:count]
    steps = range(int(pieces[-1][0] / SPEED / FRAME_SECONDS) + 2)
    shown = [
        screen("".join(t for at, t in pieces if at <= n * FRAME_SECONDS * SPEED)) for n in steps
    ]
    yield from ((FRAME_SECONDS, f"{COMMAND}\n{text}") for text in shown)
    yield PAUSE_SECONDS, f"{COMMAND}\n{shown[-1]}"


def without_repeats(shown: Iterable[tuple[float, str]]) -> Iterator[tuple[float, str]]:
    """Equal neighbours become one that stays as long as all of them."""
    last, stays = None, 0.0
    for seconds, text in shown:
        if text != last and last is not None:
            yield stays, last
            stays = 0.0
        last, stays = text, stays + seconds
    if last is not None:
        yield stays, last


def terminal_frames(browser: Any, pieces: list[tuple[float, str]]) -> Frames:
    """The scene in the terminal."""
    tab = browser.new_page(viewport={"width": WIDTH, "height": HEIGHT})
    frames = []
    for seconds, text in without_repeats(screens(pieces)):
        tab.set_content(TERMINAL.format(height=HEIGHT, text=escape(text)))
        frames.append((seconds, tab.screenshot()))
    tab.close()
    return frames


def player_frames(browser: Any, video: Path, written: str) -> Frames:
    """The scene in the player: the slider uncovers the result while both videos run."""
    from tests.surface import test_player as tests
    from tests.surface.host.screenshots import FONT

    shutil.copy(tests.MEDIA / "clip.mp4", video.with_name("clip.mp4"))
    tests.MEDIA = video.parent  # from where its pages get both videos
    video.rename(video.with_name("result.mp4"))
    job = written.partition("Job:")[2].split()[0]
    source = {f"wan://jobs/{job}/source": tests.blob("clip.mp4")}
    frames = []
    with tests.player_pages(browser) as show:
        shown = show(theme="light", resources=source, fixed_clock=True)
        shown.frame.add_style_tag(content=FONT)
        shown.answered(**{**tests.completed(), "job_id": job})
        shown.wait_for_video()
        shown.wait_for_source()
        slider = shown.frame.get_by_label("Wipe between source and result")
        for number in range(WIPE_FRAMES):
            done = number / (WIPE_FRAMES - 1)
            slider.fill(str(round(100 - 100 * smooth(done))))
            slider.blur()
            shown.frame.evaluate("(second) => { film.currentTime = second }", done * WIPE_SECONDS)
            shown.until("!film.seeking && !source.seeking")
            frames.append((WIPE_SECONDS / WIPE_FRAMES, shot(shown)))
    return [*frames[:-1], (PAUSE_SECONDS, frames[-1][1])]


def shot(shown: Any) -> bytes:
    """The upper part of the player: title, video and buttons."""
    picture: bytes = shown.tab.screenshot(clip={"x": 0, "y": 0, "width": WIDTH, "height": HEIGHT})
    return picture


def smooth(done: float) -> float:
    """A share of a movement that rests for its first and last quarter."""
    moved = min(max((done - 0.2) / 0.6, 0), 1)
    return moved * moved * (3 - 2 * moved)


def gif(frames: Frames) -> bytes:
    """The frames as an animated GIF that runs forever, with the colours that fit all of them."""
    pictures = [decoded(png) for _, png in frames]
    ends = list(accumulate(round(seconds / TICK) for seconds, _ in frames))
    target = io.BytesIO()
    with av.open(target, "w", format="gif", options={"loop": "0"}) as output:
        stream = output.add_stream("gif", rate=round(1 / TICK))
        stream.width, stream.height = pictures[0].width, pictures[0].height
        stream.pix_fmt = "pal8"
        for frame, begin in zip(in_few_colours(pictures), [0, *ends], strict=False):
            frame.pts, frame.time_base = begin, TICK
            output.mux(stream.encode(frame))
        frame.pts = ends[-1]  # the last picture again: only the next one ends its time
        output.mux(stream.encode(frame))
        output.mux(stream.encode(None))
    return target.getvalue()


def decoded(png: bytes) -> av.VideoFrame:
    """The picture of a PNG file."""
    with av.open(io.BytesIO(png), "r") as file:
        picture = next(file.decode(video=0)).reformat(format="bgra")
    picture.color_range = av.video.reformatter.ColorRange.JPEG
    return picture


def in_few_colours(pictures: list[av.VideoFrame]) -> Iterator[av.VideoFrame]:
    """The pictures with one palette, made of all of them."""
    palette = filtered(pictures, (("palettegen", f"max_colors={COLOURS}"),))
    graph = Graph()
    sides = [
        graph.add(
            "buffer",
            f"video_size={side.width}x{side.height}:pix_fmt=bgra:time_base=1/1"
            f":colorspace={int(side.colorspace)}:range={int(side.color_range)}",
        )
        for side in (pictures[0], palette)
    ]
    painter, end = (
        graph.add("paletteuse", "dither=none:diff_mode=rectangle"),
        graph.add("buffersink"),
    )
    for number, side in enumerate(sides):
        side.link_to(painter, 0, number)
    painter.link_to(end)
    graph.configure()
    palette.pts, palette.time_base = 0, Fraction(1)
    graph.vpush(palette, 1)
    graph.vpush(None, 1)
    for number, picture in enumerate(pictures):
        picture.pts, picture.time_base = number, Fraction(1)
        graph.vpush(picture, 0)
        yield graph.vpull()


def main() -> None:
    """Make it."""
    from playwright.sync_api import sync_playwright

    from tests.surface.test_player import FLAGS

    (program,) = sys.argv[1:]
    chromium = shutil.which("chromium") or shutil.which("google-chrome")
    with tempfile.TemporaryDirectory(prefix="wan-mcp-") as name, sync_playwright() as driver:
        pieces = recorded(os.path.abspath(program), Path(name))
        (video,) = Path(name).glob("*.mp4")
        browser = driver.chromium.launch(executable_path=chromium, args=FLAGS)
        frames = terminal_frames(browser, pieces)
        frames += player_frames(browser, video, "".join(text for _, text in pieces))
        browser.close()
    PICTURE.write_bytes(gif(frames))


if __name__ == "__main__":
    main()
