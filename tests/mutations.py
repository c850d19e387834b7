"""Breaks the rules of money one at a time, and checks that the tests notice.

    python tests/mutations.py

Each mutation is applied to a temporary copy of the project, and the tests that should fail are run
there. The same tests must pass without a mutation. If all mutations are caught, the exit code is 0.
"""

import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PARTS = ("wan_mcp", "tests", "pyproject.toml", "README.md")
CRASH, RACES, CANCEL = (f"tests/payments/test_{name}.py" for name in ("crash", "races", "cancel"))
RULES, LIMITS = "tests/ledger/test_rules.py", "tests/ledger/test_ledger_limits.py"
MATCHING, LOST = "tests/payments/test_matching.py", "tests/payments/test_reconciliation.py"
WAITING, SPENDING = "tests/polling/test_waiting.py", "tests/surface/test_spending.py"
POSTGRES = "tests/ledger/test_ledger_postgres.py"
TRIPS = "tests/ledger/test_postgres_round_trips.py"
STOOD_STILL = "test_process_that_stood_still_sends_nothing_when_others_may_take_it_for_dead"
WALLETS, WORKSPACES = "tests/ledger/test_wallets.py", "tests/polling/test_workspaces.py"
ISOLATION, CHANGES = (
    f"tests/tenants/test_{name}.py" for name in ("isolation", "changes_while_paying")
)
QUEUE, DISPATCH = "tests/ledger/test_queue.py", "tests/payments/test_queue.py"
KILLS = f"{CRASH}::test_a_kill_at_any_step_pays_nothing_twice_and_loses_no_job[fast]"


@dataclass(frozen=True)
class Mutation:
    """One way to break a rule.

    Attributes:
        edits: a file below wan_mcp, a text that occurs once in it, and the text that replaces it.
        tests: each of these should fail.
    """

    name: str
    edits: Sequence[tuple[str, str, str]]
    tests: Sequence[str]


