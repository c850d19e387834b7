"""Takes the screenshots for the README and the pages: run by hand, with Chromium and playwright.

    python -m tests.surface.host.screenshots

They show the same host page and videos as the tests, so they show what the tests have checked.
"""

import base64
import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import av
import av.filter
from PIL import Image
from playwright.sync_api import sync_playwright

from tests.surface import test_gallery as gallery
from tests.surface import test_player as tests
from wan_mcp.videos.contact_sheet import draw_contact_sheet

FOLDER = Path(__file__).parents[3] / ".github"
IMAGES = Path(__file__).parents[3] / "docs" / "images"
SIZES = {"gallery": {"width": 960, "height": 1100}, "takes": {"width": 760, "height": 900}}
FONT = "body { font-family: 'Liberation Sans', Arial, sans-serif }"  # the same on every machine
ENDED = "2026-11-23T11:00:00+00:00"
SOON = "2026-11-23T12:58:20+00:00"
SAVED = {"saved_path": "/home/ana/Videos/wan-mcp/job-7.mp4", "size": 2_412_345}


def take(show: Callable[..., Any]) -> None:
    """All five screenshots."""
    source = {"wan://jobs/job-7/source": tests.blob("clip.mp4")}
    going = tests.running(elapsed_seconds=72, credit_cost=10, credits_remaining=90, seed=4711)
    done = tests.completed(expires_at=SOON, **SAVED)
    failed = tests.completed(
        message="PixelDojo reports that the job failed.",
        status="failed",
        error="No person was detected in the source video.",
    )
    gone = tests.completed(video_url=tests.DEAD, expires_at=ENDED, **SAVED)
    screenshot(show(theme="light", resources=source, fixed_clock=True), "running", going)
    screenshot(show(theme="light", resources=source, fixed_clock=True), "done-light", done, 3.2, 41)
    screenshot(show(theme="dark", resources=source, fixed_clock=True), "done-dark", done, 3.2, 41)
    screenshot(show(theme="light", fixed_clock=True), "failed", failed)
    expired = show(theme="light", resources=source, fixed_clock=True)
    expired.expected = "403"
    screenshot(expired, "expired", gone)


def screenshot(
    shown: Any, name: str, fields: dict[str, Any], second: float = 0, wiped: int | None = None
) -> None:
    """One screenshot of the player, at a second of the video and a position of the slider."""
    shown.frame.add_style_tag(content=FONT)
    shown.answered({"typically": "30 s to 6 min"}, **fields)
    shown.tab.wait_for_load_state("networkidle")
    if wiped is not None:
        shown.wait_for_video()
        shown.wait_for_source()
        slider = shown.frame.get_by_label("Wipe between source and result")
        slider.fill(str(wiped))
        slider.blur()
        shown.frame.evaluate("(second) => { film.currentTime = second }", second)
        shown.until("!film.seeking && !source.seeking && source.currentTime === film.currentTime")
    shown.tab.locator("iframe").screenshot(path=FOLDER / f"player-{name}.png")


JOBS = [
    gallery.take(4, 4, seed=4719, character_image="ana.jpg"),
    gallery.take(3, 4, seed=4502, character_image="ana.jpg", kept=True),
    gallery.take(2, 4, seed=3911, character_image="ana.jpg"),
    gallery.take(1, 4, seed=2207, character_image="ana.jpg"),
    gallery.row(5, seed=8125, character_image="knight.png", source_video="walk.mov"),
    gallery.row(6, seed=1340, character_image="ben.jpg", status="running", video_url=None),
    gallery.row(7, seed=6077, character_image="ben.jpg", source_video="skate.mp4"),
    gallery.row(8, seed=901, character_image="knight.png", source_video="skate.mp4"),
]
COLOURS = 160
HUES = (0, 45, 100, 160, 215, 260, 300, 330)


def take_gallery(show: Callable[..., Any]) -> None:
    """The gallery in the light theme, and takes side by side in the dark one."""
    saved = [{**job, "video_url": None, "saved_path": "/videos/1.mp4"} for job in JOBS]
    resources = dict(files_of(saved))
    for theme, name in (("dark", "takes"), ("light", "gallery")):
        shown = show(html=gallery.PAGE, resources=resources, theme=theme)
        shown.tab.set_viewport_size(SIZES[name])
        shown.frame.add_style_tag(content=FONT)
        shown.prepare("tools/call", {"result": {"structuredContent": {}}})
        gallery.tell(shown, gallery.listed(*saved, total_jobs=8, credits_spent=80))
        seen = 6 if name == "gallery" else 0  # only what is in view has a picture
        shown.frame.locator(".sheet img").nth(seen).wait_for(state="attached")
        if name == "takes":
            shown.frame.get_by_role("button", name="Compare takes of").first.click()
            shown.until("takes.ready.length === 4")
            shown.frame.evaluate("takes.jump(2.4)")
            shown.until("takes.ready.every((each) => each.currentTime > 2.3 && !each.seeking)")
        tests.wait_for_layout_shifts(shown)
        shown.tab.wait_for_timeout(300)
        path = IMAGES / f"{name}.png"
        shown.tab.locator("iframe").screenshot(path=path)
        # Few colours are enough, and a page with pictures loads slowly otherwise.
        few = Image.open(path).convert("RGB").quantize(COLOURS, dither=Image.Dither.NONE)
        few.save(path, optimize=True)


def files_of(jobs: list[dict[str, Any]]) -> Iterator[tuple[str, str]]:
    """Videos and contact sheets of jobs, each in other colours, as resources carry them."""
    with tempfile.TemporaryDirectory() as folder:
        video = Path(folder) / "video.mp4"
        for job, hue in zip(jobs, HUES, strict=True):
            coloured(tests.MEDIA / "result.mp4", video, hue)
            uri = f"wan://jobs/{job['job_id']}"
            yield f"{uri}/video", base64.b64encode(video.read_bytes()).decode()
            yield f"{uri}/poster", base64.b64encode(draw_contact_sheet(video)).decode()


def coloured(source: Path, target: Path, hue: int) -> None:
    """The same pictures with all colours turned by so many degrees."""
    with av.open(str(source)) as given, av.open(str(target), "w") as written:
        pictures = given.streams.video[0]
        rate = pictures.average_rate
        assert rate is not None
        made = written.add_stream("h264", rate=rate, options={"crf": "18"})
        made.width, made.height, made.pix_fmt = pictures.width, pictures.height, "yuv420p"
        graph = av.filter.Graph()
        graph.link_nodes(
            graph.add_buffer(template=pictures),
            graph.add("hue", f"h={hue}"),
            graph.add("buffersink"),
        ).configure()
        for number, frame in enumerate(given.decode(pictures)):
            graph.push(frame)
            turned = graph.vpull()
            turned.pts, turned.time_base = number, 1 / rate
            written.mux(made.encode(turned))
        written.mux(made.encode())


def main() -> None:
    """Take them."""
    IMAGES.mkdir(exist_ok=True)
    program = shutil.which("chromium") or shutil.which("google-chrome")
    with sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=program, args=tests.FLAGS)
        with tests.player_pages(browser) as show:
            take_gallery(show)
            take(show)
        browser.close()


if __name__ == "__main__":
    main()
