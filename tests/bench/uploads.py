"""How much memory and time uploads need, against a real S3 server on this computer.

Run it by hand, from the root of the project; it needs some 5 GB of room for temporary files::

    python -m tests.bench.uploads

One process uploads 120 MB over a line of 5 MB/s, and another one a sparse file of 2 GB as fast as
it goes. Printed are the time, the steps of the progress, the peak memory of the process, and
whether the stored bytes have the right hash. Above 100 MB of memory, or with a wrong hash, the exit
code is 1.
"""

import asyncio
import hashlib
import json
import os
import resource
import sys
import time
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import anyio

from tests.storage.s3 import S3, URL, s3_server
from tests.storage.wire import Wire
from wan_mcp.clock import Clock
from wan_mcp.storage.delivery import Content
from wan_mcp.storage.object_store import ObjectStore
from wan_mcp.storage.uploads import Uploads

MB = 1_000_000
MOST_MEMORY = 100 * MB
CASES = [("120 MB at 5 MB/s", 120 * MB, 5 * MB), ("2 GB, sparse", 2000 * MB, 0)]


def content_of(file: Path) -> Content:
    """The whole file as an input."""
    with file.open("rb") as opened:
        digest = hashlib.file_digest(opened, "sha256").hexdigest()
    return Content(lambda: file.open("rb"), file.stat().st_size, digest, ".mp4", "video/mp4")


async def upload(content: Content) -> dict[str, Any]:
    """Upload it in this process; returns figures."""
    sent: list[int] = []
    began = time.monotonic()
    await Uploads(ObjectStore(URL, os.environ), Clock()).link(
        content, "sub_1", "video", sent.append
    )
    seconds = time.monotonic() - began
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    return {"seconds": seconds, "steps": len(set(sent)), "peak": peak, "sha256": content.sha256}


async def measured(name: str, size: int, speed: int, s3: S3, folder: Path) -> bool:
    """Have a process of its own upload a file; prints figures, and returns whether all is right."""
    file = folder / "clip.mp4"
    with file.open("wb") as opened:
        opened.truncate(size)
    async with Wire(s3.endpoint, bytes_per_second=speed).opened() as slow:
        given = s3.environment(AWS_ENDPOINT_URL=slow if speed else s3.endpoint)
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "tests.bench.uploads", str(file)),
            env={**os.environ, **given},
            stdout=asyncio.subprocess.PIPE,
        )
        output, _ = await process.communicate()
    figures = json.loads(output)
    (stored,) = s3.objects().values()
    with stored.open("rb") as opened:
        is_right = hashlib.file_digest(opened, "sha256").hexdigest() == figures["sha256"]
    peak, seconds = figures["peak"], figures["seconds"]
    print(
        f"{name}: {seconds:.1f} s ({size / MB / seconds:.1f} MB/s), {figures['steps']} steps of "
        f"progress, peak memory {peak / MB:.0f} MB, hash {'right' if is_right else 'WRONG'}, "
        f"{len(s3.parts())} parts left, exit code {process.returncode}"
    )
    s3.clear()
    return is_right and peak < MOST_MEMORY and process.returncode == 0


async def main() -> int:
    """Run all cases; returns the exit code."""
    with TemporaryDirectory() as folder, s3_server(Path(folder) / "s3") as s3:
        right = [await measured(*case, s3, Path(folder)) for case in CASES]
    return 0 if all(right) else 1


if __name__ == "__main__":
    if len(sys.argv) > 1:
        print(json.dumps(anyio.run(upload, content_of(Path(sys.argv[1])))))
        sys.exit(0)
    sys.exit(anyio.run(main))
