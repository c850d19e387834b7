"""The sandbox renders a job's video from the job's own inputs, as its parameters say."""

import ssl
import sys
import threading
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from fractions import Fraction
from functools import cache
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from io import BytesIO
from itertools import count
from pathlib import Path
from typing import Any

import anyio
import httpx
import pytest

from wan_mcp.sandbox import Sandbox, Terms
from wan_mcp.sandbox.videos import inputs, render_queue

av = pytest.importorskip("av", reason="the extra `media` is not installed")

pytestmark = pytest.mark.anyio

LIMIT_SECONDS = 3600
"""No test here depends on the speed of the machine; only one that hangs gets this far."""
RUN = "models/wan-2.2-replace/run"
MAGENTA, GREY, CLEAR = (255, 0, 255, 255), (90, 90, 90, 255), (0, 0, 0, 0)

STEADY = tuple(number / 25 for number in range(75))
UNEVEN = (0, 0.1, 0.15, 0.9, 1.0, 1.6, 1.64, 1.68, 2.2, 2.9)
FAILED = "The video could not be rendered: the process"
HANGS = "import threading; threading.Event().wait()"
PLAYLIST = b"#EXTM3U\n#EXT-X-TARGETDURATION:8\n#EXTINF:8,\n/a/file.mp4\n#EXT-X-ENDLIST\n"

Colour = tuple[int, int, int, int]


@dataclass
class Host:
    """A web server on loopback: files by path, and paths that are answered in other ways.

    Attributes:
        requested: how often each path was requested.
        gate: open unless a test clears it; each request waits for it.
        at_gate: released by each request that has reached the gate.
        most_at_once: the most requests that waited there at the same time.
    """

    origin: str = ""
    files: dict[str, bytes] = field(default_factory=dict)
    redirects: dict[str, str] = field(default_factory=dict)
    requested: Counter[str] = field(default_factory=Counter)
    gate: threading.Event = field(default_factory=threading.Event)
    at_gate: threading.Semaphore = field(default_factory=lambda: threading.Semaphore(0))
    most_at_once: int = 0
    open_requests: int = 0

    async def reached(self) -> None:
        """Wait for one more request at the gate."""
        await anyio.to_thread.run_sync(self.at_gate.acquire, abandon_on_cancel=True)


