"""The ways to start this program with uv, uvx and pipx.

They need these three and an index, or a folder of wheels with all that the program requires, so
they run only when asked for::

    INSTALLERS=1 python -m pytest -n 0 tests/packaging/test_installers.py
"""

import json
import os
import platform
import shutil
import subprocess
import sys
from pathlib import Path

import anyio
import pytest
from mcp.client import Client
from mcp.client.stdio import StdioServerParameters

from tests.packaging.bundle import ROOT, build_wheel, pack
from wan_mcp.sandbox import Sandbox

pytestmark = [
    pytest.mark.skipif("INSTALLERS" not in os.environ, reason="needs an index: INSTALLERS=1"),
    pytest.mark.skipif(not (ROOT / "wan_mcp").is_dir(), reason="needs the sources"),
]
LIMIT_SECONDS = 600
"""Ends what hangs; no machine is that slow."""


def run(command: list[str], folder: Path, **settings: str) -> None:
    """Run a command that has to succeed."""
    ended = subprocess.run(
        command,
        cwd=folder,
        env={**os.environ, **settings},
        capture_output=True,
        text=True,
        timeout=LIMIT_SECONDS,
        check=False,
    )
    assert ended.returncode == 0, ended.stderr


def video_in(folder: Path) -> bytes:
    """The one video of a demo."""
    (video,) = folder.glob("*.mp4")
    return video.read_bytes()


def test_uvx_from_the_folder_ends_with_a_video(tmp_path: Path) -> None:
    """Nothing is installed for good (ours)."""
    demo = ["--from", str(ROOT), "wan-mcp", "demo", "--job-seconds", "0"]
    run(["uvx", *demo], tmp_path)

    assert video_in(tmp_path)[4:8] == b"ftyp"


def test_program_installed_with_pipx_ends_its_demo_with_a_video(tmp_path: Path) -> None:
    """It is a command of its own, in an environment of its own (ours)."""
    places = {"PIPX_HOME": str(tmp_path / "pipx"), "PIPX_BIN_DIR": str(tmp_path / "bin")}
    videos = tmp_path / "videos"
    videos.mkdir()

    run(["pipx", "install", str(ROOT)], tmp_path, **places)
    run([str(tmp_path / "bin" / "wan-mcp"), "demo", "--job-seconds", "0"], videos)

    assert video_in(videos)[4:8] == b"ftyp"


@pytest.mark.anyio
async def test_unpacked_bundle_makes_a_video_with_what_it_declares(tmp_path: Path) -> None:
    """uv makes the environment; the manifest alone says how to start (documented)."""
    wheel = await anyio.to_thread.run_sync(build_wheel, tmp_path)
    await anyio.to_thread.run_sync(pack, wheel, tmp_path / "wan-mcp.mcpb")
    shutil.unpack_archive(tmp_path / "wan-mcp.mcpb", tmp_path / "unpacked", "zip")
    if "UV_OFFLINE" in os.environ:
        only_for_this_system(tmp_path / "unpacked" / "pyproject.toml")
    async with Sandbox() as sandbox:
        host = _as_a_host(tmp_path / "unpacked", sandbox)
        with anyio.fail_after(LIMIT_SECONDS):
            async with Client(host) as client:
                inputs = {"video": sandbox.source_video_url, "character_image": sandbox.image_url}
                bought = await client.call_tool("replace_character", inputs)
                job = {"job_id": (bought.structured_content or {})["job_id"]}
                ended = await client.call_tool("wait_for_job", {**job, "timeout_seconds": 900})

    assert (ended.structured_content or {})["status"] == "completed"


def only_for_this_system(project: Path) -> None:
    """Let uv look for no other system's packages: an index has them, a folder of wheels has not."""
    version = ".".join(platform.python_version_tuple()[:2])
    system = f"sys_platform == '{sys.platform}' and python_version == '{version}'"
    old, new = "package = false\n", f'package = false\nenvironments = ["{system}"]\n'
    project.write_text(project.read_text("utf-8").replace(old, new), "utf-8")


def _as_a_host(folder: Path, sandbox: Sandbox) -> StdioServerParameters:
    """The command of the manifest as a host fills it in."""
    manifest = json.loads((folder / "manifest.json").read_text("utf-8"))
    config = manifest["server"]["mcp_config"]
    environment = {**config["env"], "PIXELDOJO_API_KEY": sandbox.key}
    for name, each in manifest["user_config"].items():
        for variable, value in environment.items():
            filled = value.replace(f"${{user_config.{name}}}", str(each.get("default", "")))
            environment[variable] = filled
    return StdioServerParameters(
        command=config["command"],
        args=[word.replace("${__dirname}", str(folder)) for word in config["args"]],
        env={**os.environ, **environment, "PIXELDOJO_API_BASE": sandbox.api_base},
    )
