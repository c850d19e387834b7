"""The S3 server of the tests of this folder."""

import sys
from collections.abc import Iterator

import pytest

from tests.storage.s3 import S3, s3_server
from wan_mcp.storage import object_store


@pytest.fixture(scope="module")
def running_s3(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3]:
    """A server for all tests of a module."""
    if sys.platform == "win32":
        pytest.skip("the S3 server of the tests gets its socket as only POSIX hands one over")
    pytest.importorskip("nanio", reason="nanio, the S3 server of the tests, is not installed")
    pytest.importorskip("obstore", reason="the extra storage is not installed")
    with s3_server(tmp_path_factory.mktemp("s3")) as server:
        yield server


@pytest.fixture
def s3(running_s3: S3, monkeypatch: pytest.MonkeyPatch) -> S3:
    """The server with an empty bucket; obstore reads from the environment how to use it."""
    running_s3.clear()
    monkeypatch.setattr(object_store, "retry_delay", lambda attempt, chance: 0.0)
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy", "AWS_SESSION_TOKEN"):
        monkeypatch.delenv(name, raising=False)
    for name, value in running_s3.environment().items():
        monkeypatch.setenv(name, value)
    return running_s3
