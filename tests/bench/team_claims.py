"""The claims of a team, as `WAN_MCP_SIGN_IN` makes them: four limits each, on a shared wallet."""

from datetime import UTC, datetime, timedelta

from tests.ledger.stores import NO_LIMITS, reported, wanted
from wan_mcp.app.quotas import quotas_of
from wan_mcp.ledger.contract import Claim, Ledger
from wan_mcp.ledger.postgres.engine import PostgresLedger
from wan_mcp.ledger.spending_limits import SpendingLimits
from wan_mcp.ledger.wallets.workspace import Workspace
from wan_mcp.models import JobStatus
from wan_mcp.tenants.limits import Kind, Limits
from wan_mcp.tenants.seat import Seat, workspace_of

USERS = 10
OLDER_JOBS = 300
"""Of the day before, of all users together."""
STEP = timedelta(seconds=30)
"""From one submit to the next: every claim reads those of the last minute."""
PRICE = 2.0

_WALLET = "shared wallet"
_HIGH = Limits(100.0, 1e6, 1000, 1000)
_OPERATOR = SpendingLimits(*_HIGH, queued=20)
_OF_TEAM = frozenset(workspace_of(f"user {n}", _WALLET) for n in range(USERS))


class PacedClock:
    """Time in which the requests of a team are as far apart as in life."""

    def __init__(self, now: datetime) -> None:
        self._now = now

    def __call__(self) -> datetime:
        return self._now

    def step(self, by: timedelta = STEP) -> None:
        """Let time pass."""
        self._now += by


def workspace(number: int) -> Workspace:
    """That of the user whose turn it is."""
    return Workspace(workspace_of(f"user {number % USERS}", _WALLET), _WALLET)


async def claim(ledger: Ledger, number: int) -> Claim:
    """The claim of a request, which all four limits allow."""
    own = workspace(number)
    seat = Seat(
        *(own.name, own.wallet, f"user {number % USERS}", "team", "Blue", "", ""),
        limits=dict.fromkeys(Kind, _HIGH),
        of_user=frozenset({own.name}),
        of_team=_OF_TEAM,
        as_of=0,
    )
    quotas = quotas_of(seat, _OPERATOR)
    assert len(quotas) == 4
    return await ledger.claim(own, wanted(number), generated_seed=7, estimate=PRICE, quotas=quotas)


async def submit(ledger: Ledger, number: int) -> None:
    """The three transactions of one request."""
    record = (await claim(ledger, number)).record
    await ledger.commit_sending(record)
    await ledger.accept(record, reported(job_id=f"team-{number}", credit_cost=PRICE))


async def end(ledger: Ledger, number: int) -> None:
    """Record that the job of that request has ended."""
    done = {"job_id": f"team-{number}", "video_url": "https://a.example/"}
    await ledger.record_update(workspace(number), reported(JobStatus.COMPLETED, **done))


async def add_older_jobs(url: str, first: int) -> None:
    """Let the team have bought jobs in the 22 hours before the last one.

    Args:
        first: the number of the first of them.
    """
    clock = PacedClock(datetime.now(UTC) - timedelta(hours=23))
    ledger = PostgresLedger(url, limits=NO_LIMITS, now=clock)
    for number in range(first, first + OLDER_JOBS):
        await submit(ledger, number)
        await end(ledger, number)
        clock.step(timedelta(hours=22) / OLDER_JOBS)
    await ledger.aclose()
