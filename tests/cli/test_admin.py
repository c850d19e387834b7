"""`wan-mcp admin migrate` and `move-ledger`, as an operator types them."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.ledger.old_version.contents import FILE, JOBS
from wan_mcp.cli.commands import run

pytest.importorskip("psycopg", reason="the extra `postgres` is not installed")

from wan_mcp.ledger.postgres.schema import VERSION

PASSWORD = "canary-7f3a"


@pytest.fixture
def admin(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> Callable[..., tuple[int, str, str]]:
    """Types a command with a database in the settings. Returns code, output and errors."""

    def typed(url: str | None, *words: str) -> tuple[int, str, str]:
        environment = {"WAN_MCP_DATA_DIR": str(tmp_path)}
        if url is not None:
            environment["WAN_MCP_LEDGER_URL"] = url.replace("postgres@", f"postgres:{PASSWORD}@")
        errors: list[str] = []

        def report(error: object) -> int:
            errors.append(str(error))
            return 2

        code = run(["admin", *words], environment, report)
        said = capsys.readouterr()
        assert PASSWORD not in said.out + said.err
        return code, said.out, said.err + "".join(errors)

    return typed


Admin = Callable[..., tuple[int, str, str]]


def test_migrate_makes_a_ledger_and_check_says_whether_it_is_needed(
    admin: Admin, new_database: Callable[[], str]
) -> None:
    """A deployment asks first, as a person or as a program (ours)."""
    url = new_database()
    ready = f"the database has a ledger of format {VERSION}, and this program has format {VERSION}."

    missing = f"the database has no ledger yet, and this program has format {VERSION}."
    assert admin(url, "migrate", "--check") == (1, f"A migration is needed: {missing}\n", "")
    made = f"The database has a ledger now, of format {VERSION}.\n"
    assert admin(url, "migrate") == (0, made, "")
    assert admin(url, "migrate", "--check") == (0, f"No migration is needed: {ready}\n", "")
    again = f"There was nothing to add: the ledger has format {VERSION}.\n"
    assert admin(url, "migrate") == (0, again, "")


def audited(url: str) -> list[tuple[str, str, dict[str, object]]]:
    """What the audit says was done with the ledger, oldest first."""
    from wan_mcp.ledger.postgres.connection import connect
    from wan_mcp.tenants.audit import entries

    with connect(url) as link:
        found = [*reversed(entries(link, "ledger", 0, 10))]
    assert all(each.actor.startswith("admin:") for each in found)
    return [(each.action, each.result, dict(each.detail)) for each in found]


def test_migration_is_in_the_audit_that_it_makes(
    admin: Admin, new_database: Callable[[], str]
) -> None:
    """Once, and a refused one too; one that changed nothing is no act (docs/teams.md)."""
    from wan_mcp.ledger.postgres.connection import connect

    url = new_database()
    made = [admin(url, "migrate")[0] for _ in range(2)]
    with connect(url) as link:
        link.execute("UPDATE schema SET min_program = min_program + %s", [VERSION])
    too_new = admin(url, "migrate")

    assert (made, too_new[0]) == ([0, 0], 1)
    done, refused = audited(url)
    assert done == ("ledger.migrate", "done", {"before": 0, "after": VERSION})
    assert refused[:2] == ("ledger.migrate", "refused")
    assert str(refused[2]["why"]) in too_new[2]


def test_migrate_says_the_same_as_data(admin: Admin, new_database: Callable[[], str]) -> None:
    url = new_database()

    def data(*words: str) -> tuple[int, dict[str, Any]]:
        code, out, _ = admin(url, "migrate", "--json", *words)
        return code, json.loads(out)

    needed = {"migration_needed": True, "format": None, "format_of_program": VERSION}
    assert data("--check") == (1, needed)
    assert data() == (0, {"before": 0, "after": VERSION, "older_servers": 0})
    current = {"migration_needed": False, "format": VERSION, "format_of_program": VERSION}
    assert data("--check") == (0, current)


def test_move_ledger_moves_the_ledger_of_the_settings(
    admin: Admin, database: str, tmp_path: Path
) -> None:
    (tmp_path / "ledger").mkdir()
    shutil.copyfile(FILE, tmp_path / "ledger/ledger.db")

    code, out, _ = admin(database, "move-ledger")
    assert (code, out.split(":")[0]) == (0, "The ledger was moved")
    assert f"{len(JOBS)} requests of 2 accounts" in out
    code, out, _ = admin(database, "move-ledger", str(tmp_path), "--json")
    expected = {"records": len(JOBS), "accounts": 2, "was_moved_before": True}
    assert (code, json.loads(out)) == (0, expected)
    moved = {"records": len(JOBS), "accounts": 2, "again": False}
    assert audited(database) == [("ledger.move", "done", moved)]


@pytest.mark.parametrize("action", ["migrate", "move-ledger"])
def test_without_a_database_the_command_says_what_is_missing(admin: Admin, action: str) -> None:
    code, out, err = admin(None, action)

    assert (code, out) == (1, "")
    assert err.startswith("WAN_MCP_LEDGER_URL is not set. Set it to")


@pytest.mark.parametrize(
    ("url", "reason"),
    [
        ("postgresql://postgres@/none?host=/nowhere", "cannot be reached"),
        ("postgresql://postgres@[", "is not the address"),
    ],
)
def test_a_database_that_cannot_be_used_is_named_without_its_address(
    admin: Admin, url: str, reason: str
) -> None:
    code, out, err = admin(url, "migrate")

    assert (code, out) == (1, "")
    assert reason in err
    assert "nowhere" not in err


def test_move_ledger_names_what_it_cannot_move(admin: Admin, database: str) -> None:
    code, out, err = admin(database, "move-ledger")

    assert (code, out) == (1, "")
    assert err.startswith("There is no ledger in that folder.")
    assert audited(database) == [
        ("ledger.move", "refused", {"why": "There is no ledger in that folder."})
    ]
