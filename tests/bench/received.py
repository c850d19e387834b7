"""How much memory and time an upload takes that passes through the server into a bucket.

`python -m tests.bench.received --mb 500`: one server process as `wan-mcp http` has it, an S3 server
beside it, and a file of that size by one PUT. It prints the time, and how much the memory of the
server grew over what a small upload needs.
"""

import argparse
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import httpx

from tests.memory import most_memory
from tests.storage.s3 import URL, s3_server
from tests.storage.uploading import MB, Files

_SERVER = """
import asyncio, os, sys
from datetime import UTC, datetime
from pathlib import Path
from starlette.applications import Starlette
from wan_mcp.inputs.received.reception import Reception
from wan_mcp.storage.object_store import ObjectStore
from wan_mcp.surface.uploading.desk import UploadDesk
from wan_mcp.transports.listener import listen
from wan_mcp.transports.operations.proxies import NOBODY_ELSE
from wan_mcp.transports.operations.web_server import WebServer, quiet_config
from wan_mcp.transports.uploads import UploadSite

async def secret():
    return bytes(32)

async def main():
    store = ObjectStore(sys.argv[1], os.environ)
    now = lambda: datetime.now(UTC)
    reception = Reception(store, secret, Path(sys.argv[2]), 5 * 10**9, now, "")
    listener = listen("127.0.0.1", 0)
    port = listener.getsockname()[1]
    texts = [(await reception.offer("ana", ("video",)))[1] for _ in range(2)]
    print(port, *texts, flush=True)
    site = UploadSite(lambda: UploadDesk(reception), NOBODY_ELSE.page_rules(port))
    app = NOBODY_ELSE.guard(Starlette(routes=list(site.routes)))
    await WebServer(quiet_config(app)).serve(sockets=[listener])

asyncio.run(main())
"""


def blocks(path: Path) -> Iterator[bytes]:
    with path.open("rb") as file:
        while block := file.read(1 << 18):
            yield block


def put(link: str, path: Path) -> float:
    """Upload a file; the seconds that it took."""
    began = time.monotonic()
    headers = {"Content-Length": str(path.stat().st_size)}
    answer = httpx.put(link, content=blocks(path), headers=headers, timeout=600, trust_env=False)
    answer.raise_for_status()
    return time.monotonic() - began


def measure(folder: Path, size: int) -> None:
    """Start everything, and print what was found."""
    with s3_server(folder / "s3") as s3:
        server = subprocess.Popen(
            [sys.executable, "-c", _SERVER, URL, str(folder / "prepared")],
            env={**os.environ, **s3.environment()},
            stdout=subprocess.PIPE,
            text=True,
        )
        try:
            assert server.stdout is not None
            port, small, large = server.stdout.readline().split()
            address = f"http://127.0.0.1:{port}/uploads"
            files = [Files.made(_made(folder / name), n) for name, n in (("a", MB), ("b", size))]
            put(f"{address}/{small}/video", files[0].clip)
            before = most_memory(server.pid)
            seconds = put(f"{address}/{large}/video", files[1].clip)
            grown = most_memory(server.pid) - before
        finally:
            server.kill()
            server.wait()
    print(f"{size // MB} MB in {seconds:.1f} s; memory grew by {grown / MB:.1f} MB")


def _made(folder: Path) -> Path:
    folder.mkdir()
    return folder


def main() -> None:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--mb", type=int, default=500)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        measure(Path(folder), given.mb * MB)


if __name__ == "__main__":
    main()
