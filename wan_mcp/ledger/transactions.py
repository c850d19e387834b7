"""`Ledger` on every engine. Each method is one transaction and runs in one thread.

The methods are documented in `contract.Ledger`.
"""

import hmac
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from datetime import datetime

from wan_mcp.ledger import rules
from wan_mcp.ledger import statements as sql
from wan_mcp.ledger.abandoned import AbandonedRequests
from wan_mcp.ledger.contract import Asked, Claim, Fenced, LedgerChanged, Page, Recorded
from wan_mcp.ledger.equal_requests import EqualRequests
from wan_mcp.ledger.expected_price import AccountCredits, Charge, expected_price
from wan_mcp.ledger.fingerprint import account_name
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
from wan_mcp.ledger.rows import FIRST_CHARGES, Rows, read
from wan_mcp.ledger.session import Read, Session
from wan_mcp.ledger.statements.dialects import Statement
from wan_mcp.ledger.wallets.counting import Spending, counted, reads, spending_of, whole
from wan_mcp.ledger.wallets.credits import account_credits
from wan_mcp.ledger.wallets.members import (
    names_asked,
    register,
    require_current,
    version_asked,
)
from wan_mcp.ledger.wallets.quotas import Counted, Quota, across_wallets
from wan_mcp.ledger.wallets.scope import one, wallet_scope, whole_wallet
from wan_mcp.ledger.wallets.workspace import Workspace
from wan_mcp.models import Cursor, Job, Replacement

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

    def claim(self, asked: Asked) -> Claim:
        lookups = rules.lookups(asked.workspace.name, asked.wanted)
        try:
            return self._claim(asked, lookups)
        except LedgerChanged as changed:
            # Returning an existing job costs nothing, and the caller can go on with it.
            try:
                now = self._session.now()
                found = self._equal_requests.find(asked.workspace.name, lookups, now)
            except Exception:
                raise changed from None  # the reason why it cannot be read
            if found is None or not found.record.settled:
                raise
            return found

    def _claim(self, asked: Asked, lookups: rules.Lookups) -> Claim:
        workspace = asked.workspace
        across = across_wallets(asked.quotas)
        people = names_asked(workspace) + version_asked(asked.quotas)
        with self._session.transaction(workspace.wallet, ahead=people, across=across):
            require_current(self._rows, asked.quotas)
            now = self._session.now()
            quotas = [quota.agreed_to(asked.agreed) for quota in asked.quotas]
            limited = counted(self._rows, workspace, quotas, now)
            self._session.ahead(self._what_a_claim_asks(workspace, lookups, limited, now))
            self._abandoned.settle(whole_wallet(workspace), now)
            if found := self._equal_requests.find(workspace.name, lookups, now):
                self._join(found.record)
                return found
            self._session.before_payment()
            price = expected_price(asked.estimate, asked.wanted, self.charges(workspace.name))
            everybody = whole(self._rows, workspace, limited, now)
            waits = must_wait(limited, everybody, now, price.credits, price.why)
            new = intent(
                workspace,
                asked.wanted,
                lookups[0][0],
                asked.seed,
                price.credits,
                asked.source,
                now,
                self._session.me,
            )
            if (videos := asked.videos) is not None:
                decided = {"video_folder": videos.folder, "video_limit_gb": videos.limit_gb}
                new = new.model_copy(update=decided)
            order = Order(wanted=asked.wanted, agreed=asked.agreed)
            register(self._rows, workspace)
            return Claim(self._rows.insert(queued(new, order) if waits else new), created=True)

    def _what_a_claim_asks(
        self,
        workspace: Workspace,
        lookups: rules.Lookups,
        limited: Sequence[Counted[Spending]],
        now: datetime,
    ) -> Iterator[Read]:
        name = workspace.name
        yield self._abandoned.read(whole_wallet(workspace), now)
        yield self._equal_requests.read(name, lookups, now)
        yield read(sql.spending.CHARGES, account=name, limit=FIRST_CHARGES)
        yield from reads(limited)

    def equal(self, account: str, wanted: Replacement) -> Record | None:
        now = self._session.now()
        found = self._equal_requests.find(account, rules.lookups(account, wanted), now)
        return None if found is None else found.record

    def commit_sending(self, record: Record, sent: SentInputs | None = None) -> None:
        try:
            with self._session.transaction(record.workspace.wallet):
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
        with self._session.transaction(record.workspace.wallet):
            self._join(record)

    def withdraw(self, record: Record) -> Record:
        asked = read(sql.records.JOB, submission_id=record.submission_id)
        joined = read(sql.coordination.KEY, account=rules.joined_name(record.submission_id))
        with self._session.transaction(record.workspace.wallet, ahead=[asked, joined]):
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
        """Write the paid jobs that were kept outside of the store to the store."""
        for kept in self._session.kept():
            id = kept.job.job_id
            known = self._in_wallet(kept.record, sql.records.JOBS_BY_JOB_ID, job_id=id)
            if all(each.from_elsewhere for each in known):
                self._accept(kept.record, kept.job)
            kept.forget()

    def _accept(self, record: Record, job: Job) -> Record:
        wallet, elsewhere = record.workspace.wallet, self._elsewhere(record, job.job_id)
        if sending := self._sending.pop(record.submission_id, None):
            # It is read again only if it cannot be saved, because it has changed meanwhile.
            with suppress(Fenced), self._session.transaction(wallet, ahead=[elsewhere]):
                accepted = self._accepted(sending, job, sending.state)
                return self._rows.save(sending, self._absorbed(accepted))
        with self._session.transaction(wallet, ahead=[elsewhere]):
            known = self._rows.first(sql.records.JOB, submission_id=record.submission_id)
            if known is None:
                register(self._rows, record.workspace)
                return self._rows.insert(self._absorbed(self._accepted(record, job)))
            if known.job_id in (None, job.job_id):
                accepted = self._accepted(known, job, known.state)
                return self._rows.save(known, self._absorbed(accepted))
            # In the meantime the reconciler recorded another job for this request. The job in the
            # answer is paid for too, so it gets a record of its own, unless it has one already.
            for listed in self._in_wallet(record, sql.records.JOBS_BY_JOB_ID, job_id=job.job_id):
                if not listed.from_elsewhere:
                    return self._updated(listed, job).record
            other = record.model_copy(update={"submission_id": new_submission_id()})
            return self._rows.insert(self._absorbed(self._accepted(other, job)))

    def match(self, record: Record, job: Job) -> Record:
        with self._session.transaction(record.workspace.wallet):
            known = self._known(record, State.ACCEPTED)
            wallet = whole_wallet(record.workspace)
            taken = self._rows.values(
                wallet.over(sql.records.JOB_ID_OF_ANOTHER),
                **wallet.values,
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

    def record_update(self, workspace: Workspace, job: Job) -> Recorded:
        with self._session.transaction(workspace.wallet):
            # More than one only if PixelDojo answered two submits with one id (never seen).
            everybody = wallet_scope(workspace.wallet)
            records = self._rows.find(
                everybody.over(sql.records.JOBS_BY_JOB_ID), **everybody.values, job_id=job.job_id
            ) or [self._foreign(workspace.wallet, job)]
            recorded = [self._updated(record, job) for record in records]
            return max(recorded, key=lambda each: each.record.account == workspace.name)

    def record_check(
        self, record: Record, findings: str, next_in: float | None, reading: ListReading
    ) -> Record:
        with self._session.transaction(record.workspace.wallet):
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
        for wallet in self._abandoned.wallets(self._session.now()):
            with self._session.transaction(wallet):
                settled += self._abandoned.settle(wallet_scope(wallet), self._session.now())
        return settled

    def record(self, submission_id: str) -> Record:
        """The record with that id. If it is unsettled and its owner dead, it is settled first."""
        record = self._rows.record(submission_id)
        unchanged = record.settled or not self.recover()
        return record if unchanged else self._rows.record(submission_id)

    def find(self, account: str, id: str) -> Record | None:
        by_job_id = self._rows.find(sql.records.JOBS_BY_JOB_ID, account=account, job_id=id)
        if by_job_id:
            return by_job_id[0]
        return self._rows.first(sql.records.JOB_OF_ACCOUNT, account=account, submission_id=id)

    def recent(self, account: str, states: frozenset[State] | None, limit: int) -> list[Record]:
        return self._rows.newest(one(account), states, limit)

    def in_wallet(self, wallet: str, limit: int) -> list[Record]:
        return self._rows.newest(wallet_scope(wallet), None, limit)

    def page(
        self, account: str, states: frozenset[State] | None, limit: int, after: Cursor | None
    ) -> Page | None:
        place = None if after is None else self._rows.place(account, after)
        if after is not None and place is None:
            return None
        records = self._rows.newest(one(account), states, limit, place)
        workspace = Workspace.of(account)
        spending = spending_of(self._rows, workspace, None, self._session.now())
        return Page(records, spending.totals())

    def charges(self, account: str) -> Iterator[Charge]:
        return self._rows.charges(account)

    def credits(
        self, workspace: Workspace, estimate: float | None, quotas: Sequence[Quota]
    ) -> AccountCredits:
        return account_credits(self._rows, workspace, estimate, quotas, self._session.now())

    def unknowns(self, wallet: str) -> list[Record]:
        everybody = wallet_scope(wallet)
        return self._rows.find(everybody.over(sql.lists.UNKNOWN_JOBS), **everybody.values)

    # The methods below run inside the transaction of a method above.

    def _in_wallet(self, record: Record, statement: Statement, **values: object) -> list[Record]:
        """The records of the same wallet that a statement finds."""
        wallet = whole_wallet(record.workspace)
        return self._rows.find(wallet.over(statement), **wallet.values, **values)

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
        with self._session.transaction(record.workspace.wallet):
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

    def _foreign(self, wallet: str, job: Job) -> Record:
        """A new record of a job submitted without this ledger: nobody's on a shared wallet."""
        now = self._session.now()
        return self._rows.insert(
            Record(
                submission_id=new_submission_id(),
                account=wallet,
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

    def _elsewhere(self, record: Record, job_id: str | None) -> Read:
        wallet = whole_wallet(record.workspace)
        return read(wallet.over(sql.records.FROM_ELSEWHERE), **wallet.values, job_id=job_id)

    def _absorbed(self, record: Record) -> Record:
        """The record, merged with the one that a reading of its job created before the answer came.

        The other one is deleted, so this one has to be saved.
        """
        for (id,) in self._rows.values_of(self._elsewhere(record, record.job_id)):
            record = rules.absorbed(record, self._rows.record(id), self._session.now())
            self._rows.write(sql.records.DELETE_JOB, submission_id=id)
        return record
