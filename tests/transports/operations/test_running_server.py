"""The real server as its operator sees it: what it lacks, and what goes on when it ends."""

import sqlite3
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import anyio
import pytest
from mcp.client import Client

from tests.connected import EPOCH, KEY, TERMS
from tests.virtual_time import VirtualTime, in_virtual_time
from wan_mcp.app.app import App
from wan_mcp.ledger.coordination import Role
from wan_mcp.ledger.sqlite.engine import SQLiteLedger
from wan_mcp.sandbox import Sandbox
from wan_mcp.server import RunningServer, build_server
from wan_mcp.settings import Settings

pytestmark = pytest.mark.anyio
time, anyio_backend = in_virtual_time(sockets=True)


class Served:
    """A server, its operator's view, and a client."""

    def __init__(self, running: RunningServer, client: Client, sandbox: Sandbox) -> None:
        self.running = running
        self.client = client
        self.sandbox = sandbox

    async def call(self, tool: str, **arguments: Any) -> dict[str, Any]:
        return (await self.client.call_tool(tool, arguments)).structured_content or {}

    async def start(self, **more: object) -> dict[str, Any]:
        return await self.call(
            "replace_character",
            video=self.sandbox.source_video_url,
            character_image=self.sandbox.image_url,
            **more,
        )


@asynccontextmanager
async def served(
    time: VirtualTime, data: Path, key: str = KEY, **more: str
) -> AsyncIterator[Served]:
    running = RunningServer()
    async with Sandbox(TERMS, clock=time.monotonic, epoch=EPOCH) as sandbox:
        given = {
            "PIXELDOJO_API_BASE": sandbox.api_base,
            "PIXELDOJO_API_KEY": key,
            "WAN_MCP_DATA_DIR": str(data),
            **more,
        }
        settings = Settings.read(given, data.parent)
        server = build_server(settings, clock=time.clock(), running=running)
        async with Client(server) as client:
            yield Served(running, client, sandbox)


async def test_server_before_its_start_lacks_itself() -> None:
    """Its port is open earlier (ours)."""
    assert await RunningServer().missing() == {"server": "It is still starting."}


async def test_server_with_a_key_and_a_ledger_lacks_nothing(
    time: VirtualTime, tmp_path: Path
) -> None:
    """Also before the first call, which would open the ledger (ours)."""
    async with served(time, tmp_path / "data") as server:
        assert await server.running.missing() == {}


async def test_server_without_a_key_lacks_it(time: VirtualTime, tmp_path: Path) -> None:
    """It starts without one, so that a host can show what to do (ours)."""
    async with served(time, tmp_path / "data", key="") as server:
        assert await server.running.missing() == {"key": "No PixelDojo API key is set."}


async def test_ledger_of_a_newer_version_is_named(time: VirtualTime, tmp_path: Path) -> None:
    """An operator has to update this server (ours)."""
    async with served(time, tmp_path / "data") as server:
        await server.running.missing()
    with sqlite3.connect(tmp_path / "data" / "ledger" / "ledger.db") as ledger:
        ledger.execute("PRAGMA user_version = 999")
    ledger.close()
    async with served(time, tmp_path / "data") as server:
        missing = await server.running.missing()

    assert missing["ledger"].startswith("The ledger was written by a newer version")


async def test_ledger_that_disappears_is_named_and_its_folder_is_not(
    time: VirtualTime, tmp_path: Path
) -> None:
    """A check needs no credentials, so anybody may read its answer (ours)."""
    async with served(time, tmp_path / "data") as server:
        assert await server.running.missing() == {}
        (tmp_path / "data" / "ledger").rename(tmp_path / "away")
        missing = await server.running.missing()

    assert list(missing) == ["ledger"]
    assert str(tmp_path) not in str(missing)
    assert KEY not in str(missing)


