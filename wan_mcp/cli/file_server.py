"""Files of this computer, lent to the sandbox: it fetches addresses, as PixelDojo does."""

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
"""How a link begins; the one letter of a Windows drive is no scheme."""


def files(given: Mapping[str, object]) -> dict[str, Path]:
    """The inputs of a job that are no links, by name, whether the files are there or not."""
    told = {name: str(given[name]) for name in _INPUTS if name in given}
    return {name: Path(text) for name, text in told.items() if not _LINK.match(text)}


@contextmanager
def lent(given: Mapping[str, object]) -> Iterator[dict[str, object]]:
    """The arguments, with each input that is a file replaced by an address on loopback.

    The addresses cannot be guessed, and end with the block.

    Raises:
        FileNotFoundError: an input is neither a link nor a file; the text is one line.
    """
    inputs = files(given)
    for path in inputs.values():
        if not path.is_file():
            raise FileNotFoundError(f"there is no file {path} here (a link begins with https://)")
    served: dict[str, Path] = {}

    class Handler(BaseHTTPRequestHandler):
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
            """The demo's own words are enough."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        told = dict(given)
        for name, path in inputs.items():
            address = f"/{secrets.token_hex(8)}/{name}{path.suffix}"
            served[address] = path
            told[name] = f"http://127.0.0.1:{server.server_port}{address}"
        yield told
        server.shutdown()
