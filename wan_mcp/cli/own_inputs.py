"""Inputs of the demo that are files of this computer, treated like those of any other job."""

import os
import re
import socket
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit
from urllib.request import url2pathname

INPUTS = ("video", "character_image")
_URI = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+:")
"""The beginning of an input that is not a path; a single letter is a Windows drive."""
_FRAGMENT = re.compile(r"#t=[^#/]*$")


def with_full_paths(given: Mapping[str, Any]) -> tuple[dict[str, Any], list[Path]]:
    """The arguments of a job with full paths, because the server may run in another folder.

    Returns:
        The arguments, and the folders of the files among them: typing a path into a command allows
        the server to read it.

    Raises:
        FileNotFoundError: an input is neither a link nor a file; the text is one line.
    """
    full = dict(given)
    folders = []
    for name in INPUTS:
        text = str(given.get(name, ""))
        if text.lower().startswith("file:///"):
            folders.append(Path(url2pathname(urlsplit(text).path)).parent)
        elif text and not _URI.match(text):
            path = Path(os.path.expanduser(text)).absolute()
            if not os.path.isfile(_FRAGMENT.sub("", str(path))):
                raise FileNotFoundError(
                    f"there is no file {text} here (a link begins with https://)"
                )
            full[name] = str(path)
            folders.append(path.parent)
    return full, folders


def allowed(folders: list[Path]) -> dict[str, str]:
    """The setting that allows the files in these folders; {} for no folder."""
    if not folders:
        return {}
    return {"WAN_MCP_INPUT_DIRS": os.pathsep.join(map(str, dict.fromkeys(folders)))}


def lent_on_loopback() -> dict[str, str]:
    """The settings with which a server lends files to a PixelDojo on this computer."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    return {
        "WAN_MCP_PUBLIC_URL": f"http://127.0.0.1:{port}",
        "WAN_MCP_PUBLIC_PORT": str(port),
    }
