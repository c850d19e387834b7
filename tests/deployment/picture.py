"""Draws docs/images/dashboard.png: run by hand, with Chromium, PostgreSQL, HAProxy and Prometheus.

    python -m tests.deployment.picture
    python -m tests.deployment.picture --seconds 120

Grafana itself is in no package registry, so this is no picture of it: the panels of the dashboard
are drawn here, with its grid, titles, units and queries. The figures are real. For some minutes,
people work at two replicas on PostgreSQL behind HAProxy; the sandbox is PixelDojo, and some of its
answers fail. One replica is stopped in the middle, and started again. A real Prometheus reads both
replicas, and answers the queries of the panels.
"""

import argparse
import random
import shutil
import time
from contextlib import ExitStack
from pathlib import Path
from tempfile import TemporaryDirectory

import anyio
from PIL import Image
from playwright.sync_api import sync_playwright

from tests.deployment.drawing import page
from tests.deployment.prometheus import Prometheus, panels, prometheus
from tests.replicas.caller import Caller
from tests.replicas.processes import Replica, balanced, free_address
from tests.storm.database import paired
from tests.storm.people import Person, Traces, Work
from tests.storm.vendor import PixelDojo, pixeldojo
from tests.surface.test_player import FLAGS

IMAGE = Path(__file__).parents[2] / "docs" / "images" / "dashboard.png"
KEY = "pd_wallet"
INSTANCES = ("wan-1", "wan-2")
FAULTS = 0.006
"""The share of each of the nine kinds, among all requests to PixelDojo."""
CREDITS = 2_500
"""On the account. The limit of a day is 2,000, and a job costs 10."""
MOST = 6
"""So many people work at the same time in the middle."""
COLOURS = 96


def main() -> None:
    """Work, read and draw."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--seconds", type=int, default=600, help="how long people work")
    seconds = parser.parse_args().seconds
    with ExitStack() as ending:
        folder = Path(ending.enter_context(TemporaryDirectory()))
        database = ending.enter_context(paired())
        dojo = ending.enter_context(pixeldojo([KEY], FAULTS, seed=1, credits=CREDITS))
        address = ending.enter_context(free_address())
        ports = dict(zip(INSTANCES, _free_ports(len(INSTANCES)), strict=True))
        replicas = [
            Replica(
                {
                    "PIXELDOJO_API_BASE": dojo.api_base,
                    "PIXELDOJO_API_KEY": KEY,
                    "WAN_MCP_LEDGER_URL": database.url,
                    "WAN_MCP_DATA_DIR": str(folder / name),
                    "WAN_MCP_ALLOWED_HOSTS": f"127.0.0.1:{address.getsockname()[1]}",
                    "WAN_MCP_METRICS_PORT": str(port),
                    "WAN_MCP_MAX_CREDITS_PER_DAY": "2000",
                    "WAN_MCP_MAX_SUBMITS_PER_MINUTE": "20",
                    "WAN_MCP_DRAIN_SECONDS": "3",
                }
            )
            for name, port in ports.items()
        ]
        for replica in replicas:
            ending.callback(replica.kill)
            replica.start()
        balancer = ending.enter_context(balanced(address, [each.port for each in replicas]))
        asked = ending.enter_context(prometheus(folder, ports))
        began = time.time()
        anyio.run(_work, balancer.url, dojo, replicas[1], seconds)
        draw(asked, began, time.time())


async def _work(url: str, dojo: PixelDojo, stopped: Replica, seconds: float) -> None:
    """Let people come and go, and one replica be stopped and started again."""
    video, image = dojo.links
    traces = Traces()

    async def work(number: int) -> None:
        person = Person(number, {})
        dice = random.Random(number)
        await anyio.sleep(number * seconds / MOST / 2)
        with anyio.move_on_after(seconds * (MOST - number) / MOST + seconds / MOST / 2):
            async with Caller(url) as caller:
                for seed in range(number, 1_000_000, MOST):
                    job = {"video": video, "character_image": image, "seed": seed}
                    await Work(person, caller, traces, dice).make(job)

    async def stop_one() -> None:
        await anyio.sleep(seconds * 0.6)
        stopped.ask_to_end()
        await anyio.to_thread.run_sync(stopped.ended)
        await anyio.sleep(20)
        stopped.begin()

    async with anyio.create_task_group() as day:
        for number in range(MOST):
            day.start_soon(work, number)
        day.start_soon(stop_one)
        await anyio.sleep(seconds)
        day.cancel_scope.cancel()


def draw(asked: Prometheus, began: float, ended: float) -> None:
    """Ask for the figures of each panel, and take the picture of the page that shows them."""
    shown = [
        (panel, [asked.between(target["expr"], began, ended) for target in panel["targets"]])
        for panel in panels()
    ]
    program = shutil.which("chromium") or shutil.which("google-chrome")
    with sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=program, args=FLAGS)
        tab = browser.new_page(viewport={"width": 1200, "height": 900})
        tab.set_content(page(shown, began, ended))
        tab.screenshot(path=IMAGE, full_page=True)
        browser.close()
    # Few colours are enough, and a page with pictures loads slowly otherwise.
    few = Image.open(IMAGE).convert("RGB").quantize(COLOURS, dither=Image.Dither.NONE)
    few.save(IMAGE, optimize=True)


def _free_ports(count: int) -> list[int]:
    with ExitStack() as free:
        sockets = [free.enter_context(free_address()) for _ in range(count)]
        return [each.getsockname()[1] for each in sockets]


if __name__ == "__main__":
    main()
