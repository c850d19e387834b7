"""The sandbox makes a job's film from the job's own inputs, as its parameters say."""

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
from wan_mcp.sandbox.videos import inputs, studio

av = pytest.importorskip("av", reason="the extra `media` is not installed")

pytestmark = pytest.mark.anyio

RUN = "models/wan-2.2-replace/run"
MAGENTA, GREY, CLEAR = (255, 0, 255, 255), (90, 90, 90, 255), (0, 0, 0, 0)

STEADY = tuple(number / 25 for number in range(75))
UNEVEN = (0, 0.1, 0.15, 0.9, 1.0, 1.6, 1.64, 1.68, 2.2, 2.9)
PLAYLIST = b"#EXTM3U\n#EXT-X-TARGETDURATION:8\n#EXTINF:8,\n/a/file.mp4\n#EXT-X-ENDLIST\n"

Colour = tuple[int, int, int, int]


@dataclass
class Host:
    """A web server on loopback: files by path, and paths that answer in other ways."""

    origin: str = ""
    files: dict[str, bytes] = field(default_factory=dict)
    redirects: dict[str, str] = field(default_factory=dict)
    asked: Counter[str] = field(default_factory=Counter)
    gate: threading.Event = field(default_factory=threading.Event)
    """Open while nobody clears it."""
    at_gate: threading.Semaphore = field(default_factory=lambda: threading.Semaphore(0))
    """Released by each request that has reached the gate."""
    most_at_once: int = 0
    open_requests: int = 0

    async def reached(self) -> None:
        await anyio.to_thread.run_sync(self.at_gate.acquire, abandon_on_cancel=True)


