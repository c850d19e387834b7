"""What the ledger does, on every engine. Each method is one transaction and runs in one thread.

The methods are documented in `contract.Ledger`.
"""

import hmac
from collections.abc import Callable, Iterator
from contextlib import suppress
from datetime import datetime

from wan_mcp.ledger import rules
from wan_mcp.ledger import statements as sql
from wan_mcp.ledger.abandoned import AbandonedRequests
from wan_mcp.ledger.contract import Claim, Fenced, LedgerChanged, Page, Recorded, VideoPolicy
from wan_mcp.ledger.equal_requests import EqualRequests
from wan_mcp.ledger.expected_price import AccountCredits, Charge, expected_price
from wan_mcp.ledger.fingerprint import account_name
from wan_mcp.ledger.limit_use import usage
from wan_mcp.ledger.queueing.order import Order
from wan_mcp.ledger.queueing.rules import must_wait, queued
from wan_mcp.ledger.record import (
    LIVE,
    WITHDRAWN,
    ListReading,
    Record,
    SentInputs,
    State,
    intent,
    new_submission_id,
)
from wan_mcp.ledger.rows import Rows, Spending, read
from wan_mcp.ledger.session import Read, Session
from wan_mcp.ledger.spending_limits import LimitReached, SpendingLimits
from wan_mcp.models import Cursor, Job, Replacement, SourceClip

_KEPT = (
    "This job is paid for. It is kept in a file beside the ledger, and is listed again when the "
    "ledger is back; keep its job_id too."
)