async def test_database_with_a_ledger_lacks_nothing_and_one_without_is_named(
    time: VirtualTime, tmp_path: Path, database: str, new_database: Callable[[], str]
) -> None:
    """Anybody may read that somebody forgot to migrate, and no address (ours)."""
    empty = new_database()
    async with served(time, tmp_path / "data", WAN_MCP_LEDGER_URL=database) as server:
        ready = await server.running.missing()
    async with served(time, tmp_path / "data", WAN_MCP_LEDGER_URL=empty) as server:
        missing = await server.running.missing()

    assert ready == {}
    assert missing == {"ledger": "The database has no ledger yet."}


async def test_wait_ends_with_its_state_when_the_server_drains(
    time: VirtualTime, tmp_path: Path
) -> None:
    """The caller learns that the job goes on and that it can wait again, elsewhere (ours)."""
    async with served(time, tmp_path / "data") as server:
        job_id = (await server.start())["job_id"]
        answers: list[dict[str, Any]] = []

        async def wait() -> None:
            answers.append(await server.call("wait_for_job", job_id=job_id, timeout_seconds=50))

        began = time.monotonic()
        async with anyio.create_task_group() as calls:
            calls.start_soon(wait)
            await anyio.sleep(10)  # virtual time
            await server.running.drain()
        late = await server.call("wait_for_job", job_id=job_id, timeout_seconds=50)

    (answer,) = answers
    assert time.monotonic() - began < 20
    assert [each["status"] for each in (answer, late)] == ["running", "running"]
    assert "wait_for_job" in answer["next"]
    assert answer["charged"] == "no" if "charged" in answer else True


async def test_wait_for_several_jobs_ends_with_their_states_too(
    time: VirtualTime, tmp_path: Path
) -> None:
    """It is one wait, however many jobs it is for (ours)."""
    async with served(time, tmp_path / "data") as server:
        ids = [(await server.start(seed=seed))["job_id"] for seed in (1, 2)]
        answers: list[str] = []

        async def wait() -> None:
            called = await server.client.call_tool(
                "wait_for_job", {"job_id": ids, "timeout_seconds": 50}
            )
            answers.append(str(called.content))

        began = time.monotonic()
        async with anyio.create_task_group() as calls:
            calls.start_soon(wait)
            await anyio.sleep(10)  # virtual time
            await server.running.drain()

    assert time.monotonic() - began < 30
    assert all(job_id in answers[0] for job_id in ids)


async def test_nothing_is_bought_while_the_server_drains_and_reading_goes_on(
    time: VirtualTime, tmp_path: Path
) -> None:
    """The next replica pays; a balancer may still send calls here (ours)."""
    async with served(time, tmp_path / "data") as server:
        job_id = (await server.start(seed=1))["job_id"]
        paid = len([each for each in server.sandbox.requests if each.method == "POST"])
        await server.running.drain()
        refused = await server.start(seed=2)
        listed = await server.call("list_jobs")
        looked = await server.call("get_job_status", job_id=job_id)
        after = len([each for each in server.sandbox.requests if each.method == "POST"])

    assert (refused["code"], refused["charged"]) == ("not_sent", "no")
    assert "The server is stopping" in refused["message"]
    assert paid == after
    assert (listed["jobs"][0]["job_id"], looked["status"]) == (job_id, "running")


async def test_next_server_takes_every_role_at_once(time: VirtualTime, tmp_path: Path) -> None:
    """A lease of a minute would leave jobs unread that long (ours)."""
    async with served(time, tmp_path / "data") as server:
        await server.start()
        await anyio.sleep(10)  # virtual time, in which the roles are taken
        assert isinstance(server.running.app, App)
        account = server.running.app._opened().account
        name = await account()
        other = SQLiteLedger(tmp_path / "data" / "ledger", now=time.wall)
        before = [await other.coordination.lead(name, role, 30) for role in Role]
    after = [await other.coordination.lead(name, role, 30) for role in Role]
    await other.aclose()

    assert not all(before)
    assert all(after)