MUTATIONS = (
    Mutation(
        "fsync off",
        [("ledger/sqlite/connection.py", "PRAGMA synchronous = FULL", "PRAGMA synchronous = OFF")],
        [f"{CRASH}::test_the_commit_before_sending_waits_for_the_disk"],
    ),
    Mutation(
        "commit point after the send",
        [
            (
                "pixeldojo/exchange.py",
                '"http11.send_request_headers.started"',
                '"http11.receive_response_headers.started"',
            )
        ],
        [
            f"{CRASH}::test_no_byte_leaves_when_the_commit_fails",
            f"{CRASH}::test_the_record_is_sending_when_the_first_header_arrives",
            KILLS,
        ],
    ),
    Mutation(
        "unique index dropped",
        [("ledger/sqlite/schema.py", "CREATE UNIQUE INDEX live", "CREATE INDEX live")],
        [f"{RACES}::test_a_claim_that_overlooks_its_equal_cannot_be_written"],
    ),
    Mutation(
        "fence dropped",
        [
            (
                "ledger/rules.py",
                "return mine and record.state in MAY_FOLLOW[state]",
                "return True",
            ),
            (
                "ledger/statements/records.py",
                " AND state = :state_before AND owner = :owner_before",
                "",
            ),
        ],
        [f"{RACES}::test_a_row_is_sent_by_the_one_who_claimed_it"],
    ),
    Mutation(
        "shield dropped",
        # Three shields protect the claim, and any one of them is enough.
        [
            (
                "jobs.py",
                "with anyio.CancelScope(shield=True):  # a claimed",
                "with anyio.CancelScope():  # a claimed",
            ),
            (
                "jobs.py",
                "claim = await asyncio.shield(\n                asyncio.create_task(",
                "claim = await (\n                (",
            ),
            (
                "ledger/threaded/store.py",
                "with anyio.CancelScope(shield=not leaves):",
                "with anyio.CancelScope():",
            ),
        ],
        [
            f"{CANCEL}::test_a_submit_cancelled_at_any_await_is_paid_once",
            f"{CANCEL}::test_a_tool_call_cancelled_at_any_await_is_paid_once",
        ],
    ),
    Mutation(
        "keep-alive on",
        [
            (
                "pixeldojo/exchange.py",
                "keep_alive=not paid",
                "keep_alive=True",
            )
        ],
        [f"{CRASH}::test_every_paid_request_has_a_new_connection"],
    ),
    Mutation(
        "spending limits checked outside the transaction",
        [
            (
                "ledger/transactions.py",
                "        with self._session.transaction("
                "workspace.wallet, ahead=people, across=across):\n"
                "            require_current(self._rows, asked.quotas)\n"
                "            now = self._session.now()\n",
                "        now = self._session.now()\n"
                "        limited = counted(self._rows, workspace, asked.quotas, now)\n"
                "        must_wait(limited, limited[0].spending, now, asked.estimate)\n"
                "        none = spending_limits.SpendingLimits(None, None, None, None)\n"
                "        asked = type(asked)(**vars(asked) | {'quotas': [Quota(none)]})\n"
                "        with self._session.transaction(workspace.wallet):\n"
                "            now = self._session.now()\n",
            )
        ],
        [f"{RACES}::test_nobody_else_can_write_while_the_caps_are_counted"],
    ),
    Mutation(
        "one odd answer ends a job",
        [
            (
                "ledger/rules.py",
                "since is not None and (now - since).total_seconds() >= CONFIRM_SECONDS",
                "True",
            )
        ],
        [
            f"{RULES}::test_an_end_without_a_video_needs_a_second_reading_some_seconds_later",
            f"{WAITING}::test_one_odd_answer_is_not_the_end_of_a_job",
        ],
    ),
    Mutation(
        "a failure wins over a video",
        [
            (
                "ledger/rules.py",
                "end is State.FAILED or (end is State.COMPLETED and job.video_url is not None)",
                "end is State.FAILED",
            )
        ],
        [
            f"{RULES}::test_a_video_wins_over_any_failure",
            f"{WAITING}::test_a_failed_job_whose_video_appears_later_is_completed",
        ],
    ),
    Mutation(
        "a matching seed is proof enough",
        [
            (
                "payments/matching.py",
                "return not differences(record, each) - self._unreliable",
                "return True",
            )
        ],
        [
            f"{MATCHING}::test_a_job_that_shows_anything_else_than_was_asked_for_is_not_the_requests",
        ],
    ),
    Mutation(
        "a job that two requests could have started is given to one",
        [
            (
                "payments/matching.py",
                "if len(own) != 1 or self._rivals(record, own[0]):",
                "if len(own) != 1:",
            )
        ],
        [f"{MATCHING}::test_a_job_that_two_requests_could_have_started_is_given_to_neither"],
    ),
    Mutation(
        "absence is concluded while a job could be the request's",
        [
            (
                "payments/reconciliation.py",
                "elif doubts := jobs.doubts(record):",
                "elif doubts := 0:",
            )
        ],
        [
            f"{LOST}::test_what_two_requests_could_have_started_stays_unknown_and_is_never_proven_away"
        ],
    ),
    Mutation(
        "one reading of the list proves that there is no job",
        [("ledger/rules.py", "PROOF_READINGS = 3", "PROOF_READINGS = 1")],
        ["tests/payments/test_one_reconciler.py::test_readings_that_are_close_together_count_once"],
    ),
    Mutation(
        "the price page is believed against the last charge",
        [("ledger/expected_price.py", "max(self.named, self.charged or 0.0)", "self.named")],
        [
            f"{LIMITS}::test_limits_believe_the_last_charge_when_it_is_higher_than_the_page",
            f"{SPENDING}::test_the_question_names_the_last_charge_when_it_is_higher_than_the_page",
        ],
    ),
    Mutation(
        "PostgreSQL: no lock of the account",
        [
            (
                "ledger/postgres/session.py",
                'account = :account FOR UPDATE"',
                'account = :account"',
            )
        ],
        [f"{POSTGRES}::test_claim_waits_while_another_process_has_the_lock_of_its_account"],
    ),
    Mutation(
        "limits of before the lock are taken for those of now",
        [("ledger/wallets/members.py", "    if known and known !=", "    if () and known !=")],
        [f"{CHANGES}::test_a_limit_of_a_team_counts_the_wallet_that_a_member_has_just_got"],
    ),
    Mutation(
        "a wallet is taken from a user while a payment begins",
        [
            (
                "tenants/administration/acts.py",
                "        self.rows(_LOCK_WALLET, account=wallet)",
                "        str(wallet)",
            )
        ],
        [f"{CHANGES}::test_whoever_takes_a_wallet_from_a_user_waits_for_the_payment_that_begins"],
    ),
    Mutation(
        "PostgreSQL: no lock of limits across wallets",
        [("ledger/postgres/session.py", "[limited] if across else []", "[]")],
        [
            f"{WALLETS}::test_limits_of_a_team_hold_against_{others}_at_the_same_moment[postgres]"
            for others in ("all_its_wallets", "the_queues_of_all_its_wallets")
        ],
    ),
    Mutation(
        "PostgreSQL: a lost answer to COMMIT counts as a refusal",
        [("ledger/postgres/session.py", "found = self._is_committed(change)", "found = False")],
        [f"{POSTGRES}::test_claim_whose_commit_landed_without_an_answer_is_that_claim"],
    ),
    Mutation(
        "PostgreSQL: a commit that is on no standby counts",
        [("ledger/postgres/session.py", "if not self._is_replicated:", "if False:")],
        [f"{POSTGRES}::test_commit_that_is_on_no_standby_is_no_commit_point[True]"],
    ),
    Mutation(
        "PostgreSQL: sent although others may have taken the process for dead",
        [
            (
                "ledger/postgres/session.py",
                "    def commit_point(self, submission_id: str) -> None:\n",
                "    def commit_point(self, submission_id: str) -> None:\n        return\n",
            )
        ],
        [f"{POSTGRES}::{STOOD_STILL}[13.5-False]"],
    ),
    Mutation(
        "PostgreSQL: an update that finds no record is committed",
        [("ledger/postgres/connection.py", 'SELECT 1 / COUNT(*) FROM changed"', 'SELECT 1"')],
        [
            f"{TRIPS}::test_update_that_finds_no_record_undoes_the_commit_that_it_travels_with",
            f"{POSTGRES}::test_process_that_was_taken_for_dead_goes_on_under_another_name",
        ],
    ),
    Mutation(
        "PostgreSQL: what was asked ahead is believed after a change",
        [("ledger/postgres/change.py", "self.known.clear()", "pass")],
        [f"{TRIPS}::test_what_was_asked_ahead_is_asked_again_after_a_change"],
    ),
    Mutation(
        "PostgreSQL: a lease that is over is renewed",
        [
            (
                "ledger/postgres/liveness.py",
                'b"WHERE name = %(name)s AND alive_until > " + _NOW\n)',
                'b"WHERE name = %(name)s"\n)',
            )
        ],
        [f"{POSTGRES}::test_process_that_was_taken_for_dead_goes_on_under_another_name"],
    ),
    Mutation(
        "a limit is counted without the queued",
        [
            (
                "ledger/wallets/counting.py",
                "if self._counts_queue else NOTHING_QUEUED",
                "if False else NOTHING_QUEUED",
            )
        ],
        [f"{QUEUE}::test_what_is_queued_counts_in_full_against_the_credits_of_a_day"],
    ),
    Mutation(
        "a new request overtakes the queue",
        [("ledger/queueing/rules.py", "if not may_queue or not queued:", "if True:")],
        [f"{QUEUE}::test_nobody_overtakes_the_queue"],
    ),
    Mutation(
        "the limits are not looked at again",
        [
            (
                "ledger/queueing/transactions.py",
                "quota_rules.check(limited, now, price.credits, price.why)",
                "pass",
            )
        ],
        [
            f"{QUEUE}::test_nothing_is_dispatched_while_there_is_no_room",
            f"{QUEUE}::test_a_price_that_rose_beyond_the_agreed_one_ends_the_request",
        ],
    ),
    Mutation(
        "an equal request is not looked for again",
        [
            (
                "ledger/queueing/transactions.py",
                "self._equal_requests.find(record.account, lookups, now, queued=False)",
                "None",
            )
        ],
        [f"{DISPATCH}::test_a_request_that_was_paid_elsewhere_meanwhile_is_not_sent"],
    ),
    Mutation(
        "fence of a cancelled request dropped",
        [("ledger/queueing/transactions.py", "if known.state is not State.QUEUED:", "if False:")],
        [f"{QUEUE}::test_only_what_is_queued_can_be_cancelled"],
    ),
    Mutation(
        "the dispatcher's lease is ignored",
        [
            (
                "payments/dispatcher.py",
                "if not await self._leads(wallet):",
                "if await self._leads(wallet) is None:",
            )
        ],
        [f"{DISPATCH}::test_while_another_process_has_the_role_nobody_else_sends"],
    ),
    Mutation(
        "a queued request lives for ever",
        [("ledger/statements/lists.py", "queued_until <= :now", "queued_until < 0")],
        [f"{QUEUE}::test_a_request_whose_hour_is_over_ends_as_not_sent"],
    ),
    Mutation(
        "a key that is not accepted is tried for every queued request",
        [("payments/dispatcher.py", "if isinstance(failure, MEETS_ALL)", "if False")],
        [f"{DISPATCH}::test_a_revoked_key_ends_the_whole_queue_with_one_request"],
    ),
    Mutation(
        "a dispatched request of a dead server is forgotten",
        [("ledger/rules.py", "if record.queued_until is not None:", "if False:")],
        [f"{QUEUE}::test_a_dispatched_request_of_a_dead_process_is_in_the_queue_again"],
    ),
    Mutation(
        "a list shows the jobs of other users",
        [
            (
                "ledger/statements/lists.py",
                'live = f"WHERE account = :account AND',
                'live = f"WHERE (account = :account OR TRUE) AND',
            )
        ],
        [f"{WALLETS}::test_a_workspace_finds_and_lists_its_own_requests_only"],
    ),
    Mutation(
        "PixelDojo is asked for the jobs of other users of the key",
        [
            (
                "polling/job_reader.py",
                "only_ledger = only_ledger or not workspace.is_alone",
                "only_ledger = only_ledger or False",
            )
        ],
        [f"{WORKSPACES}::test_on_a_shared_key_nobody_learns_of_a_job_that_is_not_theirs"],
    ),
    Mutation(
        "all users of a wallet have one list of jobs",
        [("app/wallets.py", "return wallet.of[workspace]", "return wallet.jobs")],
        [f"{ISOLATION}::test_equal_requests_of_two_users_are_two_jobs_and_two_charges"],
    ),
    Mutation(
        "a payment believes what was known of its user before",
        [("app/team.py", "seat(user_of(workspace), fresh=fresh)", "seat(user_of(workspace))")],
        [f"{ISOLATION}::test_disabled_user_buys_nothing_from_that_moment_on"],
    ),
    Mutation(
        "a refusal names the jobs of other users",
        [("ledger/wallets/counting.py", 'id if account == own else ""', "id")],
        [f"{WALLETS}::test_a_refusal_names_no_job_of_another_user"],
    ),
    Mutation(
        "a limit counts whatever is counted for another one",
        [("ledger/wallets/counting.py", " if row[0] in names", "")],
        [
            f"{WALLETS}::test_the_limit_of_a_team_counts_its_members_and_nobody_else",
            f"{WALLETS}::test_a_job_on_another_wallet_counts_for_its_user_and_not_for_this_wallet",
        ],
    ),
    Mutation(
        "only the nearest limit counts, so that of a team does not",
        [
            (
                "ledger/wallets/quotas.py",
                "for quota, spending in counted:",
                "for quota, spending in list(counted)[:1]:",
            )
        ],
        [
            f"{WALLETS}::test_the_limit_of_a_team_counts_its_members_and_nobody_else",
            f"{WALLETS}::test_the_refusal_is_that_of_the_tightest_limit",
        ],
    ),
    Mutation(
        "what a wallet has used is what one user has used",
        [("ledger/wallets/scope.py", "if workspace.is_alone else", "if True else")],
        [f"{WALLETS}::test_limits_of_the_wallet_hold_against_all_users_at_the_same_moment"],
    ),
    Mutation(
        "lost answers are compared with the jobs of one user",
        [
            (
                "payments/reconciliation.py",
                "self._ledger.in_wallet(wallet, KNOWN_JOBS)",
                "self._ledger.recent(records[0].account, limit=KNOWN_JOBS)",
            )
        ],
        [f"{LOST}::test_jobs_of_all_users_of_a_key_prove_that_one_of_them_has_none"],
    ),
    Mutation(
        "users of one key do not take turns",
        [("ledger/queueing/transactions.py", "if len(names) < 2:", "if True:")],
        [f"{WALLETS}::test_users_of_one_wallet_take_turns_and_each_keeps_an_order"],
    ),
)


