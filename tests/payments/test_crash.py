"""A server that is killed at any moment: what is on the disk by then prevents a second payment."""

import asyncio
import json
import sqlite3
import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager, closing, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

import anyio
import anyio.lowlevel
import pytest

from wan_mcp.clock import Clock
from wan_mcp.errors import OutcomeUnknown, WanError
from wan_mcp.jobs import Jobs
from wan_mcp.ledger.contract import LedgerUnavailable
from wan_mcp.ledger.record import Record, State
from wan_mcp.ledger.spending_limits import SpendingLimits
from wan_mcp.ledger.sqlite import connection
from wan_mcp.ledger.sqlite.engine import FILE, SQLiteLedger
from wan_mcp.models import Job, Replacement
from wan_mcp.pixeldojo.client import PixelDojo
from wan_mcp.polling.rate_limiter import SharedRateLimiter
from wan_mcp.sandbox import Fault, Sandbox
from wan_mcp.sandbox.http import faults

pytestmark = pytest.mark.anyio

RUN = "/api/v1/models/*/run"
HARNESS = Path(__file__).parents[1] / "crash" / "run.py"
FIRST_ROUNDS = {"fast": 0, "slow": 2, "dropped": 4, "500": 6}
"""For each behaviour of PixelDojo the first of two rounds, of the eight that together kill at every
step. So the four together do that; `tests/crash/run.py --kills 10000` does it for each of them."""
KILLS = 88
"""As many as two rounds have."""

BROKEN_PROMISES = (
    "charged twice",
    "parsed ids lost",
    "reported ids lost",
    "charges not listed",
    "left half-way",
    "queued rows forgotten",
    "withdrawn and sent",
)

Serve = Callable[[SQLiteLedger], AbstractAsyncContextManager[Jobs]]


@pytest.fixture
async def sandbox() -> AsyncIterator[Sandbox]:
    async with Sandbox() as sandbox:
        yield sandbox


async def no_sleep(seconds: float) -> None:
    await anyio.lowlevel.checkpoint()


@pytest.fixture
def serve(sandbox: Sandbox) -> Serve:
    """One server's jobs on a ledger. Both are closed in order at the end."""

    @asynccontextmanager
    async def serve(ledger: SQLiteLedger) -> AsyncIterator[Jobs]:
        vendor = PixelDojo(sandbox.api_base, sandbox.key)
        account = partial(ledger.account, sandbox.api_base, sandbox.key)
        async with anyio.create_task_group() as tasks:
            with anyio.fail_after(600):
                yield Jobs(
                    vendor,
                    ledger,
                    account,
                    SharedRateLimiter(ledger.coordination, account, Clock(sleep=no_sleep)),
                    tasks,
                    Clock(sleep=no_sleep),
                )
            tasks.cancel_scope.cancel()
        await vendor.aclose()
        await ledger.aclose()

    return serve


@pytest.fixture
def wanted(sandbox: Sandbox) -> Replacement:
    return Replacement(video=sandbox.source_video_url, character_image=sandbox.image_url)


class BusyLedger(SQLiteLedger):
    """Another process locks the file for too long just when an answer is recorded."""

    failures = 2

    async def accept(self, record: Record, job: Job) -> Record:
        self._fail()
        return await super().accept(record, job)

    async def conclude(self, record: Record, state: State, why: str) -> Record:
        self._fail()
        return await super().conclude(record, state, why)

    def _fail(self) -> None:
        if self.failures:
            self.failures -= 1
            raise LedgerUnavailable("Another process locks the ledger for too long.")


def killed(*options: str) -> dict[str, int]:
    """The figures of a run of the harness, in which no promise was broken."""
    run = subprocess.run(
        [sys.executable, HARNESS, *options], capture_output=True, text=True, check=False
    )

    assert run.returncode in (0, 1), run.stderr
    figures: dict[str, int] = json.loads(run.stdout)
    assert [figures[name] for name in BROKEN_PROMISES] == [0] * len(BROKEN_PROMISES), figures
    return figures


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has neither fork nor SIGKILL")
@pytest.mark.parametrize("behaviour", FIRST_ROUNDS)
def test_a_kill_at_any_step_pays_nothing_twice_and_loses_no_job(behaviour: str) -> None:
    """A step is an event-loop step or an SQL statement of a submit (docs/promises.md)."""
    which = ["--behaviour", behaviour, "--round", str(FIRST_ROUNDS[behaviour])]
    figures = killed("--kills", str(KILLS), *which)
    # Some kills came before the first byte, and some after the charge.
    assert figures["kills"] >= KILLS
    assert figures["ended not_sent"] > 0
    # The job of a lost answer is found in the list; if there is none, the outcome is unknown.
    assert figures["ended accepted"] > 0
    assert "ended unknown" in figures or behaviour != "500"
    assert figures[f"charges, {behaviour}"] > 0
    assert (figures["parsed ids"] > 0) == (behaviour in ("fast", "slow"))


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has neither fork nor SIGKILL")
def test_a_kill_while_the_ledger_is_in_postgresql_pays_nothing_twice(database: str) -> None:
    """A message to the database is three steps; `--postgres --kills 10000` kills at every one."""
    some = ("--kills", "8", "--workers", "1", "--sparse", "4", "--round", "4")
    figures = killed("--postgres", database, "--behaviour", "fast", *some)

    assert figures["kills"] >= 8
    assert figures["ended not_sent"] > 0
    assert figures["ended accepted"] > 0


