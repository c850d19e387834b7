"""Serves files of this computer to the sandbox, which like PixelDojo takes only links."""

import mimetypes
import re
import secrets
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

_INPUTS = ("video", "character_image")
_LINK = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+:")
"""The scheme at the beginning of a link; a single letter is a Windows drive instead."""


def local_files(given: Mapping[str, object]) -> dict[str, Path]:
    """The inputs of a job that are not links, by name, whether the files exist or not."""
    texts = {name: str(given[name]) for name in _INPUTS if name in given}
    return {name: Path(text) for name, text in texts.items() if not _LINK.match(text)}


@contextmanager
def served_files(given: Mapping[str, object]) -> Iterator[dict[str, object]]:
    """The arguments, with each input that is a file replaced by an address on loopback.

    The addresses cannot be guessed, and they work until the end of the block.

    Raises:
        FileNotFoundError: an input is neither a link nor a file; the text is one line.
    """
    inputs = local_files(given)
    for path in inputs.values():
        if not path.is_file():
            raise FileNotFoundError(f"there is no file {path} here (a link begins with https://)")
    served: dict[str, Path] = {}

    class Responder(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            path = served.get(self.path)
            if path is None:
                self.send_error(404)
                return
            with path.open("rb") as file:
                self.send_response(200)
                self.send_header("Content-Type", mimetypes.guess_type(path)[0] or "video/mp4")
                self.send_header("Content-Length", str(path.stat().st_size))
                self.end_headers()
                shutil.copyfileobj(file, self.wfile)

        def log_message(self, format: str, *args: object) -> None:
            """Print nothing: the demo's own output is enough."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Responder) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        replaced = dict(given)
        for name, path in inputs.items():
            address = f"/{secrets.token_hex(8)}/{name}{path.suffix}"
            served[address] = path
            replaced[name] = f"http://127.0.0.1:{server.server_port}{address}"
        yield replaced
        server.shutdown()
