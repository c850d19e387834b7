"""What a running server does while nobody calls."""

import json
import os
import subprocess
import sys
from pathlib import Path

import anyio
import pytest

import wan_mcp
from tests.connected import connected
from tests.virtual_time import VirtualTime, in_virtual_time
from wan_mcp.storage.old_objects import FIRST_SECONDS
from wan_mcp.storage.uploads import Uploads

FIRST_PAYMENT = """
import json, sys

import anyio
from mcp.client import Client

from wan_mcp.app import app
from wan_mcp.sandbox import Sandbox, serve
from wan_mcp.server import build_server
from wan_mcp.settings import Settings

app.OPEN_AFTER_SECONDS = 0


async def pay(sandbox: Sandbox) -> None:
    account = {"PIXELDOJO_API_BASE": sandbox.api_base, "PIXELDOJO_API_KEY": sandbox.key}
    settings = Settings.read({**account, "WAN_MCP_DATA_DIR": sys.argv[1]})
    inputs = {"video": sandbox.source_video_url, "character_image": sandbox.image_url}
    async with Client(build_server(settings, local=True)) as client:
        while app.FIRST_PAYMENT[-1] not in sys.modules:
            await anyio.sleep(0)
        old = {*sys.modules}
        answer = await client.call_tool("replace_character", inputs)
        job_id = answer.structured_content["job_id"]
        print(json.dumps([job_id, sorted({*sys.modules} - old)]))


async def main() -> None:
    async with anyio.create_task_group() as tasks:
        opened = []
        ready = anyio.Event()

        def announce(sandbox: Sandbox) -> None:
            opened.append(sandbox)
            ready.set()

        tasks.start_soon(lambda: serve(0, announce=announce))
        await ready.wait()
        await pay(opened[0])
        tasks.cancel_scope.cancel()


anyio.run(main)
"""


FIRST_LIST = """
import sys

import anyio
from mcp.client import Client

from wan_mcp.app import app
from wan_mcp.server import build_server
from wan_mcp.settings import Settings

app.OPEN_AFTER_SECONDS = 3600.0  # what is imported on a timer would come first on a slow machine


async def main() -> None:
    account = {"PIXELDOJO_API_BASE": "http://127.0.0.1:9/api/v1", "PIXELDOJO_API_KEY": "pd_test"}
    settings = Settings.read({**account, "WAN_MCP_DATA_DIR": sys.argv[1]})
    async with Client(build_server(settings, local=True)) as client:
        answer = await client.call_tool("list_jobs", {})
        print(answer.structured_content["charged"], *sys.modules)


anyio.run(main)
"""


def test_first_list_of_jobs_waits_for_the_ledger_and_not_for_a_client_of_http(
    tmp_path: Path,
) -> None:
    """Importing httpx takes 30 ms, and the ledger answers without it (ours)."""
    charged, *loaded = run(FIRST_LIST, tmp_path).split()

    assert charged == "no"
    assert "sqlite3" in loaded
    assert not {"httpx", "truststore", "wan_mcp.inputs"} & {*loaded}


def test_first_payment_finds_its_modules_imported(tmp_path: Path) -> None:
    """They are imported while the host thinks (ours)."""
    outside = {"httpx", "truststore", "sqlite3"}
    job_id, loaded = json.loads(run(FIRST_PAYMENT, tmp_path))

    assert job_id
    assert not [name for name in loaded if name.split(".")[0] in {"wan_mcp", *outside}]


def run(code: str, data: Path) -> str:
    """What a Python of its own prints, in which nothing has been imported before."""
    house = str(Path(wan_mcp.__file__).parents[1])
    return subprocess.run(
        [sys.executable, "-c", code, str(data)],
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, "PYTHONPATH": house},
    ).stdout


time, anyio_backend = in_virtual_time(sockets=True)


@pytest.mark.anyio
async def test_old_uploads_are_deleted_soon_after_the_start_and_every_few_hours(
    time: VirtualTime, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A storage that cannot be used just then ends neither the server nor the next try (ours)."""
    tries: list[float] = []
    twice = anyio.Event()

    async def delete_old(self: Uploads) -> int:
        tries.append(time.passed())
        if len(tries) == 2:
            twice.set()
        raise RuntimeError("the storage cannot be used")

    monkeypatch.setattr(Uploads, "delete_old", delete_old)
    settings = {"WAN_MCP_STORAGE_URL": "s3://bucket/prefix"}
    monkeypatch.setattr("wan_mcp.storage.old_objects.EVERY_SECONDS", 100.0)  # virtual time
    async with connected(time, tmp_path, local=True, settings=settings) as host:
        await host.call("list_jobs")
        await twice.wait()
        answer = await host.call("list_jobs")

    assert tries[1] - tries[0] == pytest.approx(100)
    assert tries[0] >= FIRST_SECONDS
    assert answer["jobs"] == []
