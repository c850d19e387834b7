"""What a server answers that can open no file and no connection: nothing is sent or charged."""

import errno
import os
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import anyio
import pytest
from mcp.client import Client

from tests.open_files import no_files_left
from wan_mcp.app.app import App
from wan_mcp.errors import NO_FILES_LEFT, files_are_used_up, shows_no_files_left
from wan_mcp.inputs.decoder_process import NotLookedAt, started
from wan_mcp.ledger.contract import LedgerUnavailable
from wan_mcp.ledger.sqlite.engine import SQLiteLedger
from wan_mcp.server import build_server
from wan_mcp.settings import Settings

pytestmark = pytest.mark.anyio

CLOSED = "http://127.0.0.1:9/api/v1"
"""Where nobody listens (the discard port)."""
WANTED = {"video": "https://a.example/v.mp4", "character_image": "https://a.example/i.png"}


@pytest.fixture
async def client(tmp_path: Path) -> AsyncIterator[Client]:
    given = {
        "PIXELDOJO_API_BASE": CLOSED,
        "PIXELDOJO_API_KEY": "pd_test",
        "WAN_MCP_DATA_DIR": str(tmp_path),
    }
    with anyio.fail_after(600):
        async with Client(build_server(Settings.read(given, tmp_path))) as client:
            yield client


async def call(client: Client, tool: str, **arguments: Any) -> dict[str, Any]:
    return (await client.call_tool(tool, arguments)).structured_content or {}


async def test_a_paid_request_without_a_connection_is_not_sent(client: Client) -> None:
    """The socket is opened before the first byte, so it is safe to repeat (ours)."""
    before = await call(client, "replace_character", **WANTED)
    with no_files_left():
        answer = await call(client, "replace_character", **WANTED, seed=1)

    assert "no connection" in before["message"]
    assert NO_FILES_LEFT in answer["message"]
    facts = {name: answer[name] for name in ("code", "charged", "retry_safe")}
    assert facts == {"code": "not_sent", "charged": "no", "retry_safe": True}


async def test_a_free_read_without_a_connection_says_why(client: Client) -> None:
    await call(client, "get_job_status", job_id="job_x")
    with no_files_left():
        answer = await call(client, "get_job_status", job_id="job_y")

    assert NO_FILES_LEFT in answer["message"]
    assert (answer["charged"], answer["retry_safe"]) == ("no", True)


async def test_a_first_call_that_cannot_load_the_program_is_begun_later(
    client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each import opens a file; a defect of ours would be "charged: unknown"."""

    def fails(self: App) -> None:
        raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))

    with monkeypatch.context() as once:
        once.setattr(App, "_open", fails)
        refused = await call(client, "replace_character", **WANTED)
    later = await call(client, "list_jobs")

    assert (refused["code"], refused["charged"], refused["retry_safe"]) == ("busy", "no", True)
    assert NO_FILES_LEFT in refused["message"]
    assert later["jobs"] == []


@pytest.mark.parametrize("files", [0, 1, 2])
async def test_a_ledger_that_cannot_be_opened_says_why_and_opens_later(
    tmp_path: Path, files: int
) -> None:
    """SQLite says only "unable to open database file", a new one looks like an old format."""
    ledger = SQLiteLedger(tmp_path)
    with no_files_left(but=files), pytest.raises(LedgerUnavailable) as refused:
        await ledger.account(CLOSED, "pd_test")
    opened = await ledger.account(CLOSED, "pd_test")
    await ledger.aclose()

    assert NO_FILES_LEFT in refused.value.what
    assert refused.value.retry_safe
    assert opened


async def test_a_process_that_cannot_be_started_is_no_verdict() -> None:
    """The inputs could not be looked at; the job goes on."""
    with no_files_left(), pytest.raises(NotLookedAt, match="could not be started"):
        async with started("wan_mcp.inputs.probe"):
            pass


def test_only_a_shortage_is_one() -> None:
    """Anywhere in the chain of causes, and in a group."""
    shortage = OSError(errno.EMFILE, "")
    outer = OSError("All connection attempts failed")
    outer.__cause__ = ExceptionGroup("", [OSError(errno.ECONNREFUSED, ""), shortage])

    assert shows_no_files_left(shortage)
    assert shows_no_files_left(outer)
    assert not shows_no_files_left(OSError(errno.ENOSPC, ""))
    assert not shows_no_files_left(None)
    assert not files_are_used_up()
    with no_files_left(but=3):
        assert files_are_used_up()
        assert not files_are_used_up(3)
