"""Starting the server of an entry so that it can do nothing."""

import json
import os
import sys
from pathlib import Path

import anyio
import pytest

from wan_mcp.app import app as app_module
from wan_mcp.app.app import App
from wan_mcp.app.base import Plan
from wan_mcp.cli.check import start
from wan_mcp.cli.check.start import NotStarted, Started, started
from wan_mcp.clock import Clock
from wan_mcp.settings import Settings

pytestmark = pytest.mark.anyio

KEY = "pd_dummy_0123"
SNAPSHOT = Path(__file__).parents[2] / "surface" / "tools.json"


@pytest.fixture(autouse=True)
def patience(monkeypatch: pytest.MonkeyPatch) -> None:
    """On a busy machine a server may need longer than a user would wait."""
    monkeypatch.setattr(start, "START_SECONDS", 600.0)
    monkeypatch.setattr(start, "END_SECONDS", 600.0)


def environment(**settings: str) -> dict[str, str]:
    """What a host passes on, and these settings."""
    return {name: os.environ[name] for name in ("PATH", "SYSTEMROOT") if name in os.environ} | {
        "PIXELDOJO_API_KEY": KEY,
        **settings,
    }


async def test_the_real_server_names_all_its_tools(tmp_path: Path) -> None:
    """Twice measured: its first answer, and when all of it is there (ours)."""
    command = [sys.executable, "-P", "-m", "wan_mcp"]
    data = {"WAN_MCP_DATA_DIR": str(tmp_path / "data"), "HOME": str(tmp_path)}
    outcome = await started(command, environment(**data), tmp_path)

    assert isinstance(outcome, Started)
    assert outcome.tools == len(json.loads(SNAPSHOT.read_text("utf-8")))
    assert 0 < outcome.seconds <= outcome.ready_seconds


async def test_a_started_program_gets_everything_but_the_key(tmp_path: Path) -> None:
    """Neither the key itself nor the file that may hold it (ours)."""
    code = "import json, os, sys; sys.exit(json.dumps(sorted(os.environ)))"
    settings = {"WAN_MCP_ENV_FILE": "/keys", "WAN_MCP_LOG_LEVEL": "INFO"}
    outcome = await started([sys.executable, "-c", code], environment(**settings), tmp_path)

    assert isinstance(outcome, NotStarted)
    assert outcome.why.startswith("it ended: [")
    assert "WAN_MCP_LOG_LEVEL" in outcome.why
    assert "PIXELDOJO_API_KEY" not in outcome.why
    assert "WAN_MCP_ENV_FILE" not in outcome.why


@pytest.mark.parametrize(
    ("code", "why"),
    [
        ("import sys; sys.exit('wan-mcp: WAN_MCP_X: no')", "it ended: wan-mcp: WAN_MCP_X: no"),
        ("raise SystemExit", "it ended"),
        (
            "import sys; print('hello'); sys.stdin.read()",
            "it answers with something else than messages of MCP",
        ),
        (
            "import sys; print('[]'); sys.stdin.read()",
            "it answers with something else than messages of MCP",
        ),
    ],
)
async def test_a_server_that_does_not_answer_says_why(tmp_path: Path, code: str, why: str) -> None:
    """The last line of its standard error is the reason (ours)."""
    command = [sys.executable, "-u", "-c", code]

    assert await started(command, environment(), tmp_path) == NotStarted(why)


async def test_a_server_that_hangs_is_ended(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A check never waits longer than a few seconds for one thing (ours)."""
    monkeypatch.setattr(start, "START_SECONDS", 0.0)
    monkeypatch.setattr(start, "END_SECONDS", 0.0)
    code = "import time; time.sleep(600)"

    with anyio.fail_after(600):
        outcome = await started([sys.executable, "-c", code], environment(), tmp_path)
    assert outcome == NotStarted("no answer within 0 s")


async def test_a_program_that_cannot_be_started_says_why(tmp_path: Path) -> None:
    """Such as a script for a Python that is gone (ours)."""
    outcome = await started([str(tmp_path / "gone")], environment(), tmp_path)

    assert isinstance(outcome, NotStarted)
    assert outcome.why.startswith("it cannot be started: ")


async def test_a_server_without_a_key_opens_no_ledger_by_itself(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """So one that is started for a test looks for no job and saves no video (ours)."""
    monkeypatch.setattr(app_module, "OPEN_AFTER_SECONDS", 0)
    settings = Settings.read({"WAN_MCP_DATA_DIR": str(tmp_path / "data")})
    async with anyio.create_task_group() as tasks:
        app = App(Plan(settings, tasks, Clock(), None, agent="test", local=True))
        await app.run()
        tasks.cancel_scope.cancel()

    assert app._parts is None