@pytest.fixture
def host() -> Iterator[Host]:
    told = Host()
    told.gate.set()
    lock = threading.Lock()

    class Answer(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            with lock:
                told.asked[self.path] += 1
                told.open_requests += 1
                told.most_at_once = max(told.most_at_once, told.open_requests)
            told.at_gate.release()
            told.gate.wait()
            with lock:
                told.open_requests -= 1
            self.answer()

        def answer(self) -> None:
            content = told.files.get(self.path, b"")
            if self.path in told.redirects:
                self.send_response(302)
                self.send_header("Location", told.redirects[self.path])
            else:
                self.send_response(200 if content else 404)
            longer = 9 if self.path.startswith("/broken/") else 0
            self.send_header("Content-Length", str(len(content) + longer))
            self.end_headers()
            with suppress(ConnectionError):  # some clients go before the end, as they should
                self.wfile.write(content)

        def log_message(self, format: str, *args: Any) -> None:
            """Nothing on stderr."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Answer)
    told.origin = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    yield told
    told.gate.set()
    server.shutdown()
    server.server_close()
    thread.join()


def still(size: tuple[int, int], *columns: Colour) -> Any:
    """A picture of upright stripes."""
    width, height = size
    row = b"".join(bytes(columns[x * len(columns) // width]) for x in range(width))
    return av.VideoFrame.from_bytes(row * height, width, height)


def image(kind: str = "image2pipe", codec: str = "png", pixels: str = "rgba") -> bytes:
    """A character that is magenta on the left, and see-through on the right where it can be."""
    return clip(kind, codec, pixels, size=(60, 80), times=(0,), columns=(MAGENTA, CLEAR), tone="")


@cache
def clip(
    kind: str = "mp4",
    codec: str = "libx264",
    pixels: str = "yuv420p",
    *,
    size: tuple[int, int] = (320, 180),
    times: tuple[float, ...] = STEADY,
    columns: tuple[Colour, ...] = (GREY,),
    tone: str = "aac",
    turn: int = 0,
) -> bytes:
    """A film of stripes, 25 pictures a second for 3 s unless told, and a sound as long."""
    file = BytesIO()
    with av.open(file, "w", format=kind) as film:
        pictures = film.add_stream(codec, rate=25)
        pictures.width, pictures.height = size
        pictures.pix_fmt = pixels
        pictures.codec_context.time_base = Fraction(1, 25 if codec == "gif" else 1000)
        if turn:
            pictures.set_display_rotation(turn)
        sound = film.add_stream(tone, rate=48_000, layout="mono") if tone else None
        for time in times:
            frame = still(size, *columns).reformat(format=pixels)
            frame.time_base = pictures.codec_context.time_base
            frame.pts = round(time / frame.time_base)
            film.mux(pictures.encode(frame))
        film.mux(pictures.encode(None))
        if sound:
            hum(film, sound, times[-1] + 0.04)
    return file.getvalue()


def sound_alone() -> bytes:
    file = BytesIO()
    with av.open(file, "w", format="mp4") as film:
        hum(film, film.add_stream("aac", rate=48_000, layout="mono"), 1)
    return file.getvalue()


def hum(film: Any, stream: Any, seconds: float) -> None:
    for start in range(0, round(seconds * 48_000), 960):
        frame = av.AudioFrame("s16", "mono", 960)
        frame.sample_rate, frame.pts, frame.time_base = 48_000, start, Fraction(1, 48_000)
        frame.planes[0].update(bytes(range(240)) * 8)
        film.mux(stream.encode(frame))
    film.mux(stream.encode(None))


@dataclass
class Seen:
    """What a film really is."""

    content: bytes
    seconds: float
    height: int
    width: int
    rate: Fraction
    sound: float
    """Seconds of it; 0 without any."""
    first: Any
    """The first picture, in RGB."""

    def pixel(self, x: int, y: int) -> tuple[int, ...]:
        plane = self.first.planes[0]
        at = y * plane.line_size + 3 * x
        return tuple(bytes(plane)[at : at + 3])


def seen(content: bytes) -> Seen:
    with av.open(BytesIO(content)) as film:
        pictures = film.streams.video[0]
        sounds = [float(track.duration * track.time_base) for track in film.streams.audio]
        return Seen(
            content=content,
            seconds=film.duration / av.time_base,
            height=pictures.height,
            width=pictures.width,
            rate=pictures.average_rate,
            sound=max(sounds, default=0.0),
            first=next(film.decode(pictures)).reformat(format="rgb24"),
        )


@dataclass
class Customer:
    """A client, the sandbox it talks to, the sandbox's clock, and the host of its inputs."""

    http: httpx.AsyncClient
    sandbox: Sandbox
    host: Host
    now: float = 0.0

    async def submit(self, **changes: object) -> str:
        inputs = {"video": f"{self.host.origin}/clip", "character_image": f"{self.host.origin}/png"}
        body = {**inputs, "video_duration": 2, **changes}
        return str((await self.http.post(RUN, json=body)).raise_for_status().json()["jobId"])

    async def job(self, job_id: str) -> Any:
        return (await self.http.get(f"jobs/{job_id}")).raise_for_status().json()

    async def ended(self, job_id: str) -> Any:
        """The job's page when its film has been made, or has failed, and its time has come."""
        self.now += 5
        await self.sandbox.until(lambda: self.sandbox.vendor.films[job_id].ended)
        return await self.job(job_id)

    async def film(self, **changes: object) -> Seen:
        job = await self.ended(await self.submit(**changes))
        assert job["status"] == "completed", job
        return seen((await self.http.get(job["output"]["video"])).content)


@asynccontextmanager
async def customer_of(host: Host, **terms: Any) -> AsyncIterator[Customer]:
    # 30 s, because each film starts a process on a machine that may have much else to do.
    with anyio.fail_after(30):
        at: list[Customer] = []
        sandbox = Sandbox(
            Terms(**{"films": "own", "credits": 1000, **terms}),
            clock=lambda: at[0].now if at else 0.0,
        )
        headers = {"Authorization": f"Bearer {sandbox.key}"}
        bare = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        async with (
            sandbox,
            httpx.AsyncClient(
                base_url=sandbox.api_base, headers=headers, verify=bare, trust_env=False
            ) as http,
        ):
            at.append(Customer(http, sandbox, host))
            yield at[0]


@pytest.fixture
async def customer(host: Host) -> AsyncIterator[Customer]:
    host.files |= {"/clip": clip(), "/png": image()}
    async with customer_of(host) as customer:
        yield customer


@pytest.mark.parametrize(
    ("asked", "seconds", "height", "rate", "sound"),
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
async def test_film_is_what_the_parameters_ask_for(
    customer: Customer,
    asked: dict[str, object],
    seconds: float,
    height: int,
    rate: int,
    sound: bool,
) -> None:
    """Length, height, rate and sound follow the body; nothing is longer than its source (ours)."""
    film = await customer.film(**asked)

    assert film.seconds == pytest.approx(seconds, abs=0.05)
    assert (film.height, film.rate) == (height, Fraction(rate))
    assert film.width == pytest.approx(height * 16 / 9, abs=2)
    assert film.sound == pytest.approx(seconds if sound else 0, abs=0.05)


async def test_film_plays_before_it_is_whole(customer: Customer) -> None:
    """Its index comes before its pictures, as in what the vendor's storage serves (assumed)."""
    film = await customer.film()

    assert 0 < film.content.index(b"moov") < film.content.index(b"mdat")


@pytest.mark.parametrize(
    ("source", "shape", "seconds"),
    [
        (lambda: clip("webm", "libvpx", tone="libopus"), (854, 480), 2),
        (lambda: clip("mov", "mpeg4", tone="pcm_s16le"), (854, 480), 2),
        (lambda: clip(size=(180, 320)), (270, 480), 2),
        (lambda: clip(pixels="yuv444p", size=(161, 121), tone=""), (638, 480), 2),
        (lambda: clip(times=UNEVEN, tone=""), (854, 480), 2),
        (lambda: clip(times=(0, 0.04), tone=""), (854, 480), 0.08),
        (lambda: clip("gif", "gif", "rgb8", tone=""), (854, 480), 2),
        (lambda: clip(turn=-90), (270, 480), 2),
        (lambda: clip(turn=180), (854, 480), 2),
    ],
    ids=["webm", "mov", "portrait", "odd", "uneven", "short", "gif", "phone", "head-down"],
)
async def test_any_common_source_makes_a_film(
    customer: Customer, source: Callable[[], bytes], shape: tuple[int, int], seconds: float
) -> None:
    """Its shape is kept, rounded to even pixels; a phone's clip is stood upright (ours)."""
    customer.host.files["/clip"] = source()

    film = await customer.film()

    assert (film.width, film.height) == shape
    assert film.seconds == pytest.approx(seconds, abs=float(1 / film.rate))


async def test_phone_clip_is_turned_the_right_way(customer: Customer) -> None:
    """Turned clockwise, what was on the left comes to the top (the display matrix of MP4)."""
    red, blue = (200, 0, 0, 255), (0, 0, 200, 255)
    customer.host.files["/clip"] = clip(columns=(red, blue), turn=-90)

    film = await customer.film()

    middle = film.width // 2
    assert film.pixel(middle, 180)[0] > 150 > 50 > film.pixel(middle, 180)[2]
    assert film.pixel(middle, 300)[2] > 150 > 50 > film.pixel(middle, 300)[0]


def corner_of(film: Seen, colour: Colour) -> tuple[int, int] | None:
    """Where in the film a character of 120 to 160 pixels stands, by the colour of its middle."""
    for x in (30, film.width - 110):
        for y in (90, film.height - 90):
            if all(abs(a - b) < 30 for a, b in zip(film.pixel(x, y), colour, strict=False)):
                return x, y
    return None


@pytest.mark.parametrize(
    ("picture", "seen_through"),
    [
        (lambda: image("image2pipe", "png", "rgba"), True),
        (lambda: image("webp", "libwebp", "yuva420p"), True),
        (lambda: image("image2pipe", "mjpeg", "yuvj444p"), False),
        (lambda: image("gif", "gif", "rgb8"), False),
    ],
    ids=["png", "webp", "jpeg", "gif"],
)
async def test_character_stands_in_a_corner(
    customer: Customer, picture: Callable[[], bytes], seen_through: bool
) -> None:
    """A third of the film's height, with the film behind where the picture is clear (ours)."""
    customer.host.files["/png"] = picture()

    film = await customer.film(seed=1)

    at = corner_of(film, MAGENTA)
    assert at is not None
    beside = film.pixel(at[0] + 65, at[1])
    assert (max(beside) - min(beside) < 30 and 60 < beside[0] < 120) is seen_through


LETTER_S = """
.####
#....
#....
.###.
....#
....#
####.
"""


async def test_film_is_marked_sandbox(customer: Customer) -> None:
    """Nobody takes it for the model's work: the first letter of the mark, dot by dot (ours)."""
    film = await customer.film(seed=1)

    character = corner_of(film, MAGENTA)
    assert character is not None
    # The mark: 3 film pixels a dot, title letters of double size; its box is 27 dots high.
    left = 12 + 3 * 2
    top = left if character[1] > 240 else 480 - 12 - 3 * 27 + 3 * 2
    rows = (
        "".join(
            "#" if min(film.pixel(left + 6 * x + 3, top + 6 * y + 3)) > 180 else "."
            for x in range(5)
        )
        for y in range(7)
    )
    assert "\n".join(rows) == LETTER_S.strip()


async def test_a_seed_repeats_its_film(customer: Customer) -> None:
    """The same seed gives the same bytes, another one another film (assumed)."""
    seven, again, eight = [(await customer.film(seed=seed)).content for seed in (7, 7, 8)]

    assert seven == again
    assert seven != eight


async def test_without_a_seed_each_take_is_another(customer: Customer) -> None:
    """The sandbox rolls a seed then, as the model probably does (assumed)."""
    first, second = await customer.film(), await customer.film()

    assert first.content != second.content


@pytest.mark.parametrize("asked", [{"refert_num": 1}, {"go_fast": True}])
async def test_other_parameters_show_in_the_film(customer: Customer, asked: dict[str, Any]) -> None:
    """They change nothing but the mark, by which one sees that they arrived (ours)."""
    plain, changed = await customer.film(seed=1), await customer.film(seed=1, **asked)

    assert plain.content != changed.content


def cut_off(host: Host) -> str:
    host.files["/broken/clip"] = host.files["/clip"]
    return f"{host.origin}/broken/clip"


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
        (lambda host: file_at(host, sound_alone()), "read: it holds no picture."),
    ],
)
async def test_video_of_no_use_fails_the_job(
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
async def test_picture_of_no_use_fails_the_job(
    customer: Customer, content: bytes, why: str
) -> None:
    """The sentence tells it from the video (ours)."""
    customer.host.files["/png"] = content

    job = await customer.ended(await customer.submit())

    assert (job["status"], job["error"][: len(why) + 21]) == (
        "failed",
        f"The picture could not be {why}"[: len(why) + 21],
    )


async def test_inputs_may_be_five_redirects_away(customer: Customer) -> None:
    """As many as storage hosts and short links need, and no more (ours)."""
    customer.host.redirects |= {f"/{hop}": f"/{hop + 1}" for hop in range(5)} | {"/5": "/clip"}

    near = await customer.ended(await customer.submit(video=f"{customer.host.origin}/1"))
    far = await customer.ended(await customer.submit(video=f"{customer.host.origin}/0"))

    assert (near["status"], far["status"]) == ("completed", "failed")


async def test_proxy_is_for_other_hosts_only(
    customer: Customer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A proxy of the environment fetches what is far, and loopback is asked directly (ours)."""
    monkeypatch.setenv("http_proxy", customer.host.origin)
    monkeypatch.delenv("no_proxy", raising=False)
    far = "http://clips.example/clip"
    customer.host.files[far] = clip()

    await customer.film(video=far)

    assert customer.host.asked == {far: 1, "/png": 1}


def test_fetching_ends_at_the_size_limit(host: Host, tmp_path: Path) -> None:
    """No more than the limit is ever kept (ours)."""
    host.files["/big"] = bytes(3 << 20)

    with pytest.raises(inputs.Unusable, match="it is larger than 2 MiB"):
        inputs.fetch(f"{host.origin}/big", tmp_path / "big", "video", size_limit=2 << 20)

    assert (tmp_path / "big").stat().st_size <= 2 << 20


def test_fetching_ends_at_the_time_limit(host: Host, tmp_path: Path) -> None:
    """A host that sends a little every now and then does not go on for ever (ours)."""
    host.files["/slow"] = bytes(1 << 20)
    clock = count(step=6.0)

    with pytest.raises(inputs.Unusable, match="it did not arrive within 15 s"):
        inputs.fetch(f"{host.origin}/slow", tmp_path / "slow", "video", clock=lambda: next(clock))


async def test_samples_are_taken_from_the_disk(customer: Customer) -> None:
    """For the sandbox's own clip and picture it asks itself nothing (ours)."""
    sandbox = customer.sandbox

    film = await customer.film(video=sandbox.clip_url, character_image=sandbox.image_url)

    assert (film.width, film.height, film.rate) == (854, 480, Fraction(16))
    assert len(sandbox.seen("GET", "/media/*")) == 1  # the film
    assert not customer.host.asked


async def test_job_is_never_completed_before_its_film(customer: Customer) -> None:
    """Its time may be long over: it goes on, and everybody else is answered meanwhile (ours)."""
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


async def test_finished_film_waits_for_the_jobs_time(customer: Customer) -> None:
    """pending and processing last as long as the terms say, also when all is done (ours)."""
    job_id = await customer.submit()
    await customer.sandbox.until(lambda: customer.sandbox.vendor.films[job_id].ended)
    states = []
    for customer.now in (0.0, 1.0, 4.9, 5.0):
        states.append((await customer.job(job_id))["status"])

    assert states == ["pending", "processing", "processing", "completed"]


async def test_films_are_made_outside_of_this_process(
    customer: Customer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """So that no codec can hold the event loop up, or take the sandbox with it (ours)."""
    for name in ("fetch", "opened", "pictures", "sounds"):
        monkeypatch.setattr(inputs, name, None)

    job = await customer.ended(await customer.submit())

    assert job["status"] == "completed"


async def test_no_more_than_two_films_are_made_at_once(customer: Customer) -> None:
    """A burst of jobs does not take the whole machine (ours)."""
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
        ("import os; os.abort()", 30, "The film could not be made: its process ended with"),
        ("raise RuntimeError", 30, "The film could not be made: its process ended with 1."),
        ("import time; time.sleep(60)", 0.1, "The film was not finished within 0.1 s."),
    ],
)
async def test_trouble_in_the_studio_fails_the_job_alone(
    customer: Customer, code: str, seconds: float, why: str
) -> None:
    """A codec that crashes or hangs ends one job, and the sandbox goes on (ours)."""
    customer.sandbox.studio.command = (sys.executable, "-c", code)
    customer.sandbox.studio.seconds = seconds

    job = await customer.ended(await customer.submit())

    assert job["status"] == "failed"
    assert job["error"].startswith(why)
    assert (await customer.http.get("models")).status_code == 200


async def test_closing_ends_the_work_on_films(customer: Customer) -> None:
    """No process outlives the sandbox; opened again, it tells that the film was lost (ours)."""
    customer.host.gate.clear()
    job_id = await customer.submit()
    await customer.host.reached()
    await customer.sandbox.__aexit__()
    await customer.sandbox.__aenter__()
    customer.now = 5

    job = await customer.job(job_id)

    assert (job["status"], job["error"]) == ("failed", "The sandbox was closed.")


async def test_own_film_is_served_like_any_file(customer: Customer) -> None:
    """Byte ranges, the ETag and the URL's life hold for it too (RFC 9110; assumed)."""
    film = await customer.film()
    url = customer.sandbox.requests[-1].target
    whole = await customer.http.get(f"{customer.sandbox.origin}{url}")
    part = await customer.http.get(whole.url, headers={"Range": "bytes=4-7"})
    known = await customer.http.get(whole.url, headers={"If-None-Match": whole.headers["etag"]})
    customer.now = 86_400
    late = await customer.http.get(whole.url)

    assert whole.content == film.content
    assert (part.status_code, part.content) == (206, b"ftyp")
    assert (known.status_code, late.status_code) == (304, 403)


@pytest.mark.parametrize(
    ("name", "status"), [("no-person.mp4", "failed"), ("endless.mp4", "processing")]
)
async def test_special_samples_decide_as_ever(customer: Customer, name: str, status: str) -> None:
    """The failing and the endless clip are known by their paths, and nothing is made (ours)."""
    job_id = await customer.submit(video=f"{customer.host.origin}/media/{name}")
    customer.now = 1e4

    assert (await customer.job(job_id))["status"] == status
    assert not customer.host.asked


@pytest.mark.parametrize(("terms", "installed"), [("sample", True), ("own", False)])
async def test_sample_film_stands_in_when_none_is_made(
    host: Host, monkeypatch: pytest.MonkeyPatch, terms: str, installed: bool
) -> None:
    """Without PyAV, or when the terms say so, nothing is fetched and all is as before (ours)."""
    if not installed:
        monkeypatch.setattr(studio, "find_spec", lambda name: None)
    async with customer_of(host, films=terms) as customer:
        job_id = await customer.submit()
        customer.now = 5
        job = await customer.job(job_id)
        film = await customer.http.get(job["output"]["video"])
        page = await customer.http.get(customer.sandbox.origin)

    shipped = Path(inputs.__file__).parents[1] / "media" / "result.mp4"
    assert film.content == shipped.read_bytes()
    assert not host.asked
    assert "it is never fetched" in page.text


async def test_front_page_says_what_is_fetched(customer: Customer) -> None:
    """Who opens it learns that inputs are read, and what a film is made of (ours)."""
    page = await customer.http.get(customer.sandbox.origin)

    assert "fetched from its URL" in page.text
    assert "never fetched" not in page.text
