"""The root element of markup: found in one pass, whatever a stranger wrote."""

import subprocess
import sys

import pytest

from wan_mcp.inputs.file_types import file_type_of
from wan_mcp.inputs.markup import root_element

COMMENT = b"<!---->"


@pytest.mark.parametrize(
    ("head", "name"),
    [
        (b"<html>", "html"),
        (b"\xef\xbb\xbf \n<!DOCTYPE html><html>", "html"),
        (b"<!--a--> <!--b-->\n<TITLE>x", "title"),
        (b"<!--><body>", "body"),
        (b'<?xml version="1.0"?><!DOCTYPE svg PUBLIC "-//W3C//DTD SVG 1.1//EN" "x"><svg>', "svg"),
        (b'<svg:svg xmlns:svg="http://www.w3.org/2000/svg">', "svg"),
        (b'<?xml version="1.0"?><MPD>', "mpd"),
        (b"<!-- never closed", None),
        (b"<? never closed", None),
        (b"<!doctype>", None),
        (b"no markup", None),
        (b"< html>", None),
        (b"", None),
    ],
)
def test_the_root_element_is_named_without_what_precedes_it(head: bytes, name: str | None) -> None:
    """As browsers find it (documented)."""
    assert root_element(head) == name


@pytest.mark.parametrize(
    ("head", "name"),
    [
        (b'<svg xmlns="http://www.w3.org/2000/svg"/>', "an SVG drawing"),
        (b'<?xml version="1.0"?>\n<!DOCTYPE svg PUBLIC "a" "b">\n<svg/>', "an SVG drawing"),
        (b"<!-- Made by hand --><svg/>", "an SVG drawing"),
        (b'<?xml version="1.0"?><html xmlns="http://www.w3.org/1999/xhtml">', "a web page"),
        (b'<?xml version="1.0"?><MPD>', "a playlist"),
    ],
)
def test_markup_has_one_type_however_it_begins(head: bytes, name: str) -> None:
    """An SVG with and without a document type had two verdicts (observed elsewhere)."""
    file_type = file_type_of(head, "")

    assert file_type
    assert file_type.name == name


FREEZING = {
    "comments": COMMENT * 26 + b"x",
    "many-comments": COMMENT * 37_000 + b"x",
    "spaces": b" " * 262_143 + b"x",
    "comments-and-spaces": (COMMENT + b" " * 99) * 2_000,
    "instructions": b"<?a?>" * 50_000,
    "open-comments": b"<!--" * 60_000,
    "doctypes": b"<!doctype" + b" " * 200_000,
    "xml-openings": b"<?xml" * 50_000,
    "playlist-openings": b"<MP" * 80_000,
}
"""Bytes that make expressions go back and forth; the first is 183 bytes (observed elsewhere)."""


@pytest.mark.parametrize("kind", FREEZING)
def test_bytes_made_to_freeze_a_scanner_are_looked_at_once(kind: str) -> None:
    """In a process of its own: the scan that froze would not have ended within this century."""
    code = (
        "import sys; from wan_mcp.inputs.file_types import file_type_of as f; "
        "print(f(sys.stdin.buffer.read(), 'video/mp4'))"
    )
    found = subprocess.run(
        [sys.executable, "-P", "-c", code], input=FREEZING[kind], capture_output=True, timeout=600
    )

    assert (found.returncode, found.stderr) == (0, b"")
    assert b"a text file" in found.stdout
