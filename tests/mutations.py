"""Breaks the money rules one at a time, and looks whether the tests notice.

    python tests/mutations.py

Each mutation is applied to a scratch copy of the project, in which the smallest set of tests that
should turn red is run. The same tests are run once unbroken. Exit code 0: all were caught.
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
KILLS = f"{CRASH}::test_a_kill_at_any_step_pays_nothing_twice_and_loses_no_job[fast]"


@dataclass(frozen=True)
class Mutation:
    """One way to break a rule.

    Attributes:
        edits: a file below wan_mcp, a text that occurs once in it, and what replaces it.
        tests: each of these should turn red.
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
        "commit point moved behind the send",
        [
            (
                "pixeldojo/exchange.py",
                '"http11.send_request_headers.started"',
                '"http11.receive_response_headers.started"',
            )
        ],
        [
            f"{CRASH}::test_no_byte_leaves_when_the_commit_fails",
            f"{CRASH}::test_the_row_says_sending_when_the_first_header_arrives",
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
                "ledger/statements.py",
                " AND state = :state_before AND owner = :owner_before",
                "",
            ),
        ],
        [f"{RACES}::test_a_row_is_sent_by_the_one_who_claimed_it"],
    ),
    Mutation(
        "shield dropped",
        # Around the claim it stands three times, and any of them is enough.
        [
            (
                "jobs.py",
                "with anyio.CancelScope(shield=True):  # a claimed",
                "with anyio.CancelScope():  # a claimed",
            ),
            (
                "jobs.py",
                "await asyncio.shield(asyncio.create_task(self._claim(wanted, estimate)))",
                "await self._claim(wanted, estimate)",
            ),
            (
                "ledger/threaded.py",
                "with anyio.CancelScope(shield=True):",
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
                "self._open(keep_alive=not paid)",
                "self._open(keep_alive=True)",
            )
        ],
        [f"{CRASH}::test_every_paid_post_has_a_connection_of_its_own"],
    ),
    Mutation(
        "cap check outside the transaction",
        [
            (
                "ledger/transactions.py",
                "        with self._session.transaction(account):\n"
                "            self._recover_abandoned(account)\n",
                "        now = self._session.now()\n"
                "        spending = Spending(self._rows, account, now)\n"
                "        spending_limits.check(limits, now, estimate, spending)\n"
                "        limits = SpendingLimits(None, None, None, None)\n"
                "        with self._session.transaction(account):\n"
                "            self._recover_abandoned(account)\n",
            )
        ],
        [f"{RACES}::test_nobody_else_can_write_while_the_caps_are_counted"],
    ),
)


def main() -> int:
    """Try them all and print what became of each."""
    every_test = sorted({test for mutation in MUTATIONS for test in mutation.tests} - {KILLS})
    if red := _red(every_test, None):
        sys.stdout.write(f"red without any mutation: {', '.join(red)}\n")
        return 1
    caught = [_try(mutation) for mutation in MUTATIONS]
    sys.stdout.write(f"{sum(caught)} of {len(caught)} mutations caught\n")
    return 0 if all(caught) else 1


def _try(mutation: Mutation) -> bool:
    red = _red(mutation.tests, mutation)
    sys.stdout.write(f"{'caught' if red else 'NOT CAUGHT'}: {mutation.name}\n")
    for test in mutation.tests:
        sys.stdout.write(f"  {'red:  ' if test in red else 'green:'} {test}\n")
        if test in red:
            sys.stdout.write(f"         {red[test]}\n")
    sys.stdout.flush()
    return bool(red)


def _red(tests: Sequence[str], mutation: Mutation | None) -> dict[str, str]:
    """Which of the tests fail in a copy of the project with the mutation, and with what words."""
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
            raise SystemExit(f"{mutation.name}: its text is {text.count(old)} times in {file}")
        (package / file).write_text(text.replace(old, new), encoding="utf-8")


def _failure(test: str, root: Path) -> str:
    """What the test fails with, "" when it does not; one that cannot be run ends the script."""
    command = [sys.executable, "-m", "pytest", "-n", "0", "-x", "-p", "no:cacheprovider", test]
    environment = {**os.environ, "PYTHONPATH": str(root)}
    run = subprocess.run(
        command, cwd=root, env=environment, capture_output=True, text=True, check=False
    )
    if run.returncode not in (0, 1) or not re.search(r"\d+ (passed|failed)", run.stdout):
        raise SystemExit(f"{test} could not be run:\n{run.stdout[-2000:]}{run.stderr[-2000:]}")
    words = re.search(r"^E +(.*)", run.stdout, flags=re.M)
    return (words[1] if words else "failed") if run.returncode else ""


if __name__ == "__main__":
    sys.exit(main())
