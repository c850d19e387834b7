"""How long jobs usually take, from the ledger's completed jobs."""

import pytest

from tests.ledger import stores
from tests.ledger.stores import ME, START, VIDEO_URL, Store, record_in, reported, wanted
from wan_mcp.clock import Clock
from wan_mcp.ledger.contract import Ledger
from wan_mcp.ledger.record import State
from wan_mcp.models import JobStatus
from wan_mcp.polling.durations import TypicalDuration

pytestmark = pytest.mark.anyio

store, ledger = stores.store, stores.ledger


async def account() -> str:
    return ME


async def finish(store: Store, ledger: Ledger, number: int, seconds: float) -> None:
    """A job that is completed after so many seconds."""
    record = await record_in(ledger, State.ACCEPTED, wanted(number))
    store.later(seconds)
    await ledger.record_update(
        ME, reported(JobStatus.COMPLETED, job_id=record.job_id, video_url=VIDEO_URL)
    )


@pytest.mark.parametrize(
    ("took", "expected"), [([], None), ([9, 5], None), ([9, 5, 70], 9), ([9, 5, 70, 11], 10)]
)
async def test_the_typical_duration_is_the_median_of_three_jobs_or_more(
    store: Store, ledger: Ledger, took: list[float], expected: float | None
) -> None:
    """Fewer jobs say nothing. The figure is kept for a minute."""

    def monotonic() -> float:
        return (store.now - START).total_seconds()

    typical = TypicalDuration(ledger.coordination, account, Clock(monotonic=monotonic))
    for number, seconds in enumerate(took):
        await finish(store, ledger, number, seconds)
    first = await typical.seconds()
    await finish(store, ledger, 10, 0.001)
    soon = await typical.seconds()
    await store.end(ledger)
    store.later(60)

    assert (first, soon) == (expected, expected)
    assert await typical.seconds() is None
