"""The demo on files of this computer, through a bucket: the same code as in earnest."""

import hashlib
import os
import shutil
import subprocess
import sys
from importlib import resources
from pathlib import Path

import pytest

from tests.storage.s3 import KEY_ID, S3, SECRET, URL

MEDIA = resources.files("wan_mcp.sandbox") / "media"
SLOW_MACHINE_SECONDS = 600
"""A bound on what could hang; no claim about speed."""


def test_demo_uploads_its_inputs_and_ends_with_a_video(s3: S3, tmp_path: Path) -> None:
    """The sandbox fetches the signed links, and makes its video of what is under them; a log of
    everything shows neither a link's signature nor what signs it (ours)."""
    pytest.importorskip("av", reason="the extra `media` is not installed")
    for name in ("clip.mp4", "character.png"):
        shutil.copy(str(MEDIA / name), tmp_path)
    settings = {"WAN_MCP_STORAGE_URL": URL, "WAN_MCP_LOG_LEVEL": "DEBUG"}
    options = "--video clip.mp4#t=0,1 --image character.png --duration 1 --job-seconds 0"

    demo = subprocess.run(
        [sys.executable, "-m", "wan_mcp", "demo", *options.split(), "--folder", "videos"],
        cwd=tmp_path,
        env={**os.environ, "HOME": str(tmp_path), **settings},
        capture_output=True,
        text=True,
        timeout=SLOW_MACHINE_SECONDS,
        check=False,
    )

    assert demo.returncode == 0, demo.stderr
    assert len(list((tmp_path / "videos").glob("*.mp4"))) == 1
    uploaded = {Path(name).stem: file.read_bytes() for name, file in s3.objects().items()}
    assert len(uploaded) == 2
    assert {hashlib.sha256(content).hexdigest() for content in uploaded.values()} == set(uploaded)
    assert not s3.unfinished()
    assert "Using selector" in demo.stderr  # asyncio logs this only at DEBUG
    said = demo.stdout + demo.stderr
    assert [secret for secret in (SECRET, KEY_ID, "X-Amz-") if secret in said] == []
