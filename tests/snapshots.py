"""The reviewed snapshots: what hosts are offered, and every sentence that a model or user reads.

    python -m tests.snapshots

writes them again after a change. Then review `git diff`: each line of it is a change that users of
the server will see.
"""

import json
import sys
from pathlib import Path
from typing import Any

import anyio
from mcp.client import Client
from mcp.types import ListToolsResult

from tests.portable_schema import schemas_json
from tests.surface.scenarios import sentences
from wan_mcp.front_desk.snapshot import SHIPPED, Snapshots, installed_versions
from wan_mcp.server import build_server
from wan_mcp.settings import Settings
from wan_mcp.surface.tools import SCHEMAS
from wan_mcp.transports.recording import record

COMMAND = "python -m tests.snapshots"
FOLDER = Path(__file__).with_name("surface")
TOOLS = FOLDER / "tools.json"
SENTENCES = FOLDER / "sentences.txt"
PINNED = FOLDER.parents[1] / ".ci" / "constraints.txt"
LIMIT_SECONDS = 600
"""Ends a server that hangs; no machine is that slow."""


async def list_tools(mode: str = "auto") -> ListToolsResult:
    """The answer to tools/list, in the newest revision or (mode "legacy") in a handshake one."""
    with anyio.fail_after(LIMIT_SECONDS):
        async with Client(build_server(Settings()), mode=mode) as client:
            return await client.list_tools()


def tools_json(listed: ListToolsResult) -> str:
    """The tools as hosts receive them."""
    tools = [
        tool.model_dump(mode="json", by_alias=True, exclude_none=True) for tool in listed.tools
    ]
    return json.dumps(tools, indent=2) + "\n"


def sentences_txt() -> str:
    """Each scenario: a line "## name", and below it what is read."""
    return "\n".join(f"## {name}\n{words.strip()}\n" for name, words in sentences().items())


async def early_answers(settings: Settings | None = None) -> dict[str, Any]:
    """What the front desk of the stdio server may answer, as this version of everything does."""
    server = build_server(settings or Settings(), local=True)
    low = server._lowlevel_server
    with anyio.fail_after(LIMIT_SECONDS):
        async with low.lifespan(low) as state:
            return await record(low, state)


def front_desk_json() -> str:
    """The file that the package ships: the answers, and the releases that give just these.

    The pinned releases are named in any case: CI runs with them, and compares.
    """
    snapshots = Snapshots({}, sys.path)
    own = installed_versions(sys.path)
    assert own, "the packages must be installed"
    assert snapshots.has_media(), "record it with the extra `media`, as most users have it"
    old = json.loads(Path(SHIPPED).read_text("utf-8")) if Path(SHIPPED).exists() else {}
    answers = {"media": True, **anyio.run(early_answers)}
    fitted = [
        versions
        for entry in old.get("snapshots", [])
        if {name: entry[name] for name in answers} == answers
        for versions in entry["versions"]
    ]
    named = {json.dumps(each): each for each in (*fitted, own, {**own, **pinned_releases()})}
    versions = [named[name] for name in sorted(named)]
    return json.dumps({"snapshots": [{"versions": versions, **answers}]}, indent=1) + "\n"


def pinned_releases() -> dict[str, str]:
    """The releases of `mcp` and `pydantic` that CI installs."""
    lines = PINNED.read_text("utf-8").splitlines()
    releases = dict(line.split(" ")[0].split("==") for line in lines if "==" in line.split(" ")[0])
    return {name: releases[name] for name in ("mcp", "pydantic")}


def main() -> int:
    """Write all snapshots. The schemas come first, because the tools publish them."""
    write(SCHEMAS, schemas_json())
    written = {
        TOOLS: tools_json(anyio.run(list_tools)),
        SENTENCES: sentences_txt(),
        Path(SHIPPED): front_desk_json(),
    }
    for path, content in written.items():
        write(path, content)
    return 0


def write(path: Path, content: str) -> None:
    is_new = not path.exists() or path.read_text("utf-8") != content
    path.write_text(content, "utf-8")
    sys.stdout.write(f"{'changed  ' if is_new else 'unchanged'} {path}\n")


if __name__ == "__main__":
    sys.exit(main())
