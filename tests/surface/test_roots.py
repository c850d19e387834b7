"""The folders that a host declares (roots): asked for only where the operator lets them count."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from mcp.client import Client
from mcp.types import ListRootsResult, Root
from pydantic import FileUrl

from wan_mcp.errors import Code, Refused
from wan_mcp.jobs import Jobs
from wan_mcp.models import Replacement
from wan_mcp.server import build_server
from wan_mcp.settings import Settings

pytestmark = pytest.mark.anyio

FILE = "/home/ana/project/clip.mp4"
IMAGE = "https://a.example/i.png"
DECLARED = [
    Root(uri=FileUrl("file:///home/ana/project")),
    Root(uri=FileUrl("file:///home/ana/My%20clips")),
]


class Seen:
    """What the jobs were asked to locate, and how often the host was asked."""

    def __init__(self) -> None:
        self.roots: list[Sequence[Path]] = []
        self.asked = 0

    async def located(self, wanted: Replacement, roots: Sequence[Path] = ()) -> Replacement:
        self.roots.append(roots)
        raise Seen.Stop("Nothing more is needed.")

    async def answer(self, context: Any) -> ListRootsResult:
        self.asked += 1
        return ListRootsResult(roots=DECLARED)

    class Stop(Refused):
        code = Code.REJECTED
        advice = "Stop."


@pytest.fixture
def seen(monkeypatch: pytest.MonkeyPatch) -> Seen:
    seen = Seen()
    monkeypatch.setattr(Jobs, "located", lambda _, *given: seen.located(*given))
    return seen


async def call(seen: Seen, folder: Path, dirs: str, video: str, mode: str = "legacy") -> None:
    given = {
        "PIXELDOJO_API_KEY": "pd_x",
        "WAN_MCP_DATA_DIR": str(folder),
        "WAN_MCP_INPUT_DIRS": dirs,
    }
    server = build_server(Settings.read(given, folder), local=True)
    async with Client(server, mode=mode, list_roots_callback=seen.answer) as client:
        inputs = {"video": video, "character_image": IMAGE}
        answer = await client.call_tool("replace_character", inputs)
    assert "Nothing more is needed." in str(answer.structured_content)


async def test_declared_folders_count_where_the_operator_says_so(
    seen: Seen, tmp_path: Path
) -> None:
    """A host's word alone opens no folder (ours)."""
    await call(seen, tmp_path, "roots", FILE)
    await call(seen, tmp_path, str(tmp_path), FILE)

    assert seen.roots == [(Path("/home/ana/project"), Path("/home/ana/My clips")), ()]
    assert seen.asked == 1


async def test_host_is_not_asked_for_a_call_without_files(seen: Seen, tmp_path: Path) -> None:
    """A question costs time, and may show something to a person (ours)."""
    await call(seen, tmp_path, "roots", "https://a.example/v.mp4")

    assert (seen.roots, seen.asked) == ([()], 0)


async def test_host_that_cannot_be_asked_declares_no_folder(seen: Seen, tmp_path: Path) -> None:
    """Roots are deprecated since 2026-07-28, and no request is sent during a call (documented)."""
    await call(seen, tmp_path, "roots", FILE, mode="auto")

    assert (seen.roots, seen.asked) == ([()], 0)
