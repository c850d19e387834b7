"""Files of this computer, lent to the sandbox: it fetches addresses, as PixelDojo does."""

import mimetypes
import secrets
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread


@contextmanager
def lent(given: Mapping[str, object], names: tuple[str, ...]) -> Iterator[dict[str, object]]:
    """The arguments, with each of those that names a file replaced by an address on loopback.

    The addresses cannot be guessed, and end with the block.
    """
    files: dict[str, Path] = {}

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            path = files.get(self.path)
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
        for name in names:
            path = Path(str(given.get(name, "")))
            if name in given and path.is_file():
                address = f"/{secrets.token_hex(8)}/{name}{path.suffix}"
                files[address] = path
                told[name] = f"http://127.0.0.1:{server.server_port}{address}"
        yield told
        server.shutdown()
