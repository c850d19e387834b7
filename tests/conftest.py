"""What all tests share: the async backend, and a separate data folder for each test."""

import gc
import json
import os
import signal
from collections.abc import Callable, Generator, Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft202012Validator  # type: ignore[import-untyped]

from tests.postgres.fixtures import (
    RAN_WITH,
    database,
    leisure,
    new_database,
    own_postgres,
    postgres,
    shared_postgres,
    worker_database,
)

__all__ = [
    "database",
    "leisure",
    "new_database",
    "own_postgres",
    "postgres",
    "shared_postgres",
    "worker_database",
]

MAX_MORE_WORKERS = 4
"""A worker needs over 100 MB (observed), and on many cores the suite is short without more."""

TESTS = Path(__file__).parent
ONE_PYTHON = {
    *("examples", "packaging", "storm"),
    *("test_architecture.py", "test_readme.py", "test_rooms_picture.py", "test_tools_page.py"),
    *("test_statements.py", "test_player.py", "test_moving_picture.py", "test_gallery.py"),
}
"""The folders and modules of tests whose result is the same with every Python: of the structure of
the sources, the pages, the packages, the SQL, the page that runs in a browser, and the storm, whose
parts the other tests try with each Python."""


@pytest.hookimpl(wrapper=True, optionalhook=True)
def pytest_xdist_auto_num_workers() -> Generator[None, int, int]:
    """Two workers for each core, because many tests wait and leave their core idle.

    They wait for the processes that they start, or in virtual time for bytes between sockets.
    """
    cores = yield
    if "PYTEST_XDIST_AUTO_NUM_WORKERS" in os.environ:
        return cores
    return cores + min(cores, MAX_MORE_WORKERS)


def pytest_configure() -> None:
    """A shell without job control ignores Ctrl-C in what it starts in the background.

    The programs that tests start would inherit that, and not end when they are interrupted.
    """
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_terminal_summary(terminalreporter: Any) -> None:
    """Say with which other programs tests ran: what a machine has differs."""
    reports = [each for reports in terminalreporter.stats.values() for each in reports]
    found = {
        str(value)
        for report in reports
        for name, value in getattr(report, "user_properties", ())
        if name == RAN_WITH
    }
    if found:
        terminalreporter.write_line(f"ran with {', '.join(sorted(found))}")


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Generator[None, object, object]:
    """While tests are collected, a garbage collection finds nothing and takes 2 s in all.

    Later ones need not look at the tests, either.
    """
    gc.disable()
    try:
        return (yield)
    finally:
        gc.freeze()
        gc.enable()


@pytest.hookimpl(tryfirst=True)  # before pytest reads `-m`
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark what is about texts, sources, pages and packages, and not about running Python."""
    for item in items:
        is_ours = item.path.is_relative_to(TESTS)
        if is_ours and not ONE_PYTHON.isdisjoint(item.path.relative_to(TESTS).parts):
            item.add_marker("one_python")


@pytest.fixture
def anyio_backend() -> str:
    """Only asyncio: the SDK's stdio transport and uvicorn need it."""
    return "asyncio"


@pytest.fixture(autouse=True)
def own_data_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No test may touch the ledger of the developer; subprocesses inherit this setting."""
    monkeypatch.setenv("WAN_MCP_DATA_DIR", str(tmp_path / "data"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    # A test that passes an environment without a home folder must not get the developer's either.
    monkeypatch.setattr("wan_mcp.storage.data_folder._home_of_account", lambda: tmp_path / "home")


@pytest.fixture(scope="session")
def for_all_tests() -> Iterator[pytest.MonkeyPatch]:
    """What is the same for each test is set once: there are thousands of tests."""
    with pytest.MonkeyPatch.context() as patch:
        yield patch


@pytest.fixture(autouse=True, scope="session")
def patient_discovery(for_all_tests: pytest.MonkeyPatch) -> None:
    """The SDK's client waits 10 s for `server/discover`, then takes the server for an old one.

    On a busy machine a server process may need longer to start (observed), and the test would
    speak another revision than it means to.
    """
    for_all_tests.setattr("mcp.client.session.DISCOVER_TIMEOUT_SECONDS", 600.0)


@pytest.fixture(autouse=True, scope="session")
def patient_decoder(for_all_tests: pytest.MonkeyPatch) -> None:
    """The process that reads videos may need seconds to start on a busy machine (observed)."""
    for_all_tests.setattr("wan_mcp.inputs.decoder_process.ANSWER_SECONDS", 600.0)
    for_all_tests.setattr("wan_mcp.videos.job_files.CONTACT_SHEET_SECONDS", 600.0)


_check_schema: Callable[[Any], None] = Draft202012Validator.check_schema


@cache
def _check_text(schema: str) -> None:
    _check_schema(json.loads(schema))


@pytest.fixture(autouse=True, scope="session")
def each_schema_is_checked_once(for_all_tests: pytest.MonkeyPatch) -> None:
    """Every client of a test checks the same schemas of our tools, which takes 0.1 s each time."""

    def check_schema(schema: Any) -> None:
        _check_text(json.dumps(schema, sort_keys=True))

    for_all_tests.setattr(Draft202012Validator, "check_schema", check_schema)


@pytest.fixture(autouse=True, scope="session")
def no_inspection(for_all_tests: pytest.MonkeyPatch) -> None:
    """A process for each saved video would cost the tests a minute; those about it turn it on."""
    for_all_tests.setattr("wan_mcp.app.base.can_inspect", lambda: False)
