"""How the path of a file is written where only text can stand: in the ledger and in answers.

A path is written as it is. Only a path that is not UTF-8 (on Linux, a folder whose name was made
with another encoding) cannot be written this way, because JSON and databases cannot hold it. It
becomes a `file:` URI (RFC 8089), whose %XX are the bytes of the path, and which every program can
read. No full path begins with `file:`, so the two cannot be confused.

If a video is in object storage, the URL of its object (`s3://bucket/videos/job_1.mp4`, see
`storage.storage_url`) is written in the same places. No full path begins like one, and such URLs
are never passed to these functions.
"""

import os
import sys
from pathlib import Path
from urllib.parse import unquote_to_bytes

_SCHEME = "file://"


def text_of(path: Path) -> str:
    """A full path as text: itself, or a `file:` URI if it is not UTF-8."""
    text = str(path)
    try:
        text.encode()
    except UnicodeEncodeError:
        return path.as_uri()
    return text


def path_of(text: str) -> Path:
    """The path from which `text_of` made a text."""
    if not text.startswith(_SCHEME):
        return Path(text)
    path = os.fsdecode(unquote_to_bytes(text.removeprefix(_SCHEME)))
    return Path(path.removeprefix("/") if sys.platform == "win32" else path)
