"""What the ledger does, on SQLite: each method is one transaction, run by one thread."""

from datetime import datetime

from wan_mcp.ledger import spending_limits
from wan_mcp.ledger.contract import Claim, Fenced, Learnt
from wan_mcp.ledger.fingerprint import Request, account_name, request_of, without_queries
from wan_mcp.ledger.record import LIVE, REPEAT_WINDOW, UNSETTLED, Row, State
from wan_mcp.ledger.rows import Table, listed, told_columns
from wan_mcp.ledger.spending import Spending
from wan_mcp.ledger.spending_limits import Caps
from wan_mcp.ledger.sqlite.connection import transaction
from wan_mcp.ledger.sqlite.liveness import Owner
from wan_mcp.models import Job, JobStatus, Replacement

_ENDS = {JobStatus.COMPLETED: State.COMPLETED, JobStatus.FAILED: State.FAILED}
_ENDED = (State.COMPLETED, State.FAILED, State.LOST)
_CONCLUSIONS = (State.REFUSED, State.NOT_SENT, State.UNKNOWN, State.LOST)
_PLANTED = "(:planted IS NULL OR (seed_planted AND seed = :planted))"
"""An SQL condition: any seed, or the one that we planted."""


class Book:
    """The rows of all accounts, in the hands of one process.

    Args:
        owner: this process; None for a book that is only read.
    """

    def __init__(self, table: Table, owner: Owner | None) -> None:
        self._table = table
        self._owner = owner

    def account(self, api_base: str, api_key: str) -> str:
        secret = self._table.connection.execute("SELECT account_key FROM secret").fetchone()[0]
        return account_name(secret, api_base, api_key)

    def claim(
        self, account: str, wanted: Replacement, seed: int, estimate: float | None, allowed: Caps
    ) -> Claim:
        request = request_of(account, wanted)
        with transaction(self._table.connection):
            self._settle_the_dead()
            if found := self._equal(account, wanted, request):
                return found
            spending_limits.check(
                allowed, self._table.now(), estimate, Spending(self._table, account)
            )
            row = self._table.insert(
                account=account,
                state=State.INTENT,
                digest=request.digest,
                exact=request.exact,
                arguments=request.arguments,
                seed=str(seed if wanted.seed is None else wanted.seed),
                seed_planted=wanted.seed is None,
                estimate=estimate,
            )
            return Claim(row, mine=True)

    def equal(self, account: str, wanted: Replacement) -> Row | None:
        found = self._equal(account, wanted, request_of(account, wanted))
        return None if found is None else found.row

    def commit_sending(self, handle: str) -> None:
        with transaction(self._table.connection):
            self._table.move(handle, State.SENDING, {"sent_at": self._table.now()})

    def accept(self, handle: str, job: Job) -> Row:
        accepted = {"job_id": job.job_id, "accepted_at": self._table.now()}
        cleared = {"error": None, "next_check_at": None}
        with transaction(self._table.connection):
            self._refuse_anothers(handle, job)
            told = accepted | cleared | told_columns(job)
            self._table.move(handle, State.ACCEPTED, told)
            row = self._table.row(handle)
            return self._absorb(self._keep(row, job).row if job.ended else row)

    def conclude(self, handle: str, state: State, why: str) -> Row:
        if state not in _CONCLUSIONS:
            raise ValueError(f"a submit cannot be concluded as {state}")
        with transaction(self._table.connection):
            self._table.move(handle, state, self._conclusion(state, why))
            return self._table.row(handle)

    def learn(self, account: str, job: Job) -> Learnt:
        with transaction(self._table.connection):
            rows = self._by_id(account, job.job_id) or [self._foreign(account, job)]
            # More than one only if PixelDojo answered two submits with one id (never seen).
            learnt = [self._keep(row, job) for row in rows]
            return learnt[0]

    def record_check(
        self, handle: str, findings: str, next_at: datetime | None, counts: bool
    ) -> Row:
        with transaction(self._table.connection):
            row = self._table.row(handle)
            if row.state is not State.UNKNOWN:
                raise Fenced(f"The outcome of request {handle} is known: it is {row.state}.")
            when = {"checks": row.checks + counts, "next_check_at": next_at}
            return self._table.update(row, when | {"findings": without_queries(findings)})

    def recover(self) -> list[Row]:
        if not self._abandoned():  # then no lock is taken: reads work while another one writes
            return []
        with transaction(self._table.connection):
            return self._settle_the_dead()

    def row(self, handle: str) -> Row:
        """The row, after its owner's death has been noticed if it is still unsettled."""
        row = self._table.row(handle)
        return row if row.settled or not self.recover() else self._table.row(handle)

    def find(self, account: str, id: str) -> Row | None:
        if found := self._by_id(account, id):
            return found[0]
        handle = "account = :account AND handle = :handle"
        return next(iter(self._table.rows(handle, account=account, handle=id)), None)

    def recent(self, account: str, states: frozenset[State] | None, limit: int) -> list[Row]:
        others = (frozenset(State) if states is None else states) - LIVE
        return self._table.rows(
            f"account = :account AND (state IN {listed(LIVE)} OR number IN ("
            f"SELECT number FROM jobs WHERE account = :account AND state IN {listed(others)} "
            "ORDER BY created_at DESC, number DESC LIMIT :limit)"
            ") ORDER BY created_at DESC, number DESC",
            account=account,
            limit=limit,
        )

    def unknowns(self, account: str, due_at: datetime | None) -> list[Row]:
        due = "account = :account AND state = :unknown AND (:due IS NULL OR next_check_at <= :due)"
        return self._table.rows(
            f"{due} ORDER BY number", account=account, unknown=State.UNKNOWN, due=due_at
        )

    # From here on, what runs inside the transaction of one of the above.

    def _equal(self, account: str, wanted: Replacement, request: Request) -> Claim | None:
        """The equal request, or the one without a seed to which we gave the seed asked for now.

        We told the caller that seed: to spell it out asks for the same film.
        """
        asked: list[tuple[Request, str | None]] = [(request, None)]
        if wanted.seed is not None:
            seedless = wanted.model_copy(update={"seed": None})
            asked += [(request_of(account, seedless), str(wanted.seed))]
        for request, planted in asked:
            found = self._live(account, request.digest, planted)
            if found := found or self._just_ended(account, request.exact, planted):
                return Claim(found, mine=False, resigned=found.exact != request.exact)
        return None

    def _live(self, account: str, digest: str, planted: str | None) -> Row | None:
        equal = f"account = :account AND digest = :digest AND state IN {listed(LIVE)}"
        found = self._table.rows(
            f"{equal} AND {_PLANTED}", account=account, digest=digest, planted=planted
        )
        return found[0] if found else None

    def _just_ended(self, account: str, exact: str, planted: str | None) -> Row | None:
        equal = "account = :account AND exact = :exact AND state IN ('completed', 'lost')"
        # Bounded above too: a row dated by a clock that was wrong once must not answer for years.
        ended = "ended_at > :since AND ended_at <= :until"
        found = self._table.rows(
            f"{equal} AND {_PLANTED} AND {ended} ORDER BY ended_at DESC LIMIT 1",
            account=account,
            exact=exact,
            planted=planted,
            since=self._table.now() - REPEAT_WINDOW,
            until=self._table.now() + REPEAT_WINDOW,
        )
        return found[0] if found else None

    def _refuse_anothers(self, handle: str, job: Job) -> None:
        """A lost answer is not settled with the job of another request: that hides a second one.

        Only there: the answer to a submit carries an id that was paid for, and must be kept.
        """
        taken = self._table.query(
            "SELECT 1 FROM jobs AS mine JOIN jobs AS other USING (account) WHERE "
            "mine.handle = :handle AND mine.state = 'unknown' AND other.job_id = :job_id "
            "AND other.digest IS NOT NULL",
            handle=handle,
            job_id=job.job_id,
        )
        if taken:
            raise Fenced(f"Job {job.job_id} belongs to another request than {handle}.")

    def _by_id(self, account: str, job_id: str) -> list[Row]:
        same = "account = :account AND job_id = :job_id ORDER BY digest IS NULL, number"
        return self._table.rows(same, account=account, job_id=job_id)

    def _foreign(self, account: str, job: Job) -> Row:
        now = self._table.now()
        return self._table.insert(
            account=account, state=State.ACCEPTED, job_id=job.job_id, accepted_at=now
        )

    def _keep(self, row: Row, job: Job) -> Learnt:
        """Write what was told, unless the row's end contradicts it."""
        end = _ENDS.get(job.status)
        revived = row.state is State.LOST and end is not None
        if row.state in _ENDED and row.state is not end and not revived:
            return Learnt(row, ignored=True)
        now = self._table.now()
        changes = told_columns(job) | {
            "looked_at": now,
            "heard_at": now,
            "trouble": None,
            "trouble_code": None,
        }
        if end is not None and row.state is not end:
            changes |= {"state": end, "ended_at": now}
        return Learnt(self._table.update(row, changes))

    def _absorb(self, row: Row) -> Row:
        """Take over the row that a read of the same job made before its submit was answered."""
        same = "account = :account AND job_id = :job_id AND digest IS NULL"
        for other in self._table.rows(same, account=row.account, job_id=row.job_id):
            if other.job is not None and other.job.ended:
                row = self._keep(row, other.job).row
            self._table.delete(other)
        return row

    def _settle_the_dead(self) -> list[Row]:
        return [self._table.update(row, self._last_will(row)) for row in self._abandoned()]

    def _last_will(self, row: Row) -> dict[str, object]:
        if row.state is State.INTENT:
            why = "The server that was to send it ended before it began to send."
            return {"state": State.NOT_SENT} | self._conclusion(State.NOT_SENT, why)
        why = "The server that sent it ended before the answer came."
        return {"state": State.UNKNOWN} | self._conclusion(State.UNKNOWN, why)

    def _conclusion(self, state: State, why: str) -> dict[str, object]:
        now = self._table.now()
        unknown = state is State.UNKNOWN
        return {
            "error": without_queries(why),
            "ended_at": None if unknown else now,
            "next_check_at": now if unknown else None,
        }

    def _abandoned(self) -> list[Row]:
        """Rows that a dead process left half-way."""
        if self._owner is None:
            return []
        unsettled = f"state IN {listed(UNSETTLED)} ORDER BY owner, number"
        rows = self._table.rows(unsettled)
        dead = {name for name in {row.owner for row in rows} if self._owner.dead(name)}
        return [row for row in rows if row.owner in dead]
