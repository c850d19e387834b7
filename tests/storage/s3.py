"""An S3 server of its own for a test: nanio as a process, which checks signatures and their end."""

import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

import httpx

KEY_ID, SECRET = "AKIACANARY0KEYID", "canary-secret-7f3a"
BUCKET = "bucket"
_CLOCK = "seconds-ahead"
URL = f"s3://{BUCKET}/some/prefix"


@dataclass(frozen=True)
class S3:
    """A running server.

    Attributes:
        endpoint: its address.
        folder: what it has stored.
    """

    endpoint: str
    folder: Path

    def set_clock_ahead(self, seconds: float) -> None:
        """Let its clock be so far ahead of this computer's."""
        (self.folder / _CLOCK).write_text(str(seconds))

    def environment(self, **other: str) -> dict[str, str]:
        """The variables with which this server can be used."""
        return {
            "AWS_ACCESS_KEY_ID": KEY_ID,
            "AWS_SECRET_ACCESS_KEY": SECRET,
            "AWS_ENDPOINT_URL": self.endpoint,
            "AWS_REGION": "us-east-1",
            **other,
        }

    def objects(self) -> dict[str, Path]:
        """The files of the objects that everybody with a link can see, by their names."""
        bucket = self.folder / BUCKET
        files = (path for path in bucket.rglob("*") if path.is_file())
        names = ((path.relative_to(bucket), path) for path in files if not _is_unfinished(path))
        return {name.as_posix(): path for name, path in names if name.parts[0][0] != "."}

    def unfinished(self) -> list[Path]:
        """The files of what was uploaded in part, which nobody can see."""
        parts = (self.folder / ".nanio").rglob("*.bin")
        return [*parts, *filter(_is_unfinished, (self.folder / BUCKET).rglob("*"))]

    async def has_forgotten(self) -> bool:
        """Whether nothing is left of uploads whose connections have ended.

        The server sees such an end before it answers questions that come later, and then takes a
        few of its own steps.
        """
        async with httpx.AsyncClient(timeout=600, trust_env=False) as client:
            for _ in range(300):
                if not self.unfinished():
                    return True
                await client.get(self.endpoint)
        return False

    def clear(self) -> None:
        """Delete all objects, and every unfinished upload."""
        for folder in (*(self.folder / BUCKET).iterdir(), self.folder / ".nanio"):
            shutil.rmtree(folder, ignore_errors=True)
        self.set_clock_ahead(0)

    def make_older(self, name: str, by: timedelta) -> None:
        """Let an object have been written that long ago."""
        (self.folder / BUCKET / ".nanio-meta" / f"{name}.json").unlink()
        then = time.time() - by.total_seconds()
        os.utime(self.folder / BUCKET / name, (then, then))


def _is_unfinished(path: Path) -> bool:
    return path.name.startswith(".tmp.")


@contextmanager
def s3_server(folder: Path) -> Iterator[S3]:
    """Start a server with one empty bucket, and end it.

    It gets a socket that listens already: the first request waits until it is there.
    """
    (folder / BUCKET).mkdir(parents=True)
    (folder / _CLOCK).write_text("0")
    keys = {"NANIO_ACCESS_KEY": KEY_ID, "NANIO_SECRET_KEY": SECRET}
    with socket.create_server(("127.0.0.1", 0)) as listener:
        number = listener.fileno()
        process = subprocess.Popen(
            [sys.executable, "-c", _SERVER, str(number), str(folder / _CLOCK)],
            env={**os.environ, **keys, "NANIO_DATA_DIR": str(folder)},
            pass_fds=[number],
            stderr=subprocess.DEVNULL,
        )
        endpoint = f"http://127.0.0.1:{listener.getsockname()[1]}"
    try:
        httpx.get(endpoint, timeout=600, trust_env=False)
        yield S3(endpoint, folder)
    finally:
        process.terminate()
        process.wait()


_SERVER = """
import sys
from datetime import datetime, timedelta
import uvicorn
from nanio.auth import sigv4

class Shifted(datetime):
    @classmethod
    def now(cls, tz=None):
        ahead = float(open(sys.argv[2]).read())
        return datetime.now(tz) + timedelta(seconds=ahead)

sigv4.datetime = Shifted
uvicorn.run("nanio.app:build_app", factory=True, fd=int(sys.argv[1]), log_level="critical")
"""
