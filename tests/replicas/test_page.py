"""docs/teams.md followed literally: its commands lead from nothing to a team that works."""

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest

pytest.importorskip("psycopg", reason="the extra `postgres` is not installed")

from tests.ledger.stores import HANG_SECONDS
from tests.postgres.needs import missing
from tests.postgres.server import Server, installation
from tests.replicas.processes import haproxy

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "teams.md"
ADDRESS = "http://127.0.0.1:8080/mcp"
SANDBOX = 8799
TOOLS = ("unshare", "ip", "curl", "createuser", "createdb")
BEFORE = f"""
set -euo pipefail
trap 'kill $(jobs -p)' EXIT
ip link set lo up
.venv/bin/wan-mcp sandbox --port {SANDBOX} &
"""
"""The script has a network of its own, so the ports of the page are free."""
AFTER = f"""
.venv/bin/python - <<END
import asyncio, json, pathlib, re
from tests.replicas.caller import Caller

token = re.search("wan_[a-z0-9]+_[\\w-]+", pathlib.Path("team/token-of-ann").read_text())[0]
headers = {{"Authorization": f"Bearer {{token}}"}}

async def main():
    links = {{"video": "http://127.0.0.1:{SANDBOX}/media/clip.mp4",
             "character_image": "http://127.0.0.1:{SANDBOX}/media/character.png"}}
    async with Caller("{ADDRESS}", headers=headers) as caller:
        answers = [await caller.call("replace_character", seed=1, **links) for _ in range(2)]
    print(json.dumps(answers))

asyncio.run(main())
END
"""
AS_POSTGRES = '#!/bin/sh\n[ "$1" = -u ] || exit 1\nPGUSER=$2\nexport PGUSER\nshift 2\nexec "$@"\n'
"""Stands for sudo: the user of the tests has no other one, but the database has."""


def blocks() -> list[str]:
    """The commands of the section, block by block."""
    (section,) = re.findall(r"^## In fifteen minutes\n(.*?)^## ", PAGE.read_text(), re.S | re.M)
    return re.findall(r"^```sh\n(.*?)^```$", section, re.S | re.M)


def test_page_installs_extras_that_exist() -> None:
    """The rest of its first block is what every test of this package has behind it (ours)."""
    apt, venv, pip = blocks()[0].splitlines()
    project = (ROOT / "pyproject.toml").read_text()
    extras = re.findall(r"\.\[([\w,]+)\]", pip)[0].split(",")

    assert apt.split()[:4] == ["sudo", "apt-get", "install", "--yes"]
    assert venv == "python3 -m venv .venv"
    assert all(f"\n{extra} = [" in project for extra in extras)


def test_commands_of_the_page_make_a_team_that_pays_once(
    own_postgres: Server, tmp_path: Path
) -> None:
    """Two equal calls through the balancer are one payment (ours)."""
    programs = tmp_path / "bin"
    programs.mkdir()
    (programs / "sudo").write_text(AS_POSTGRES)
    (programs / "sudo").chmod(0o755)
    (tmp_path / ".venv").symlink_to(sys.prefix)
    (tmp_path / "docs").symlink_to(ROOT / "docs")
    commands = "".join(blocks()[1:])
    assert haproxy() in commands
    path = f"{programs}:{installation().folder / 'bin'}:{os.environ['PATH']}:/usr/sbin:/sbin"
    said = in_a_network_of_its_own(
        BEFORE + commands + "\necho\n" + AFTER,
        tmp_path,
        {
            "PATH": path,
            "HOME": str(tmp_path),
            "USER": "somebody",
            "PGHOST": str(own_postgres.folder),
            "PGUSER": "somebody",
            "PYTHONPATH": str(ROOT),
            "PIXELDOJO_API_KEY": "pd_sandbox",
            "PIXELDOJO_API_BASE": f"http://127.0.0.1:{SANDBOX}/api/v1",
        },
    )
    ready, answers = said.splitlines()[-2:]
    first, second = json.loads(answers)

    assert ready == '{"status":"ready"}'
    assert (first["charged"], second["charged"]) == ("yes", "no")
    assert first["job_id"] == second["job_id"]


def in_a_network_of_its_own(script: str, folder: Path, environment: Mapping[str, str]) -> str:
    """What a script prints."""
    alone = [shutil.which("unshare") or "unshare", "--net"]
    path = environment["PATH"]
    lacks = [name for name in TOOLS if shutil.which(name, path=path) is None]
    if lacks or subprocess.run([*alone, "true"], capture_output=True, check=False).returncode:
        missing("unshare", f"a network of its own (root on Linux), or {lacks}")
    run = subprocess.run(
        [*alone, "bash", "-c", script],
        cwd=folder,
        env=dict(environment),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=HANG_SECONDS,
        check=False,
    )
    assert run.returncode == 0, run.stdout + run.stderr
    return run.stdout
