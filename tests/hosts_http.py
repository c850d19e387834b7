r"""Claude Code signs in to a team's server with a token in a header: its own command line says so.

Run it by hand, from the root of the project, in an environment with wan-mcp and what
`tests/postgres` needs (less than a minute)::

    npm install --prefix FOLDER @anthropic-ai/claude-code
    python -m tests.hosts_http FOLDER/node_modules/.bin

The server is `wan-mcp http` with a ledger in a PostgreSQL that is started for this. The host has an
empty home folder of its own. If anything does not hold, the exit code is 1.
"""

import asyncio
import os
import shutil
import subprocess
import sys
from contextlib import ExitStack
from pathlib import Path
from tempfile import TemporaryDirectory

from tests.bench.database import own_server
from tests.bench.team_crowd import serving
from tests.hosts_cli import SECONDS, say
from wan_mcp.sandbox import Sandbox

WRONG = "Bearer wan_aaaaaaaaaa_" + "x" * 43


class ClaudeCode:
    """The host's own program, for a user who has never used it.

    Args:
        program: its path.
        home: an empty folder.
    """

    def __init__(self, program: str, home: Path) -> None:
        self._program = program
        self._home = home

    def add(self, name: str, url: str, authorization: str) -> None:
        """Add a server as docs/teams.md tells users to."""
        header = f"Authorization: {authorization}"
        self._run("add", "--transport", "http", name, url, "--header", header)

    def listed(self) -> dict[str, str]:
        """What the program says about each server, by name."""
        lines = self._run("list").splitlines()
        return dict(line.split(": ", 1) for line in lines if ": " in line)

    def _run(self, *words: str) -> str:
        ended = subprocess.run(
            [self._program, "mcp", *words],
            cwd=self._home,
            env={"PATH": os.environ["PATH"], "HOME": str(self._home), "NO_COLOR": "1"},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=SECONDS,
            check=False,
        )
        assert ended.returncode == 0, ended.stderr
        return ended.stdout


async def trial(program: str, stack: ExitStack) -> bool:
    """Whether the right token lets the host in, and a wrong one does not."""
    folder = Path(stack.enter_context(TemporaryDirectory(ignore_cleanup_errors=True)))
    (folder / "home").mkdir()
    host = ClaudeCode(program, folder / "home")
    database = await asyncio.to_thread(stack.enter_context, own_server())
    async with Sandbox() as sandbox:
        settings = {"PIXELDOJO_API_BASE": sandbox.api_base}
        with serving(database, settings, folder) as (server, [person, *_]):
            await asyncio.to_thread(host.add, "right", server.url, person.headers["Authorization"])
            await asyncio.to_thread(host.add, "wrong", server.url, WRONG)
            listed = await asyncio.to_thread(host.listed)
    for name in ("right", "wrong"):
        say(f"    | {name}: {listed[name]}\n")
    secret = person.headers["Authorization"].partition(" ")[2]
    is_shown = any(secret in line for line in listed.values())
    return "Connected" in listed["right"] and "Connected" not in listed["wrong"] and not is_shown


def main(folder: str | None) -> int:
    """Try it, if the program is there."""
    program = shutil.which("claude", path=folder)
    if program is None:
        say("skipped, because claude is not here\n")
        return 0
    with ExitStack() as stack:
        holds = asyncio.run(trial(program, stack))
    say("It holds.\n" if holds else "It does not hold.\n")
    return 0 if holds else 1


if __name__ == "__main__":
    sys.exit(main(os.path.abspath(sys.argv[1]) if len(sys.argv) > 1 else None))
