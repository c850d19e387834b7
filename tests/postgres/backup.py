"""A backup of a ledger and its restoration, by the commands of docs/teams-operations.md."""

import os
import re
import secrets
import subprocess
from collections.abc import Callable
from pathlib import Path

from tests.postgres.server import PORT, Server, installation

PAGE = Path(__file__).parents[2] / "docs" / "teams-operations.md"
NAME, RESTORED = "wan_mcp", "wan_mcp_restored"
"""How the page names the databases."""


def commands(heading: str) -> list[str]:
    """The commands below a heading of the page."""
    (section,) = re.findall(
        rf"^##+ {heading}\n(.*?)(?:^##|\Z)", PAGE.read_text("utf-8"), re.DOTALL | re.MULTILINE
    )
    blocks = re.findall(r"^ *```sh\n(.*?)^ *```$", section, re.DOTALL | re.MULTILINE)
    return [line.strip() for block in blocks for line in block.splitlines()]


def backup(server: Server, url: str, folder: Path) -> Callable[[], str]:
    """Make a backup. Returns what restores it, and then gives the address of the new database."""
    database = url.partition("?")[0].rpartition("/")[2]
    restored = f"restored_{secrets.token_hex(8)}"
    dump, *restore = commands("Backup and restore")
    environment = {
        "PATH": f"{installation().folder / 'bin'}:{os.environ['PATH']}",
        "PGHOST": str(server.folder),
        "PGPORT": str(PORT),
        "PGUSER": "postgres",
    }

    def run(command: str) -> None:
        here = re.sub(rf"\b{RESTORED}\b", restored, re.sub(rf"\b{NAME}\b", database, command))
        subprocess.run(["sh", "-euc", here], cwd=folder, env=environment, check=True)

    def bring_back() -> str:
        assert restore[-1] == "wan-mcp admin migrate"
        for command in restore[:-1]:
            run(command)
        return server.url(restored)

    run(dump)
    return bring_back
