"""How soon a call that waits at one server knows what another server has written."""

import asyncio
import random
import time
from contextlib import aclosing

from tests.ledger.stores import ME, NO_LIMITS, claimed, reported, wanted
from wan_mcp.clock import Clock
from wan_mcp.ledger.postgres.engine import PostgresLedger
from wan_mcp.polling.watchers import POLL_SECONDS, Watchers

_WAIT_SECONDS = 1e6


async def delays(url: str, changed_at: str, number: int, rounds: int) -> list[float]:
    """The seconds from the end of each change until a waiter has it.

    Args:
        url: the ledger as the waiter's server reaches it.
        changed_at: the same as the other server reaches it.
        number: of the request whose job is watched.
        rounds: how many changes.
    """
    one, other = PostgresLedger(url, limits=NO_LIMITS), PostgresLedger(changed_at, limits=NO_LIMITS)
    record = await claimed(other, wanted(number))
    await other.commit_sending(record)
    record = await other.accept(record, reported(job_id=f"news-{number}"))
    watchers, took = Watchers(one.coordination, Clock()), list[float]()
    running = asyncio.create_task(watchers.run())
    until = Clock().monotonic() + _WAIT_SECONDS
    async with aclosing(watchers.watch([record], until)) as updates:
        seen = asyncio.create_task(anext(updates))
        for turn in range(rounds):
            # At any moment between two looks at the ledger.
            await asyncio.sleep(POLL_SECONDS * (0.2 + random.random()))
            status = f"step {turn}"
            await other.record_update(ME, reported(job_id=record.job_id, vendor_status=status))
            began = time.perf_counter()
            while (await seen)[0].vendor_status != status:  # another update, or a sign of life
                seen = asyncio.create_task(anext(updates))
            took.append(time.perf_counter() - began)
            seen = asyncio.create_task(anext(updates))
        seen.cancel()
        await asyncio.wait([seen])
    running.cancel()
    await one.aclose()
    await other.aclose()
    return took
