"""Paths as text: what any program can open, whatever encoding named a folder."""

import json
import os
import sys
from pathlib import Path

import pytest

from wan_mcp.videos.paths import path_of, text_of


@pytest.mark.parametrize(
    "path", ["/home/me/films/a.mp4", "/with space/ü/%FF/映画.mp4", "/a/file:/b", "/#?&"]
)
def test_an_ordinary_path_is_written_as_it_is(path: str) -> None:
    """Users and programs know it in this form (ours)."""
    assert text_of(Path(path)) == str(Path(path))
    assert path_of(text_of(Path(path))) == Path(path)


@pytest.mark.skipif(sys.platform == "win32", reason="file names there are no bytes")
@pytest.mark.parametrize("name", [b"M\xfcnchen", b"\xff %41 \xe2\x98\x83", b"\xed\xa0\x80"])
def test_a_path_that_is_no_utf_8_becomes_a_file_uri(name: bytes) -> None:
    """Its %XX are the bytes of the path, so nothing of it is lost (RFC 8089)."""
    path = Path(os.fsdecode(b"/films/" + name)) / "a.mp4"
    text = text_of(path)

    assert text.startswith("file:///films/")
    assert json.loads(json.dumps(text, ensure_ascii=False).encode()) == text
    assert path_of(text) == path
