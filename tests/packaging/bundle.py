"""Builds `wan-mcp.mcpb`, which Claude Desktop and other hosts install with a double click.

    python -m tests.packaging.bundle [--wheel FILE] [--out FILE]

An MCP bundle is a zip archive with a manifest (documented: MANIFEST.md of
modelcontextprotocol/mcpb). For Python the specification recommends the server type `uv`: the host
brings uv, and uv installs what the `pyproject.toml` of the bundle names, for the system and the
Python of the user. So one small file fits every system, although some requirements are compiled.

The bundle holds the wheel of this package, and names for everything else the release on which the
tests passed. Without `--wheel`, the wheel is built from this folder; that needs the development
tools. The same files give the same bundle, byte by byte.
"""

import argparse
import hashlib
import json
import re
import subprocess
import sys
import tomllib
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from zipfile import ZIP_DEFLATED, ZipFile, ZipInfo

import anyio
from mcp.client import Client
from mcp.types import Tool

from wan_mcp.server import build_server
from wan_mcp.settings import Settings

ROOT = Path(__file__).parents[2]
PROJECT: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
DEFAULT_OUT = Path("dist", "wan-mcp.mcpb")

MANIFEST_VERSION = "0.4"
"""The first version with the server type `uv` (documented)."""
ENTRY_POINT = "server/main.py"
EARLIEST = (1980, 1, 1, 0, 0, 0)
"""The date of each file: the earliest that a zip archive can hold."""

MAIN = '''\
"""Starts the server; before, uv has installed what pyproject.toml names."""

import sys

from wan_mcp.__main__ import main

sys.exit(main())
'''


def manifest(tools: list[Tool]) -> dict[str, Any]:
    """What a host reads before it installs the bundle.

    Args:
        tools: those of the server, which the host shows to the user.
    """
    return {
        "manifest_version": MANIFEST_VERSION,
        "name": PROJECT["name"],
        "display_name": "Character replacement in video (PixelDojo)",
        "version": PROJECT["version"],
        "description": PROJECT["description"],
        "author": {"name": "the wan-mcp authors"},
        "license": PROJECT["license"],
        "keywords": PROJECT["keywords"],
        "server": {
            "type": "uv",
            "entry_point": ENTRY_POINT,
            "mcp_config": {
                "command": "uv",
                "args": ["run", "--directory", "${__dirname}", ENTRY_POINT],
                "env": {
                    "PIXELDOJO_API_KEY": "${user_config.api_key}",
                    "WAN_MCP_MAX_CREDITS_PER_DAY": "${user_config.max_credits_per_day}",
                },
            },
        },
        "user_config": user_config(),
        "tools": [{"name": tool.name, "description": first_sentence(tool)} for tool in tools],
        "prompts_generated": True,
        "compatibility": {
            "platforms": ["darwin", "linux", "win32"],
            "runtimes": {"python": PROJECT["requires-python"]},
        },
    }


def user_config() -> dict[str, Any]:
    """What the host asks the user for: the key, kept as a secret, and the limit for one day."""
    limit = Settings.model_fields["max_credits_per_day"].default
    return {
        "api_key": {
            "type": "string",
            "title": "PixelDojo API key",
            "description": "From your account on pixeldojo.ai. Jobs are paid from its credits.",
            "required": True,
            "sensitive": True,
        },
        "max_credits_per_day": {
            "type": "number",
            "title": "Most credits in 24 hours",
            "description": "A job that would exceed this is refused before it is paid.",
            "required": False,
            "default": float(limit) if limit % 1 else int(limit),
            "min": 0,
        },
    }


def first_sentence(tool: Tool) -> str:
    """What a tool is for, in one sentence."""
    return (tool.description or "").partition(". ")[0].removesuffix(".") + "."


def requirements(wheel: str) -> str:
    """The `pyproject.toml` of the bundle.

    Args:
        wheel: the name of the wheel beside it.
    """
    pins = "".join(f"    {json.dumps(pin)},\n" for pin in tested_releases())
    return (
        "[project]\n"
        f'name = "{PROJECT["name"]}-bundle"\n'
        f'version = "{PROJECT["version"]}"\n'
        f'requires-python = "{PROJECT["requires-python"]}"\n'
        f'dependencies = ["{PROJECT["name"]}[media]"]\n\n'
        "[tool.uv]\n"
        "package = false\n"
        "# What of this is needed is installed in these releases, on which the tests passed.\n"
        f"constraint-dependencies = [\n{pins}]\n\n"
        "[tool.uv.sources]\n"
        f'{PROJECT["name"]} = {{ path = "{wheel}" }}\n'
    )


def tested_releases() -> list[str]:
    """The releases that CI installs, as `name==version`, some with a marker for a system."""
    text = (ROOT / ".ci" / "constraints.txt").read_text("utf-8")
    pins = re.findall(r"^([\w.-]+==[^ \\\n]+(?: ; [^\\\n]+)?)", text, re.MULTILINE)
    return [pin.strip() for pin in pins]


async def list_tools() -> list[Tool]:
    """The tools of the server."""
    async with Client(build_server(Settings())) as client:
        return (await client.list_tools()).tools


def pack(wheel: Path, out: Path) -> None:
    """Write the bundle.

    Args:
        wheel: the wheel of this package.
        out: the bundle.
    """
    files = {
        "manifest.json": json.dumps(manifest(anyio.run(list_tools)), indent=2).encode() + b"\n",
        "pyproject.toml": requirements(wheel.name).encode(),
        ENTRY_POINT: MAIN.encode(),
        "LICENSE": (ROOT / "LICENSE").read_bytes(),
        wheel.name: wheel.read_bytes(),
    }
    out.parent.mkdir(parents=True, exist_ok=True)
    with ZipFile(out, "w", ZIP_DEFLATED) as archive:
        for name, content in files.items():
            entry = ZipInfo(name, EARLIEST)
            entry.external_attr = 0o644 << 16
            archive.writestr(entry, content, ZIP_DEFLATED)


def build_wheel(folder: Path) -> Path:
    """Build the wheel of this project in a folder. Raises CalledProcessError."""
    command = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(folder)]
    subprocess.run([*command, str(ROOT)], check=True, stdout=subprocess.DEVNULL)
    (wheel,) = folder.glob("*.whl")
    return wheel


def main() -> None:
    """Build the bundle, and print its name and the hash that `server.json` may need."""
    parser = argparse.ArgumentParser(description="Builds wan-mcp.mcpb.")
    parser.add_argument("--wheel", type=Path, help="a wheel that is built already")
    parser.add_argument("--out", type=Path, default=DEFAULT_OUT, help="the bundle (%(default)s)")
    given = parser.parse_args()
    with TemporaryDirectory() as folder:
        pack(given.wheel or build_wheel(Path(folder)), given.out)
    digest = hashlib.sha256(given.out.read_bytes()).hexdigest()
    sys.stdout.write(f"{given.out}  sha256 {digest}\n")


if __name__ == "__main__":
    main()
