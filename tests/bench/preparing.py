"""How much of a 2 GB clip is sent for five of its seconds, and how much memory that takes.

Run it by hand, from the root of the project (it writes 2 GB, and takes a minute or two)::

    python -m tests.bench.preparing [SECONDS_OF_THE_CLIP] [FOLDER]

The clip is 1080p with noise and sound, about 13 Mbit/s. Two fragments are prepared, each in a
process that has imported the whole server: `#t=600,605`, where no key frame is, so that it is
encoded again; and `#t=602,607`, which begins with a key frame and is copied. A shorter clip has its
fragments at half of its length. Printed are what is sent, the time, and the peak memory of the
server and of the process that does the work. The exit code is 1 if more than 20 MB are sent, or if
the server needs more than 150 MB.
"""

import json
import subprocess
import sys
import time
from collections.abc import Iterator
from fractions import Fraction
from importlib import import_module
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import anyio

SEGMENT_SECONDS, RATE, SOUND_RATE = 7, 30, 48_000
"""The clip repeats one segment, which has a single key frame."""
MAX_SENT, MAX_SERVER = 20_000_000, 150_000_000
SELF = (sys.executable, "-m", "tests.bench.preparing")


def make_clip(path: Path, seconds: int, *, size: str = "1920x1080", bits: int = 13_300_000) -> None:
    """Write the clip."""
    import av

    with av.open(str(path), "w") as file:
        options = {"preset": "ultrafast", "g": "1000", "maxrate": f"{bits}", "bufsize": f"{bits}"}
        video: Any = file.add_stream("libx264", rate=RATE, options=options)
        video.width, video.height = map(int, size.split("x"))
        video.bit_rate, video.pix_fmt = bits, "yuv420p"
        sound: Any = file.add_stream("aac", rate=SOUND_RATE, layout="stereo")
        pictures = [p for frame in _pictures(size) for p in video.encode(frame)]
        pictures += video.encode(None)
        tones = [p for frame in _tones() for p in sound.encode(frame)]
        tones += sound.encode(None)
        units = [(p, p.time_base, p.pts, p.dts) for p in (*pictures, *tones)]
        units.sort(key=lambda unit: unit[3] * unit[1])
        for start in range(0, seconds, SEGMENT_SECONDS):
            for packet, unit, pts, dts in units:
                again = av.Packet(bytes(packet))
                again.stream, again.time_base = packet.stream, unit
                again.is_keyframe, again.duration = packet.is_keyframe, packet.duration
                again.pts, again.dts = (time + int(start / unit) for time in (pts, dts))
                file.mux(again)


def _pictures(size: str) -> Iterator[Any]:
    import av
    from av.filter import Graph

    graph = Graph()
    source = graph.add("testsrc2", f"size={size}:rate={RATE}:duration={SEGMENT_SECONDS}")
    steps = [("noise", "alls=12:allf=t"), ("format", "yuv420p"), ("buffersink", "")]
    graph.link_nodes(source, *(graph.add(*step) for step in steps)).configure()
    while True:
        try:
            frame = graph.vpull()
        except av.EOFError:
            return
        frame.pict_type = 0
        yield frame


def _tones() -> Iterator[Any]:
    import av

    # A whole number of packets a little under the length: segments must not overlap.
    for start in range(0, SEGMENT_SECONDS * SOUND_RATE - 2048, 1024):
        frame: Any = av.AudioFrame("s16", "stereo", 1024)
        frame.planes[0].update(bytes(x % 120 for x in range(4096)))
        frame.sample_rate, frame.pts, frame.time_base = SOUND_RATE, start, Fraction(1, SOUND_RATE)
        yield frame


async def measured(path: Path, start: float) -> dict[str, Any]:
    """Find, hash and prepare five seconds of the clip, as the server does."""
    import resource

    from wan_mcp.inputs.local.files import LocalFiles
    from wan_mcp.inputs.local.folders import InputFolders
    from wan_mcp.inputs.local.references import Fragment
    from wan_mcp.inputs.preparing.prepare import prepare
    from wan_mcp.inputs.verdict import VIDEO

    for room in ("server", "app", "surface.mcp_server", "pixeldojo.client", "jobs"):
        import_module(f"wan_mcp.{room}")
    async with anyio.create_task_group() as tasks:
        files = LocalFiles(InputFolders((path.parent,)), 4 << 30, tasks)
        file = await files.locate(path.as_uri(), VIDEO, seconds=3600)
        began = time.monotonic()
        with TemporaryDirectory() as folder:
            fragment = Fragment(start, start + 5)
            ready = await prepare(files.content(file), VIDEO, fragment, 5, Path(folder))
    unit = 1 if sys.platform == "darwin" else 1024
    return {
        "source": file.size,
        "sent": ready.content.size,
        "seconds": round(time.monotonic() - began, 1),
        "server": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit,
        "process": resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * unit,
        "notes": ready.notes,
    }


def main(arguments: list[str]) -> int:
    """Make the clip and print the figures; 1 if one is too high."""
    if arguments[:1] == ["measure"]:
        sys.stdout.write(json.dumps(anyio.run(measured, Path(arguments[1]), float(arguments[2]))))
        return 0
    seconds = int(arguments[0]) if arguments else 1_260
    with TemporaryDirectory(dir=arguments[1] if arguments[1:] else None) as folder:
        clip = Path(folder).resolve() / "clip.mp4"
        make_clip(clip, seconds)
        key = min(602, seconds // 2 // SEGMENT_SECONDS * SEGMENT_SECONDS)
        figures = [figures_of(clip, start) for start in (key - 2, key)]
    for each in figures:
        sys.stdout.write(
            "{:,.0f} MB, sent {:,.1f} MB after {} s; peak memory of the server {:,.0f} MB, of the "
            "process {:,.0f} MB\n  {}\n".format(
                each["source"] / 1e6,
                each["sent"] / 1e6,
                each["seconds"],
                each["server"] / 1e6,
                each["process"] / 1e6,
                *each["notes"],
            )
        )
    return int(any(each["sent"] > MAX_SENT or each["server"] > MAX_SERVER for each in figures))


def figures_of(clip: Path, start: float) -> dict[str, Any]:
    """The figures of one fragment, measured in a process of its own."""
    command = [*SELF, "measure", str(clip), str(start)]
    ran = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    figures: dict[str, Any] = json.loads(ran.stdout)
    return figures


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
