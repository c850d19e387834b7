"""A flood of invented tokens at a server of a team, and somebody who works there meanwhile.

Run it by hand, from the root of the project (some minutes)::

    python -m tests.bench.token_flood [tokens]

The server is `wan-mcp http` in a process of its own, with sign-in and the ledger in a PostgreSQL
that is started for this. Another process sends 100,000 different tokens on 1,200 connections; each
has the form of a real one, so the server has to look for it in the database. Five users who have
called before go on calling, each with a short rest after each answer. The same calls before the
flood are the floor of their time. If one of them is not answered, or the
server lets an invented token in, the exit code is 1.
"""

import asyncio
import json
import sys
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from contextlib import AsyncExitStack, ExitStack, suppress
from itertools import count, islice
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from time import monotonic
from urllib.parse import urlsplit

from tests.bench.crowd import TERMS, p99
from tests.bench.database import own_server
from tests.bench.team_crowd import serving
from tests.bench.waiting import Report
from tests.crash.vendor import FORK
from tests.replicas.caller import REVISION, Caller, Cut
from wan_mcp.sandbox import Sandbox
from wan_mcp.tenants.tokens import new_token

TOKENS, CONNECTIONS = 100_000, 1_200
USERS_AT_WORK, LEAST_CALLS, PAUSE_SECONDS = 5, 10, 0.1
REFUSED = {401, 503}
"""Unknown, or: ask again later, too many are being looked for."""

_BODY = json.dumps({"jsonrpc": "2.0", "id": 1, "method": "tools/list"}).encode()


def flood(url: str, tokens: int) -> Counter[int]:
    """Send so many tokens, each once, as fast as they are refused. Returns the answers' statuses.

    A connection that is not answered counts as 0.
    """
    return asyncio.run(_flood(url, tokens))


async def _flood(url: str, many: int) -> Counter[int]:
    tokens, statuses = (new_token().text for _ in range(many)), Counter[int]()
    async with asyncio.TaskGroup() as connections:
        for _ in range(CONNECTIONS):
            connections.create_task(_send(url, tokens, statuses))
    return statuses


async def _send(url: str, tokens: Iterator[str], statuses: Counter[int]) -> None:
    """Send the next tokens on one connection, as long as there are any and it is answered."""
    port = urlsplit(url).port
    while some := list(islice(tokens, 1)):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        try:
            while some:
                writer.write(_request(some[0], f"127.0.0.1:{port}"))
                statuses[await _status(reader)] += 1
                some = list(islice(tokens, 1))
        except (OSError, EOFError):
            statuses[0] += 1
        finally:
            writer.close()
            with suppress(OSError):
                await writer.wait_closed()


def _request(token: str, host: str) -> bytes:
    headers = {
        "host": host,
        "authorization": f"Bearer {token}",
        "accept": "application/json, text/event-stream",
        "content-type": "application/json",
        "content-length": str(len(_BODY)),
        "mcp-protocol-version": REVISION,
        "mcp-method": "tools/list",
    }
    lines = ["POST /mcp HTTP/1.1", *(f"{name}: {value}" for name, value in headers.items())]
    return "\r\n".join([*lines, "", ""]).encode() + _BODY


async def _status(reader: asyncio.StreamReader) -> int:
    """The status of the next answer, which is read to its end."""
    first, *lines = (await reader.readuntil(b"\r\n\r\n")).decode().splitlines()
    headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in lines)}
    await reader.readexactly(int(headers.get("content-length", "0")))
    return int(first.split()[1])


class Calls:
    """The calls of users whom the server knows.

    Attributes:
        took: the seconds of each call that was answered.
        failed: why calls were not, and how many.
    """

    def __init__(self) -> None:
        self.took: list[float] = []
        self.failed = Counter[str]()

    async def work(self, callers: Sequence[Caller], is_over: Callable[[], bool]) -> None:
        """Let each of them call and rest in turn until it is over, and at least ten times."""
        async with asyncio.TaskGroup() as working:
            for caller in callers:
                working.create_task(self._work(caller, is_over))

    async def _work(self, caller: Caller, is_over: Callable[[], bool]) -> None:
        for number in count():
            if number >= LEAST_CALLS and is_over():
                return
            began = monotonic()
            try:
                await caller.call("list_jobs")
                self.took.append(monotonic() - began)
            except (Cut, AssertionError) as failure:  # no answer, or an error for an answer
                self.failed[f"{failure}"[:100]] += 1
            await asyncio.sleep(PAUSE_SECONDS)


async def measure(report: Report, opened: ExitStack, tokens: int) -> None:
    """Measure with a server of a new team."""
    database = opened.enter_context(own_server())
    folder = Path(opened.enter_context(TemporaryDirectory()))
    attacker = opened.enter_context(ProcessPoolExecutor(1, FORK))
    before, during = Calls(), Calls()
    async with Sandbox(TERMS) as sandbox, AsyncExitStack() as stack:
        settings = {"PIXELDOJO_API_BASE": sandbox.api_base}
        server, people = opened.enter_context(serving(database, settings, folder))
        callers = [
            await stack.enter_async_context(Caller(server.url, headers=person.headers))
            for person in people[:USERS_AT_WORK]
        ]
        await before.work(callers, lambda: True)
        began = monotonic()
        ended: Future[Counter[int]] = attacker.submit(flood, server.url, tokens)
        await during.work(callers, ended.done)
        lasted = monotonic() - began
    statuses = ended.result()
    strange = sum(statuses[status] for status in statuses.keys() - REFUSED)
    said = ", ".join(f"{status}: {times:,}" for status, times in sorted(statuses.items()))
    report.line("invented tokens", statuses.total(), note=f"{lasted:.0f} s; answers {said}")
    report.line("of these not refused as they have to be", strange, 0)
    for when, calls in (("before", before), ("meanwhile", during)):
        unanswered = calls.failed.total()
        made = len(calls.took) + unanswered
        share, note = 100 * len(calls.took) / made, f"of {made}"
        report.line(f"calls of known users {when}, answered [%]", share, note=note)
        report.line("  not answered", unanswered, 0, note=_reasons(calls.failed))
        if len(calls.took) > 1:
            report.line("  median [ms]", median(calls.took) * 1e3)
            report.line("  p99 [ms]", p99(calls.took) * 1e3)


def _reasons(failed: Counter[str]) -> str:
    return "; ".join(f"{times} of: {why}" for why, times in failed.most_common(3))


def main() -> int:
    """Measure and print. Returns 0 if no target is missed."""
    report, tokens = Report(), int([*sys.argv, str(TOKENS)][1])
    with ExitStack() as opened:
        asyncio.run(measure(report, opened, tokens))
    return 1 if report.missed else 0


if __name__ == "__main__":
    sys.exit(main())
