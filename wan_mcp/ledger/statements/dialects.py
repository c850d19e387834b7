"""One text of SQL for SQLite and PostgreSQL, or both texts side by side.

Values have names (`:account`). The texts avoid some traps: GREATEST(NULL, 0) is 0 in PostgreSQL,
and MAX(NULL, 0) is NULL in SQLite; PostgreSQL has no TOTAL, does not accept an integer as a
boolean, cannot infer the type of a NULL, and its REAL has 4 bytes.
"""

from dataclasses import dataclass
from functools import cache


@dataclass(frozen=True)
class Statement:
    """One statement in both dialects."""

    sqlite: str
    postgres: str


def both(sql: str) -> Statement:
    """A statement that is the same in both dialects."""
    return Statement(sql, sql)


def where(before: str, condition: Statement, after: str = "") -> Statement:
    """A statement whose condition differs between the dialects."""
    return Statement(
        f"{before} {condition.sqlite}{after}",
        f"{before} {condition.postgres}{after}",
    )


_MINE = "account = :account"
_OF_WALLET = "SELECT CAST(:account AS TEXT) UNION ALL SELECT name FROM workspaces"
"""The names on a wallet. Records that belong to nobody have the name of the wallet itself."""
_SEVERAL = Statement(
    "SELECT value FROM json_each(:accounts)",
    "SELECT json_array_elements_text(CAST(:accounts AS json))",
)


@cache
def of_wallet(statement: Statement) -> Statement:
    """The same statement about all workspaces of the wallet that `:account` names."""
    names = f"{_OF_WALLET} WHERE wallet = :account"
    return _about(statement, names, names)


@cache
def of_wallet_and_several(statement: Statement) -> Statement:
    """The same statement about both: the workspaces of that wallet, and those of `:accounts`."""
    names = f"{_OF_WALLET} WHERE wallet = :account UNION ALL "
    return _about(statement, names + _SEVERAL.sqlite, names + _SEVERAL.postgres)


@cache
def of_several(statement: Statement) -> Statement:
    """The same statement about the workspaces that `:accounts` names, in JSON."""
    return _about(statement, _SEVERAL.sqlite, _SEVERAL.postgres)


def _about(statement: Statement, sqlite: str, postgres: str) -> Statement:
    # In PostgreSQL as an array: so it looks each name up in an index, however many it expects.
    assert _MINE in statement.sqlite
    return Statement(
        statement.sqlite.replace(_MINE, f"account IN ({sqlite})"),
        statement.postgres.replace(_MINE, f"account = ANY(ARRAY({postgres}))"),
    )
