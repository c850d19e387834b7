"""One text of SQL for SQLite and PostgreSQL, or both texts side by side.

Values have names (`:account`). The texts avoid some traps: GREATEST(NULL, 0) is 0 in PostgreSQL,
and MAX(NULL, 0) is NULL in SQLite; PostgreSQL has no TOTAL, does not accept an integer as a
boolean, cannot infer the type of a NULL, and its REAL has 4 bytes.
"""

from dataclasses import dataclass


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