@pytest.fixture
def host() -> Iterator[Host]:
    host = Host()
    host.gate.set()
    lock = threading.Lock()

    class Responder(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            with lock:
                host.requested[self.path] += 1
                host.open_requests += 1
                host.most_at_once = max(host.most_at_once, host.open_requests)
            host.at_gate.release()
            host.gate.wait()
            with lock:
                host.open_requests -= 1
            self.respond()

        def respond(self) -> None:
            content = host.files.get(self.path, b"")
            if self.path in host.redirects:
                self.send_response(302)
                self.send_header("Location", host.redirects[self.path])
            else:
                self.send_response(200 if content else 404)
            longer = 9 if self.path.startswith("/broken/") else 0
            self.send_header("Content-Length", str(len(content) + longer))
            self.end_headers()
            with suppress(ConnectionError):  # some clients rightly leave before the end
                self.wfile.write(content)

        def log_message(self, format: str, *args: Any) -> None:
            """Write nothing to stderr."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Responder)
    host.origin = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    yield host
    host.gate.set()
    server.shutdown()
    server.server_close()
    thread.join()


def striped_frame(size: tuple[int, int], *columns: Colour) -> Any:
    """An image of vertical stripes."""
    width, height = size
    row = b"".join(bytes(columns[x * len(columns) // width]) for x in range(width))
    return av.VideoFrame.from_bytes(row * height, width, height)


def image_file(
    container_format: str = "image2pipe", codec: str = "png", pixels: str = "rgba"
) -> bytes:
    """A character: magenta on the left; on the right transparent, if the format can be."""
    return video_file(
        container_format,
        codec,
        pixels,
        size=(60, 80),
        times=(0,),
        columns=(MAGENTA, CLEAR),
        audio_codec="",
    )


@cache
def video_file(
    container_format: str = "mp4",
    codec: str = "libx264",
    pixels: str = "yuv420p",
    *,
    size: tuple[int, int] = (320, 180),
    times: tuple[float, ...] = STEADY,
    columns: tuple[Colour, ...] = (GREY,),
    audio_codec: str = "aac",
    turn: int = 0,
) -> bytes:
    """A video of vertical stripes with audio of the same length.

    By default it has 25 frames a second and lasts 3 s.
    """
    file = BytesIO()
    with av.open(file, "w", format=container_format) as output:
        video = output.add_stream(codec, rate=25)
        video.width, video.height = size
        video.pix_fmt = pixels
        video.codec_context.time_base = Fraction(1, 25 if codec == "gif" else 1000)
        if turn:
            video.set_display_rotation(turn)
        audio = output.add_stream(audio_codec, rate=48_000, layout="mono") if audio_codec else None
        for time in times:
            frame = striped_frame(size, *columns).reformat(format=pixels)
            frame.time_base = video.codec_context.time_base
            frame.pts = round(time / frame.time_base)
            output.mux(video.encode(frame))
        output.mux(video.encode(None))
        if audio:
            add_audio(output, audio, times[-1] + 0.04)
    return file.getvalue()


def audio_file() -> bytes:
    """One second of audio, without video."""
    file = BytesIO()
    with av.open(file, "w", format="mp4") as output:
        add_audio(output, output.add_stream("aac", rate=48_000, layout="mono"), 1)
    return file.getvalue()


def add_audio(output: Any, stream: Any, seconds: float) -> None:
    for start in range(0, round(seconds * 48_000), 960):
        frame = av.AudioFrame("s16", "mono", 960)
        frame.sample_rate, frame.pts, frame.time_base = 48_000, start, Fraction(1, 48_000)
        frame.planes[0].update(bytes(range(240)) * 8)
        output.mux(stream.encode(frame))
    output.mux(stream.encode(None))


@dataclass
class Seen:
    """What a video file really contains.

    Attributes:
        audio: seconds of audio; 0 without any.
        first: the first frame, in RGB.
    """

    content: bytes
    seconds: float
    height: int
    width: int
    rate: Fraction
    audio: float
    first: Any

    def pixel(self, x: int, y: int) -> tuple[int, ...]:
        plane = self.first.planes[0]
        at = y * plane.line_size + 3 * x
        return tuple(bytes(plane)[at : at + 3])


def seen(content: bytes) -> Seen:
    with av.open(BytesIO(content)) as file:
        video = file.streams.video[0]
        audio_seconds = [float(track.duration * track.time_base) for track in file.streams.audio]
        return Seen(
            content=content,
            seconds=file.duration / av.time_base,
            height=video.height,
            width=video.width,
            rate=video.average_rate,
            audio=max(audio_seconds, default=0.0),
            first=next(file.decode(video)).reformat(format="rgb24"),
        )


@dataclass
class Customer:
    """A client, the sandbox it talks to, the sandbox's clock, and the host of its inputs."""

    http: httpx.AsyncClient
    sandbox: Sandbox
    host: Host
    now: float = 0.0

    async def submit(self, **changes: object) -> str:
        inputs = {
            "video": f"{self.host.origin}/source",
            "character_image": f"{self.host.origin}/png",
        }
        body = {**inputs, "video_duration": 2, **changes}
        return str((await self.http.post(RUN, json=body)).raise_for_status().json()["jobId"])

    async def job(self, job_id: str) -> Any:
        return (await self.http.get(f"jobs/{job_id}")).raise_for_status().json()

    async def ended(self, job_id: str) -> Any:
        """The job's page when its video was rendered, or failed, and its waiting time is over."""
        self.now += 5
        await self.sandbox.until(lambda: self.sandbox.vendor.renderings[job_id].ended)
        return await self.job(job_id)

    async def video(self, **changes: object) -> Seen:
        job = await self.ended(await self.submit(**changes))
        assert job["status"] == "completed", job
        return seen((await self.http.get(job["output"]["video"])).content)


@asynccontextmanager
async def customer_of(host: Host, **terms: Any) -> AsyncIterator[Customer]:
    with anyio.fail_after(LIMIT_SECONDS):
        at: list[Customer] = []
        sandbox = Sandbox(
            Terms(**{"videos": "own", "credits": 1000, **terms}),
            clock=lambda: at[0].now if at else 0.0,
            idle_seconds=LIMIT_SECONDS,
        )
        sandbox.render_queue.seconds = sandbox.render_queue.fetch_seconds = LIMIT_SECONDS
        headers = {"Authorization": f"Bearer {sandbox.key}"}
        bare = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        async with (
            sandbox,
            httpx.AsyncClient(
                base_url=sandbox.api_base,
                headers=headers,
                verify=bare,
                trust_env=False,
                timeout=None,
            ) as http,
        ):
            at.append(Customer(http, sandbox, host))
            yield at[0]


@pytest.fixture
async def customer(host: Host) -> AsyncIterator[Customer]:
    host.files |= {"/source": video_file(), "/png": image_file()}
    async with customer_of(host) as customer:
        yield customer


@pytest.mark.parametrize(
    ("requested", "seconds", "height", "rate", "audio"),
    [
        ({}, 2, 480, 25, True),
        ({"video_duration": 1}, 1, 480, 25, True),
        ({"video_duration": 3, "resolution": "720"}, 3, 720, 25, True),
        ({"video_duration": 15}, 3, 480, 25, True),
        ({"frames_per_second": 8}, 2, 480, 8, True),
        ({"frames_per_second": 30}, 2, 480, 30, True),
        ({"merge_audio": False}, 2, 480, 25, False),
        ({"merge_audio": True, "go_fast": True, "refert_num": 10}, 2, 480, 25, True),
    ],
)
async def test_video_is_what_the_parameters_ask_for(
    customer: Customer,
    requested: dict[str, object],
    seconds: float,
    height: int,
    rate: int,
    audio: bool,
) -> None:
    """Length, height, rate and audio follow the body; no video is longer than its source (ours)."""
    video = await customer.video(**requested)

    assert video.seconds == pytest.approx(seconds, abs=0.05)
    assert (video.height, video.rate) == (height, Fraction(rate))
    assert video.width == pytest.approx(height * 16 / 9, abs=2)
    assert video.audio == pytest.approx(seconds if audio else 0, abs=0.05)


async def test_video_plays_before_it_is_complete(customer: Customer) -> None:
    """Its index comes before its frames, as in the vendor's own results (assumed)."""
    video = await customer.video()

    assert 0 < video.content.index(b"moov") < video.content.index(b"mdat")


@pytest.mark.parametrize(
    ("source", "shape", "seconds"),
    [
        (lambda: video_file("webm", "libvpx", audio_codec="libopus"), (854, 480), 2),
        (lambda: video_file("mov", "mpeg4", audio_codec="pcm_s16le"), (854, 480), 2),
        (lambda: video_file(size=(180, 320)), (270, 480), 2),
        (lambda: video_file(pixels="yuv444p", size=(161, 121), audio_codec=""), (638, 480), 2),
        (lambda: video_file(times=UNEVEN, audio_codec=""), (854, 480), 2),
        (lambda: video_file(times=(0, 0.04), audio_codec=""), (854, 480), 0.08),
        (lambda: video_file("gif", "gif", "rgb8", audio_codec=""), (854, 480), 2),
        (lambda: video_file(turn=-90), (270, 480), 2),
        (lambda: video_file(turn=180), (854, 480), 2),
    ],
    ids=["webm", "mov", "portrait", "odd", "uneven", "short", "gif", "phone", "head-down"],
)
async def test_any_common_source_can_be_rendered(
    customer: Customer, source: Callable[[], bytes], shape: tuple[int, int], seconds: float
) -> None:
    """Its shape is kept, rounded to even pixels, and a rotated video is turned upright (ours)."""
    customer.host.files["/source"] = source()

    video = await customer.video()

    assert (video.width, video.height) == shape
    assert video.seconds == pytest.approx(seconds, abs=float(1 / video.rate))


async def test_rotated_video_is_turned_upright(customer: Customer) -> None:
    """Turned clockwise, the left side comes to the top (the display matrix of MP4)."""
    red, blue = (200, 0, 0, 255), (0, 0, 200, 255)
    customer.host.files["/source"] = video_file(columns=(red, blue), turn=-90)

    video = await customer.video()

    middle = video.width // 2
    assert video.pixel(middle, 180)[0] > 150 > 50 > video.pixel(middle, 180)[2]
    assert video.pixel(middle, 300)[2] > 150 > 50 > video.pixel(middle, 300)[0]


def corner_of(video: Seen, colour: Colour) -> tuple[int, int] | None:
    """Where in the frame a character of 120 to 160 pixels stands, by the colour of its middle."""
    for x in (30, video.width - 110):
        for y in (90, video.height - 90):
            if all(abs(a - b) < 30 for a, b in zip(video.pixel(x, y), colour, strict=False)):
                return x, y
    return None


@pytest.mark.parametrize(
    ("image", "see_through"),
    [
        (lambda: image_file("image2pipe", "png", "rgba"), True),
        (lambda: image_file("webp", "libwebp", "yuva420p"), True),
        (lambda: image_file("image2pipe", "mjpeg", "yuvj444p"), False),
        (lambda: image_file("gif", "gif", "rgb8"), False),
    ],
    ids=["png", "webp", "jpeg", "gif"],
)
async def test_character_stands_in_a_corner(
    customer: Customer, image: Callable[[], bytes], see_through: bool
) -> None:
    """It has a third of the video's height, and its transparent parts show the video (ours)."""
    customer.host.files["/png"] = image()

    video = await customer.video(seed=1)

    at = corner_of(video, MAGENTA)
    assert at is not None
    beside = video.pixel(at[0] + 65, at[1])
    assert (max(beside) - min(beside) < 30 and 60 < beside[0] < 120) is see_through


LETTER_S = """
.####
#....
#....
.###.
....#
....#
####.
"""


async def test_video_is_marked_sandbox(customer: Customer) -> None:
    """Nobody can mistake it for the model's work. Checks the first letter, dot by dot (ours)."""
    video = await customer.video(seed=1)

    character = corner_of(video, MAGENTA)
    assert character is not None
    # The watermark has 3 pixels a dot, double size for the title, and is 27 dots high.
    left = 12 + 3 * 2
    top = left if character[1] > 240 else 480 - 12 - 3 * 27 + 3 * 2
    rows = (
        "".join(
            "#" if min(video.pixel(left + 6 * x + 3, top + 6 * y + 3)) > 180 else "."
            for x in range(5)
        )
        for y in range(7)
    )
    assert "\n".join(rows) == LETTER_S.strip()


async def test_a_seed_repeats_its_video(customer: Customer) -> None:
    """The same seed gives the same bytes, and another seed gives another video (assumed)."""
    seven, again, eight = [(await customer.video(seed=seed)).content for seed in (7, 7, 8)]

    assert seven == again
    assert seven != eight


async def test_without_a_seed_each_video_is_different(customer: Customer) -> None:
    """The sandbox then chooses a seed, as the model probably does (assumed)."""
    first, second = await customer.video(), await customer.video()

    assert first.content != second.content


@pytest.mark.parametrize("requested", [{"refert_num": 1}, {"go_fast": True}])
async def test_other_parameters_show_in_the_video(
    customer: Customer, requested: dict[str, Any]
) -> None:
    """They change only the watermark, which shows that they arrived (ours)."""
    plain, changed = await customer.video(seed=1), await customer.video(seed=1, **requested)

    assert plain.content != changed.content


def cut_off(host: Host) -> str:
    host.files["/broken/source"] = host.files["/source"]
    return f"{host.origin}/broken/source"


def file_at(host: Host, content: bytes) -> str:
    host.files["/other"] = content
    return f"{host.origin}/other"


def circle(host: Host) -> str:
    host.redirects["/circle"] = "/circle"
    return f"{host.origin}/circle"


def sideways(host: Host, url: str) -> str:
    host.redirects["/sideways"] = url
    return f"{host.origin}/sideways"


@pytest.mark.parametrize(
    ("url", "why"),
    [
        (lambda host: f"{host.origin}/missing", "fetched: its host answered HTTP 404."),
        (lambda host: circle(host), "fetched: its host answered HTTP 302."),
        (lambda host: sideways(host, "file:///etc/passwd"), "fetched: its host answered HTTP 302."),
        (lambda host: sideways(host, "ftp://127.0.0.1/"), "fetched: its address or its host's"),
        (lambda host: cut_off(host), "fetched: its host stopped before the end."),
        (lambda host: "http://127.0.0.1:1/", "fetched: no connection (ConnectionRefusedError)."),
        (lambda host: "http://a b/", "fetched: its address or its host's"),
        (lambda host: file_at(host, b"<html>"), "read: Invalid data found"),
        (lambda host: file_at(host, PLAYLIST), "read: Invalid data found"),
        (lambda host: file_at(host, audio_file()), "read: it contains no image."),
    ],
)
async def test_unusable_video_fails_the_job(
    customer: Customer, url: Callable[[Host], str], why: str
) -> None:
    """The job says why; like every failed job it stays charged (ours)."""
    job = await customer.ended(await customer.submit(video=url(customer.host)))

    assert job["status"] == "failed"
    assert job["error"].startswith(f"The video could not be {why}")
    assert "output" not in job
    assert len(customer.sandbox.charges) == 1


@pytest.mark.parametrize(
    ("content", "why"),
    [(b"", "fetched: its host answered HTTP 404."), (b"<html>", "read: Invalid data found")],
)
async def test_unusable_image_fails_the_job(customer: Customer, content: bytes, why: str) -> None:
    """The sentence names the image, not the video (ours)."""
    customer.host.files["/png"] = content

    job = await customer.ended(await customer.submit())

    assert (job["status"], job["error"][: len(why) + 19]) == (
        "failed",
        f"The image could not be {why}"[: len(why) + 19],
    )


async def test_inputs_may_be_five_redirects_away(customer: Customer) -> None:
    """That is enough for storage hosts and short links; a sixth redirect fails the job (ours)."""
    customer.host.redirects |= {f"/{hop}": f"/{hop + 1}" for hop in range(5)} | {"/5": "/source"}

    near = await customer.ended(await customer.submit(video=f"{customer.host.origin}/1"))
    far = await customer.ended(await customer.submit(video=f"{customer.host.origin}/0"))

    assert (near["status"], far["status"]) == ("completed", "failed")


async def test_proxy_is_for_other_hosts_only(
    customer: Customer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A proxy of the environment is used for other hosts, but not for loopback (ours)."""
    monkeypatch.setenv("http_proxy", customer.host.origin)
    monkeypatch.delenv("no_proxy", raising=False)
    far = "http://videos.example/source"
    customer.host.files[far] = video_file()

    await customer.video(video=far)

    assert customer.host.requested == {far: 1, "/png": 1}


def test_fetching_ends_at_the_size_limit(host: Host, tmp_path: Path) -> None:
    """The saved file is never larger than the limit (ours)."""
    host.files["/big"] = bytes(3 << 20)

    with pytest.raises(inputs.Unusable, match="it is larger than 2 MiB"):
        inputs.fetch(
            f"{host.origin}/big", tmp_path / "big", "video", seconds=15, size_limit=2 << 20
        )

    assert (tmp_path / "big").stat().st_size <= 2 << 20


def test_fetching_ends_at_the_time_limit(host: Host, tmp_path: Path) -> None:
    """A host that sends a few bytes now and then cannot keep a job waiting forever (ours)."""
    host.files["/slow"] = bytes(1 << 20)
    clock = count(step=LIMIT_SECONDS / 2.5)

    with pytest.raises(inputs.Unusable, match=f"it did not arrive within {LIMIT_SECONDS} s"):
        inputs.fetch(
            f"{host.origin}/slow",
            tmp_path / "slow",
            "video",
            seconds=LIMIT_SECONDS,
            clock=lambda: next(clock),
        )


async def test_samples_are_read_from_the_disk(customer: Customer) -> None:
    """For its own sample inputs the sandbox sends itself no request (ours)."""
    sandbox = customer.sandbox

    video = await customer.video(video=sandbox.source_video_url, character_image=sandbox.image_url)

    assert (video.width, video.height, video.rate) == (854, 480, Fraction(16))
    assert len(sandbox.seen("GET", "/media/*")) == 1  # the result
    assert not customer.host.requested


async def test_job_is_never_completed_before_its_video(customer: Customer) -> None:
    """However old it is, it is `processing`, and other requests are answered meanwhile (ours)."""
    customer.host.gate.clear()
    job_id = await customer.submit()
    await customer.host.reached()
    customer.now = 1e4

    waiting = await customer.job(job_id)
    missing = await customer.http.get(f"{customer.sandbox.origin}/media/results/{job_id}.mp4")
    customer.host.gate.set()
    done = await customer.ended(job_id)

    assert (waiting["status"], missing.status_code) == ("processing", 404)
    assert done["status"] == "completed"


async def test_finished_video_waits_for_the_jobs_time(customer: Customer) -> None:
    """pending and processing last as long as the terms say, even if the video is ready (ours)."""
    job_id = await customer.submit()
    await customer.sandbox.until(lambda: customer.sandbox.vendor.renderings[job_id].ended)
    states = []
    for customer.now in (0.0, 1.0, 4.9, 5.0):
        states.append((await customer.job(job_id))["status"])

    assert states == ["pending", "processing", "processing", "completed"]


async def test_videos_are_rendered_outside_of_this_process(
    customer: Customer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """So no codec can block the event loop or crash the sandbox (ours)."""
    for name in ("fetch", "opened", "video_frames", "audio_frames"):
        monkeypatch.setattr(inputs, name, None)

    job = await customer.ended(await customer.submit())

    assert job["status"] == "completed"


async def test_no_more_than_two_videos_are_rendered_at_once(customer: Customer) -> None:
    """A burst of jobs does not use up the whole machine (ours)."""
    customer.host.gate.clear()
    job_ids = [await customer.submit(video_duration=1) for _ in range(3)]
    for _ in range(2):
        await customer.host.reached()
    customer.host.gate.set()
    ends = [(await customer.ended(job_id))["status"] for job_id in job_ids]

    assert ends == ["completed"] * 3
    assert customer.host.most_at_once == 2


@pytest.mark.parametrize(
    ("code", "seconds", "why"),
    [
        ("import os; os.abort()", LIMIT_SECONDS, f"{FAILED} ended with"),
        ("raise RuntimeError", LIMIT_SECONDS, f"{FAILED} ended with 1."),
        (HANGS, 0.1, "The video was not finished within 0.1 s."),
    ],
)
async def test_failed_rendering_fails_only_its_job(
    customer: Customer, code: str, seconds: float, why: str
) -> None:
    """A codec that crashes or hangs fails one job, and the sandbox continues (ours)."""
    customer.sandbox.render_queue.command = (sys.executable, "-c", code)
    customer.sandbox.render_queue.seconds = seconds

    job = await customer.ended(await customer.submit())

    assert job["status"] == "failed"
    assert job["error"].startswith(why)
    assert (await customer.http.get("models")).status_code == 200


async def test_closing_ends_all_rendering(customer: Customer) -> None:
    """No process outlives the sandbox; opened again, it reports the video as lost (ours)."""
    customer.host.gate.clear()
    job_id = await customer.submit()
    await customer.host.reached()
    await customer.sandbox.__aexit__()
    await customer.sandbox.__aenter__()
    customer.now = 5

    job = await customer.job(job_id)

    assert (job["status"], job["error"]) == ("failed", "The sandbox was closed.")


async def test_rendered_video_is_served_like_any_file(customer: Customer) -> None:
    """It has byte ranges, an ETag and the URL's lifetime, too (RFC 9110; assumed)."""
    video = await customer.video()
    url = customer.sandbox.requests[-1].target
    whole = await customer.http.get(f"{customer.sandbox.origin}{url}")
    part = await customer.http.get(whole.url, headers={"Range": "bytes=4-7"})
    known = await customer.http.get(whole.url, headers={"If-None-Match": whole.headers["etag"]})
    customer.now = 86_400
    late = await customer.http.get(whole.url)

    assert whole.content == video.content
    assert (part.status_code, part.content) == (206, b"ftyp")
    assert (known.status_code, late.status_code) == (304, 403)


@pytest.mark.parametrize(
    ("name", "status"), [("no-person.mp4", "failed"), ("endless.mp4", "processing")]
)
async def test_special_source_videos_keep_their_meaning(
    customer: Customer, name: str, status: str
) -> None:
    """The failing and the endless video are known by their paths; nothing is rendered (ours)."""
    job_id = await customer.submit(video=f"{customer.host.origin}/media/{name}")
    customer.now = 1e4

    assert (await customer.job(job_id))["status"] == status
    assert not customer.host.requested


@pytest.mark.parametrize(("terms", "installed"), [("sample", True), ("own", False)])
async def test_sample_is_returned_when_no_video_is_rendered(
    host: Host, monkeypatch: pytest.MonkeyPatch, terms: str, installed: bool
) -> None:
    """Without PyAV, or if the terms say so, nothing is fetched and the sample is sent (ours)."""
    if not installed:
        monkeypatch.setattr(render_queue, "find_spec", lambda name: None)
    async with customer_of(host, videos=terms) as customer:
        job_id = await customer.submit()
        customer.now = 5
        job = await customer.job(job_id)
        video = await customer.http.get(job["output"]["video"])
        page = await customer.http.get(customer.sandbox.origin)

    shipped = Path(inputs.__file__).parents[1] / "media" / "result.mp4"
    assert video.content == shipped.read_bytes()
    assert not host.requested
    assert "it is never fetched" in page.text


async def test_front_page_says_what_is_fetched(customer: Customer) -> None:
    """It says that inputs are fetched, and what a video is rendered from (ours)."""
    page = await customer.http.get(customer.sandbox.origin)

    assert "fetched from its URL" in page.text
    assert "never fetched" not in page.text
