"""What the ledger does, on SQLite: each method is one transaction, run by one thread."""

import hmac
from datetime import datetime

from wan_mcp.ledger import spending_limits
from wan_mcp.ledger.contract import Claim, Fenced, Recorded
from wan_mcp.ledger.fingerprint import Request, account_name, fingerprint_of, without_queries
from wan_mcp.ledger.record import LIVE, REPEAT_WINDOW, UNSETTLED, Record, State
from wan_mcp.ledger.rows import Rows, listed, told_columns
from wan_mcp.ledger.spending import Spending
from wan_mcp.ledger.spending_limits import SpendingLimits
from wan_mcp.ledger.sqlite.connection import transaction
from wan_mcp.ledger.sqlite.liveness import ProcessLock
from wan_mcp.models import Job, JobStatus, Replacement

_ENDS = {JobStatus.COMPLETED: State.COMPLETED, JobStatus.FAILED: State.FAILED}
_ENDED = (State.COMPLETED, State.FAILED, State.LOST)
_CONCLUSIONS = (State.REFUSED, State.NOT_SENT, State.UNKNOWN, State.LOST)
_PLANTED = "(:generated IS NULL OR (seed_planted AND seed = :generated))"
"""An SQL condition: any seed, or the one that we planted."""


class Transactions:
    """The rows of all accounts, in the hands of one process.

    Args:
        owner: this process; None for a book that is only read.
    """

    def __init__(self, rows: Rows, owner: ProcessLock | None) -> None:
        self._rows = rows
        self._owner = owner

    def account(self, api_base: str, api_key: str) -> str:
        return account_name(self._account_key(), api_base, api_key)

    def secret(self, purpose: str) -> bytes:
        return hmac.digest(self._account_key(), purpose.encode(), "sha256")

    def claim(
        self,
        account: str,
        wanted: Replacement,
        seed: int,
        estimate: float | None,
        allowed: SpendingLimits,
    ) -> Claim:
        request = fingerprint_of(account, wanted)
        with transaction(self._rows.connection):
            self._recover_abandoned()
            if found := self._equal(account, wanted, request):
                return found
            spending_limits.check(
                allowed, self._rows.now(), estimate, Spending(self._rows, account)
            )
            record = self._rows.insert(
                account=account,
                state=State.INTENT,
                dedupe_key=request.dedupe_key,
                exact_key=request.exact_key,
                arguments=request.arguments,
                seed=str(seed if wanted.seed is None else wanted.seed),
                seed_generated=wanted.seed is None,
                estimate=estimate,
            )
            return Claim(record, created=True)

    def equal(self, account: str, wanted: Replacement) -> Record | None:
        found = self._equal(account, wanted, fingerprint_of(account, wanted))
        return None if found is None else found.record

    def commit_sending(self, submission_id: str) -> None:
        with transaction(self._rows.connection):
            self._rows.move(submission_id, State.SENDING, {"sent_at": self._rows.now()})

    def accept(self, submission_id: str, job: Job) -> Record:
        accepted = {"job_id": job.job_id, "accepted_at": self._rows.now()}
        cleared = {"error": None, "next_check_at": None}
        with transaction(self._rows.connection):
            self._refuse_anothers(submission_id, job)
            told = accepted | cleared | told_columns(job)
            self._rows.move(submission_id, State.ACCEPTED, told)
            record = self._rows.record(submission_id)
            return self._absorb(self._keep(record, job).record if job.ended else record)

    def conclude(self, submission_id: str, state: State, why: str) -> Record:
        if state not in _CONCLUSIONS:
            raise ValueError(f"a submit cannot be concluded as {state}")
        with transaction(self._rows.connection):
            self._rows.move(submission_id, state, self._conclusion(state, why))
            return self._rows.record(submission_id)

    def record_update(self, account: str, job: Job) -> Recorded:
        with transaction(self._rows.connection):
            records = self._by_id(account, job.job_id) or [self._foreign(account, job)]
            # More than one only if PixelDojo answered two submits with one id (never seen).
            learnt = [self._keep(record, job) for record in records]
            return learnt[0]

    def record_check(
        self, submission_id: str, findings: str, next_at: datetime | None, counts: bool
    ) -> Record:
        with transaction(self._rows.connection):
            record = self._rows.record(submission_id)
            if record.state is not State.UNKNOWN:
                raise Fenced(
                    f"The outcome of request {submission_id} is known: it is {record.state}."
                )
            when = {"checks": record.checks + counts, "next_check_at": next_at}
            return self._rows.update(record, when | {"findings": without_queries(findings)})

    def recover(self) -> list[Record]:
        if not self._abandoned():  # then no lock is taken: reads work while another one writes
            return []
        with transaction(self._rows.connection):
            return self._recover_abandoned()

    def record(self, submission_id: str) -> Record:
        """The row, after its owner's death has been noticed if it is still unsettled."""
        record = self._rows.record(submission_id)
        return record if record.settled or not self.recover() else self._rows.record(submission_id)

    def find(self, account: str, id: str) -> Record | None:
        if found := self._by_id(account, id):
            return found[0]
        submission_id = "account = :account AND handle = :submission_id"
        return next(
            iter(self._rows.records(submission_id, account=account, submission_id=id)), None
        )

    def recent(self, account: str, states: frozenset[State] | None, limit: int) -> list[Record]:
        others = (frozenset(State) if states is None else states) - LIVE
        return self._rows.records(
            f"account = :account AND (state IN {listed(LIVE)} OR number IN ("
            f"SELECT number FROM jobs WHERE account = :account AND state IN {listed(others)} "
            "ORDER BY created_at DESC, number DESC LIMIT :limit)"
            ") ORDER BY created_at DESC, number DESC",
            account=account,
            limit=limit,
        )

    def unknowns(self, account: str, due_at: datetime | None) -> list[Record]:
        due = "account = :account AND state = :unknown AND (:due IS NULL OR next_check_at <= :due)"
        return self._rows.records(
            f"{due} ORDER BY number", account=account, unknown=State.UNKNOWN, due=due_at
        )

    # From here on, what runs inside the transaction of one of the above.

    def _account_key(self) -> bytes:
        return bytes(self._rows.query("SELECT account_key FROM secret")[0][0])

    def _equal(self, account: str, wanted: Replacement, request: Request) -> Claim | None:
        """The equal request, or the one without a seed to which we gave the seed asked for now.

        We told the caller that seed: to spell it out asks for the same film.
        """
        asked: list[tuple[Request, str | None]] = [(request, None)]
        if wanted.seed is not None:
            seedless = wanted.model_copy(update={"seed": None})
            asked += [(fingerprint_of(account, seedless), str(wanted.seed))]
        for request, generated in asked:
            found = self._live(account, request.dedupe_key, generated)
            if found := found or self._just_ended(account, request.exact_key, generated):
                return Claim(
                    found, created=False, query_differs=found.exact_key != request.exact_key
                )
        return None

    def _live(self, account: str, dedupe_key: str, generated: str | None) -> Record | None:
        equal = f"account = :account AND digest = :dedupe_key AND state IN {listed(LIVE)}"
        found = self._rows.records(
            f"{equal} AND {_PLANTED}", account=account, dedupe_key=dedupe_key, generated=generated
        )
        return found[0] if found else None

    def _just_ended(self, account: str, exact_key: str, generated: str | None) -> Record | None:
        equal = "account = :account AND exact = :exact_key AND state IN ('completed', 'lost')"
        # Bounded above too: a row dated by a clock that was wrong once must not answer for years.
        ended = "ended_at > :since AND ended_at <= :until"
        found = self._rows.records(
            f"{equal} AND {_PLANTED} AND {ended} ORDER BY ended_at DESC LIMIT 1",
            account=account,
            exact_key=exact_key,
            generated=generated,
            since=self._rows.now() - REPEAT_WINDOW,
            until=self._rows.now() + REPEAT_WINDOW,
        )
        return found[0] if found else None

    def _refuse_anothers(self, submission_id: str, job: Job) -> None:
        """A lost answer is not settled with the job of another request: that hides a second one.

        Only there: the answer to a submit carries an id that was paid for, and must be kept.
        """
        taken = self._rows.query(
            "SELECT 1 FROM jobs AS mine JOIN jobs AS other USING (account) WHERE "
            "mine.handle = :submission_id AND mine.state = 'unknown' AND other.job_id = :job_id "
            "AND other.digest IS NOT NULL",
            submission_id=submission_id,
            job_id=job.job_id,
        )
        if taken:
            raise Fenced(f"Job {job.job_id} belongs to another request than {submission_id}.")

    def _by_id(self, account: str, job_id: str) -> list[Record]:
        same = "account = :account AND job_id = :job_id ORDER BY digest IS NULL, number"
        return self._rows.records(same, account=account, job_id=job_id)

    def _foreign(self, account: str, job: Job) -> Record:
        now = self._rows.now()
        return self._rows.insert(
            account=account, state=State.ACCEPTED, job_id=job.job_id, accepted_at=now
        )

    def _keep(self, record: Record, job: Job) -> Recorded:
        """Write what was told, unless the row's end contradicts it."""
        end = _ENDS.get(job.status)
        revived = record.state is State.LOST and end is not None
        if record.state in _ENDED and record.state is not end and not revived:
            return Recorded(record, ignored=True)
        now = self._rows.now()
        changes = told_columns(job) | {
            "looked_at": now,
            "heard_at": now,
            "trouble": None,
            "trouble_code": None,
        }
        if end is not None and record.state is not end:
            changes |= {"state": end, "ended_at": now}
        return Recorded(self._rows.update(record, changes))

    def _absorb(self, record: Record) -> Record:
        """Take over the row that a read of the same job made before its submit was answered."""
        same = "account = :account AND job_id = :job_id AND digest IS NULL"
        for other in self._rows.records(same, account=record.account, job_id=record.job_id):
            if other.job is not None and other.job.ended:
                record = self._keep(record, other.job).record
            self._rows.delete(other)
        return record

    def _recover_abandoned(self) -> list[Record]:
        return [
            self._rows.update(record, self._abandoned_outcome(record))
            for record in self._abandoned()
        ]

    def _abandoned_outcome(self, record: Record) -> dict[str, object]:
        if record.state is State.INTENT:
            why = "The server that was to send it ended before it began to send."
            return {"state": State.NOT_SENT} | self._conclusion(State.NOT_SENT, why)
        why = "The server that sent it ended before the answer came."
        return {"state": State.UNKNOWN} | self._conclusion(State.UNKNOWN, why)

    def _conclusion(self, state: State, why: str) -> dict[str, object]:
        now = self._rows.now()
        unknown = state is State.UNKNOWN
        return {
            "error": without_queries(why),
            "ended_at": None if unknown else now,
            "next_check_at": now if unknown else None,
        }

    def _abandoned(self) -> list[Record]:
        """Rows that a dead process left half-way."""
        if self._owner is None:
            return []
        unsettled = f"state IN {listed(UNSETTLED)} ORDER BY owner, number"
        records = self._rows.records(unsettled)
        dead = {name for name in {record.owner for record in records} if self._owner.dead(name)}
        return [record for record in records if record.owner in dead]