class Transactions:
    """The paid requests of all accounts, as one process uses them."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self._rows = Rows(session)
        self._equal_requests = EqualRequests(self._rows)
        self._abandoned = AbandonedRequests(session, self._rows)
        self._sending: dict[str, Record] = {}  # those of this process, as they were written

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
        limits: SpendingLimits,
        videos: VideoPolicy | None,
        source: SourceClip | None = None,
    ) -> Claim:
        lookups = rules.lookups(account, wanted)
        try:
            return self._claim(
                account, wanted, lookups, seed, estimate, limits, videos, source or SourceClip()
            )
        except LedgerChanged as changed:
            # To return a job that exists already costs nothing, and the caller can go on with it.
            try:
                found = self._equal_requests.find(account, lookups, self._session.now())
            except Exception:
                raise changed from None  # the reason why it cannot be read
            if found is None or not found.record.settled:
                raise
            return found

    def _claim(
        self,
        account: str,
        wanted: Replacement,
        lookups: rules.Lookups,
        seed: int,
        estimate: float | None,
        limits: SpendingLimits,
        videos: VideoPolicy | None,
        source: SourceClip,
    ) -> Claim:
        with self._session.transaction(account):
            now = self._session.now()
            spending = Spending(self._rows, account, now)
            self._session.ahead(self._what_a_claim_asks(account, lookups, limits, spending, now))
            self._abandoned.settle(account, now)
            if found := self._equal_requests.find(account, lookups, now):
                self._join(found.record)
                return found
            self._session.before_payment()
            price = expected_price(estimate, wanted, self.charges(account))
            waits = must_wait(limits, now, price.credits, spending, price.why)
            new = intent(
                account, wanted, lookups[0][0], seed, price.credits, source, now, self._session.me
            )
            if videos is not None:
                decided = {"video_folder": videos.folder, "video_limit_gb": videos.limit_gb}
                new = new.model_copy(update=decided)
            record = queued(new, Order(wanted=wanted, agreed=limits.agreed)) if waits else new
            return Claim(self._rows.insert(record), created=True)

    def _what_a_claim_asks(
        self,
        account: str,
        lookups: rules.Lookups,
        limits: SpendingLimits,
        spending: Spending,
        now: datetime,
    ) -> Iterator[Read]:
        yield self._abandoned.read(account, now)
        yield self._equal_requests.read(account, lookups, now)
        yield from spending.reads(limits)

    def equal(self, account: str, wanted: Replacement) -> Record | None:
        now = self._session.now()
        found = self._equal_requests.find(account, rules.lookups(account, wanted), now)
        return None if found is None else found.record

    def commit_sending(self, record: Record, sent: SentInputs | None = None) -> None:
        try:
            with self._session.transaction(record.account):
                claimed = self._fenced(record, State.SENDING)
                # It is not read again: a record that has changed since its claim cannot be saved.
                now = self._session.now()
                sending = self._rows.save(claimed, rules.sending(claimed, now, sent))
        except Fenced:
            self._known(record, State.SENDING)  # raises the true reason
            raise
        self._sending[record.submission_id] = sending
        # After the commit: what happens to the store from now on happens to a request on its way.
        self._session.commit_point(record.submission_id)

    def join(self, record: Record) -> None:
        with self._session.transaction(record.account):
            self._join(record)

    def withdraw(self, record: Record) -> Record:
        asked = read(sql.records.JOB, submission_id=record.submission_id)
        joined = read(sql.coordination.KEY, account=rules.joined_name(record.submission_id))
        with self._session.transaction(record.account, ahead=[asked, joined]):
            known = self._known(record, State.NOT_SENT)
            if known.state is not State.INTENT or self._rows.values_of(joined):
                raise Fenced(f"Request {known.submission_id} was sent, or others wait for it.")
            now = self._session.now()
            return self._rows.save(known, rules.concluded(known, State.NOT_SENT, WITHDRAWN, now))

    def accept(self, record: Record, job: Job) -> Record:
        try:
            accepted = self._accept(record, job)
        except Exception:
            kept, changed = self._session.keep(record, job), self._session.change()
            if not kept or changed is None:
                raise  # the payment tries again, and what is kept survives the end of the process
            accepted = rules.accepted(record, job, self._session.now())
        else:
            changed = self._session.change()
            kept = changed is not None and self._session.keep(record, job)
        if not kept or changed is None:
            return accepted
        note = " ".join(filter(None, [job.note, changed.happened, _KEPT]))
        return accepted.model_copy(update={"note": note})

    def take_in_kept(self) -> None:
        """Write the paid jobs to the store that were kept outside of it."""
        for kept in self._session.kept():
            known = self._by_job_id(kept.record.account, kept.job.job_id)
            if all(each.from_elsewhere for each in known):
                self._accept(kept.record, kept.job)
            kept.forget()

    def _accept(self, record: Record, job: Job) -> Record:
        read_elsewhere = read(sql.records.FROM_ELSEWHERE, account=record.account, job_id=job.job_id)
        if sending := self._sending.pop(record.submission_id, None):
            # It is read only if it has changed meanwhile, and cannot be saved.
            with (
                suppress(Fenced),
                self._session.transaction(record.account, ahead=[read_elsewhere]),
            ):
                accepted = self._accepted(sending, job, sending.state)
                return self._rows.save(sending, self._absorbed(accepted))
        with self._session.transaction(record.account, ahead=[read_elsewhere]):
            known = self._rows.first(sql.records.JOB, submission_id=record.submission_id)
            if known is None:
                return self._rows.insert(self._absorbed(self._accepted(record, job)))
            if known.job_id in (None, job.job_id):
                accepted = self._accepted(known, job, known.state)
                return self._rows.save(known, self._absorbed(accepted))
            # In the meantime the reconciler recorded another job for this request. The job in the
            # answer is paid for too, so it gets a record of its own, unless it has one already.
            for listed in self._by_job_id(record.account, job.job_id):
                if not listed.from_elsewhere:
                    return self._updated(listed, job).record
            other = record.model_copy(update={"submission_id": new_submission_id()})
            return self._rows.insert(self._absorbed(self._accepted(other, job)))

    def match(self, record: Record, job: Job) -> Record:
        with self._session.transaction(record.account):
            known = self._known(record, State.ACCEPTED)
            taken = self._rows.values(
                sql.records.JOB_ID_OF_ANOTHER,
                account=record.account,
                job_id=job.job_id,
                submission_id=record.submission_id,
            )
            if taken:
                raise Fenced(
                    f"Job {job.job_id} belongs to another request than {record.submission_id}."
                )
            accepted = rules.accepted(known, job, self._session.now())
            return self._rows.save(known, self._absorbed(accepted))

    def conclude(self, record: Record, state: State, why: str) -> Record:
        if state not in rules.CONCLUSIONS:
            raise ValueError(f"a submit cannot be concluded as {state}")
        self._sending.pop(record.submission_id, None)
        return self._move(
            record, state, lambda known: rules.concluded(known, state, why, self._session.now())
        )

    def record_update(self, account: str, job: Job) -> Recorded:
        with self._session.transaction(account):
            # More than one only if PixelDojo answered two submits with one id (never seen).
            records = self._by_job_id(account, job.job_id) or [self._foreign(account, job)]
            recorded = [self._updated(record, job) for record in records]
            return recorded[0]

    def record_check(
        self, record: Record, findings: str, next_in: float | None, reading: ListReading
    ) -> Record:
        with self._session.transaction(record.account):
            known = self._rows.record(record.submission_id)
            if known.state is not State.UNKNOWN:
                raise Fenced(
                    f"The outcome of request {known.submission_id} is known: it is {known.state}."
                )
            now = self._session.now()
            return self._rows.save(known, rules.checked(known, findings, next_in, now, reading))

    def recover(self) -> list[Record]:
        # Searched without a lock, so that reads work while others write.
        settled: list[Record] = []
        for account in self._abandoned.accounts(self._session.now()):
            with self._session.transaction(account):
                settled += self._abandoned.settle(account, self._session.now())
        return settled

    def record(self, submission_id: str) -> Record:
        """The record with that id. If it is unsettled and its owner dead, it is settled first."""
        record = self._rows.record(submission_id)
        unchanged = record.settled or not self.recover()
        return record if unchanged else self._rows.record(submission_id)

    def find(self, account: str, id: str) -> Record | None:
        by_job_id = self._by_job_id(account, id)
        if by_job_id:
            return by_job_id[0]
        return self._rows.first(sql.records.JOB_OF_ACCOUNT, account=account, submission_id=id)

    def recent(self, account: str, states: frozenset[State] | None, limit: int) -> list[Record]:
        return self._rows.newest(account, states, limit)

    def page(
        self, account: str, states: frozenset[State] | None, limit: int, after: Cursor | None
    ) -> Page | None:
        place = None if after is None else self._rows.place(account, after)
        if after is not None and place is None:
            return None
        records = self._rows.newest(account, states, limit, place)
        return Page(records, Spending(self._rows, account, self._session.now()).totals())

    def charges(self, account: str) -> Iterator[Charge]:
        return self._rows.charges(account)

    def credits(
        self, account: str, estimate: float | None, limits: SpendingLimits
    ) -> AccountCredits:
        now = self._session.now()
        spending = Spending(self._rows, account, now)
        refusal, waits = None, False
        try:
            waits = must_wait(limits, now, estimate, spending)
        except LimitReached as reached:
            refusal = reached
        return AccountCredits(
            spent=spending.totals(),
            balance=spending.balance(),
            limits=usage(limits, now, spending),
            refusal=refusal,
            queued=spending.queued(),
            would_wait=waits,
        )

    def unknowns(self, account: str) -> list[Record]:
        return self._rows.find(sql.lists.UNKNOWN_JOBS, account=account)

    # The methods below run inside the transaction of a method above.

    def _account_key(self) -> bytes:
        return bytes(self._rows.values(sql.coordination.SECRET)[0][0])

    def _join(self, record: Record) -> None:
        """Note that another caller waits for a request, while it could still be withdrawn."""
        if record.state in (State.QUEUED, State.INTENT):
            self._rows.write(
                sql.coordination.INSERT_KEY, account=rules.joined_name(record.submission_id)
            )

    def _known(self, record: Record, state: State) -> Record:
        """The record as it is stored now. Raises Fenced if it may not enter that state."""
        return self._fenced(self._rows.record(record.submission_id), state)

    def _fenced(self, record: Record, state: State) -> Record:
        """The same record. Raises Fenced if it may not enter that state."""
        if not rules.may_enter(record, state, self._session.me):
            raise Fenced(
                f"Request {record.submission_id} is {record.state}: it cannot become {state} here."
            )
        return record

    def _move(self, record: Record, state: State, change: Callable[[Record], Record]) -> Record:
        with self._session.transaction(record.account):
            known = self._known(record, state)
            return self._rows.save(known, change(known))

    def _accepted(self, record: Record, job: Job, stored: State | None = None) -> Record:
        """The record with its paid job. Of several equal requests, only one may be live.

        Args:
            stored: the state of the record in the store; None if it is not there. While it is live,
                the store has no other live record with its key: the index `live` is unique.
        """
        accepted = rules.accepted(record, job, self._session.now())
        if record.dedupe_key is None or stored in LIVE:
            return accepted
        equal = self._rows.find(
            sql.records.LIVE_EQUAL, account=record.account, dedupe_key=record.dedupe_key
        )
        alone = all(
            other.submission_id == record.submission_id or other.dedupe_key != record.dedupe_key
            for other in equal
        )
        return accepted if alone else rules.beside_its_equal(accepted)

    def _by_job_id(self, account: str, job_id: str) -> list[Record]:
        return self._rows.find(sql.records.JOBS_BY_JOB_ID, account=account, job_id=job_id)

    def _foreign(self, account: str, job: Job) -> Record:
        """The record of a job that was submitted without this ledger."""
        now = self._session.now()
        return self._rows.insert(
            Record(
                submission_id=new_submission_id(),
                account=account,
                state=State.ACCEPTED,
                job_id=job.job_id,
                created_at=now,
                accepted_at=now,
                owner=self._session.me,
            )
        )

    def _updated(self, record: Record, job: Job) -> Recorded:
        after = rules.updated(record, job, self._session.now())
        if after is None:
            return Recorded(record, ignored=True)
        return Recorded(self._rows.save(record, after))

    def _absorbed(self, record: Record) -> Record:
        """The record with that which a reading of its job created before its request was answered.

        The other one is removed, so this one has to be saved.
        """
        for (id,) in self._rows.values(
            sql.records.FROM_ELSEWHERE, account=record.account, job_id=record.job_id
        ):
            record = rules.absorbed(record, self._rows.record(id), self._session.now())
            self._rows.write(sql.records.DELETE_JOB, submission_id=id)
        return record