def main() -> int:
    """Try all mutations and print the results. Returns 0 if all are caught."""
    every_test = sorted({test for mutation in MUTATIONS for test in mutation.tests} - {KILLS})
    if failing := _failing(every_test, None):
        sys.stdout.write(f"fail without any mutation: {', '.join(failing)}\n")
        return 1
    caught = [_try(mutation) for mutation in MUTATIONS]
    sys.stdout.write(f"{sum(caught)} of {len(caught)} mutations caught\n")
    return 0 if all(caught) else 1


def _try(mutation: Mutation) -> bool:
    failing = _failing(mutation.tests, mutation)
    sys.stdout.write(f"{'caught' if failing else 'NOT CAUGHT'}: {mutation.name}\n")
    for test in mutation.tests:
        sys.stdout.write(f"  {'fails: ' if test in failing else 'passes:'} {test}\n")
        if test in failing:
            sys.stdout.write(f"         {failing[test]}\n")
    sys.stdout.flush()
    return bool(failing)


def _failing(tests: Sequence[str], mutation: Mutation | None) -> dict[str, str]:
    """The tests that fail in a copy of the project with the mutation, and their messages."""
    with tempfile.TemporaryDirectory() as scratch:
        for part in PARTS:
            copy = shutil.copytree if (ROOT / part).is_dir() else shutil.copy
            copy(ROOT / part, Path(scratch) / part)
        if mutation is not None:
            _apply(mutation, Path(scratch) / "wan_mcp")
        failures = {test: _failure(test, Path(scratch)) for test in tests}
    return {test: failure for test, failure in failures.items() if failure}


def _apply(mutation: Mutation, package: Path) -> None:
    for file, old, new in mutation.edits:
        text = (package / file).read_text(encoding="utf-8")
        if text.count(old) != 1:
            raise SystemExit(f"{mutation.name}: its text occurs {text.count(old)} times in {file}")
        (package / file).write_text(text.replace(old, new), encoding="utf-8")


def _failure(test: str, root: Path) -> str:
    """The message of the failing test, or "" if it passes.

    Raises:
        SystemExit: the test cannot be run.
    """
    command = [sys.executable, "-m", "pytest", "-n", "0", "-x", "-p", "no:cacheprovider", test]
    environment = {**os.environ, "PYTHONPATH": str(root)}
    run = subprocess.run(
        command, cwd=root, env=environment, capture_output=True, text=True, check=False
    )
    if run.returncode not in (0, 1) or not re.search(r"\d+ (passed|failed)", run.stdout):
        raise SystemExit(f"{test} could not be run:\n{run.stdout[-2000:]}{run.stderr[-2000:]}")
    message = re.search(r"^E +(.*)", run.stdout, flags=re.M)
    return (message[1] if message else "failed") if run.returncode else ""


if __name__ == "__main__":
    sys.exit(main())