@dataclass
class StatesAtArrival:
    """A gate of the sandbox that reads the states in the ledger when a request arrives there."""

    file: Path
    states: list[str] | None = None

    async def wait(self) -> None:
        with closing(sqlite3.connect(self.file)) as ledger:
            self.states = [state for (state,) in ledger.execute("SELECT state FROM jobs")]


async def test_the_record_is_sending_when_the_first_header_arrives(
    sandbox: Sandbox, serve: Serve, wanted: Replacement, tmp_path: Path
) -> None:
    """If the server is killed after that, a charge is possible (promises 2)."""
    arrival = StatesAtArrival(tmp_path / FILE)
    headers_only = faults.reset(work=False, read_body=False)
    sandbox.fault("POST", RUN, faults.held(headers_only, before=arrival))

    async with serve(SQLiteLedger(tmp_path)) as jobs:
        with pytest.raises(OutcomeUnknown):
            await jobs.submit(wanted)

    assert arrival.states == ["sending"]


async def test_no_byte_leaves_when_the_commit_fails(wanted: Replacement) -> None:
    """Without a working ledger nothing is bought (promises 11)."""
    received: list[bytes] = []
    read_to_the_end = anyio.Event()

    async def listen(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        received.append(await reader.read())
        writer.close()
        read_to_the_end.set()

    async def full() -> None:
        raise LedgerUnavailable("The ledger cannot grow: the disk is full.")

    async with await asyncio.start_server(listen, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        vendor = PixelDojo(f"http://127.0.0.1:{port}", "pd_key")
        with anyio.fail_after(600), pytest.raises(LedgerUnavailable):
            await vendor.submit(wanted, before_sending=full)
        await vendor.aclose()
        with anyio.fail_after(600):
            await read_to_the_end.wait()

    assert received == [b""]


async def test_the_commit_before_sending_waits_for_the_disk(
    serve: Serve, wanted: Replacement, tmp_path: Path
) -> None:
    """`PRAGMA synchronous` is FULL (2) at every write (promises 2)."""
    connections: list[sqlite3.Connection] = []
    levels: list[int] = []

    def connect(path: Path) -> sqlite3.Connection:
        connections.append(connection.connect(path))
        return connections[0]

    def now() -> datetime:
        # The ledger calls this inside its transactions, in its thread.
        levels.extend(connections[0].execute("PRAGMA synchronous").fetchone())
        return datetime(2026, 1, 1, tzinfo=UTC)

    async with serve(SQLiteLedger(tmp_path, now=now, connect=connect)) as jobs:
        await jobs.submit(wanted)

    assert len(levels) >= 3  # intent, sending, accepted
    assert set(levels) == {2}


async def test_a_paid_request_leaves_a_line_in_the_log(
    serve: Serve, wanted: Replacement, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """At INFO and with both ids, so that what was bought can be traced (docs/settings.md)."""
    caplog.set_level("INFO", "wan_mcp.payments.in_progress")
    async with serve(SQLiteLedger(tmp_path)) as jobs:
        view = await jobs.submit(wanted)

    assert view.record is not None
    assert f"request {view.record.submission_id}: running, job {view.id}" in caplog.messages


async def test_every_paid_request_has_a_new_connection(
    sandbox: Sandbox, serve: Serve, wanted: Replacement, tmp_path: Path
) -> None:
    """With kept connections 249 of 1,500 outcomes were unknown (promises 5)."""
    async with serve(SQLiteLedger(tmp_path, limits=SpendingLimits(in_flight=None))) as jobs:
        for seed in range(3):
            await jobs.submit(wanted.model_copy(update={"seed": seed}))

    posts = [post.connection for post in sandbox.seen("POST", RUN)]
    reads = {read.connection for read in sandbox.seen("GET", "*")}
    assert len(set(posts) - reads) == 3


async def test_the_request_of_a_dead_server_is_never_sent_again(
    sandbox: Sandbox, serve: Serve, wanted: Replacement, tmp_path: Path
) -> None:
    """An equal call finds its job in PixelDojo's job list (promises 7)."""
    sandbox.fault("POST", RUN, faults.hung(work=True))
    dead = SQLiteLedger(tmp_path)
    async with serve(dead) as jobs:
        with anyio.CancelScope() as call:
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(jobs.submit, wanted)
                await sandbox.until(lambda: len(sandbox.charges) == 1)
                call.cancel()

    async with serve(SQLiteLedger(tmp_path)) as jobs:
        with pytest.raises(WanError) as failure:
            await jobs.submit(wanted)
        update = await jobs.check(failure.value.job_id or "")

    assert isinstance(failure.value, OutcomeUnknown)
    assert update.id == sandbox.charges[0].job_id
    assert len(sandbox.charges) == 1


@pytest.mark.parametrize(
    ("vendor", "state"),
    [(faults.honest(), State.ACCEPTED), (faults.dropped(work=True), State.UNKNOWN)],
    ids=["job id", "lost answer"],
)
async def test_an_outcome_is_recorded_when_the_ledger_is_free_again(
    sandbox: Sandbox,
    serve: Serve,
    wanted: Replacement,
    tmp_path: Path,
    vendor: Fault,
    state: State,
) -> None:
    """No job id is lost, and no record stays `sending` (promises 3)."""
    sandbox.fault("POST", RUN, vendor)

    ledger = BusyLedger(tmp_path)
    async with serve(ledger) as jobs:
        with suppress(OutcomeUnknown):
            await jobs.submit(wanted)
        (listed,) = await jobs.recent(None, 10)
        assert listed.record is not None
        record = await ledger.settled(listed.record.submission_id, 1)

    assert record.state is state
