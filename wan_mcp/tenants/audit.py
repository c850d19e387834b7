"""The record of who did what, when, and with which result. It has no key and no signed link."""

import json
import secrets
from collections.abc import Mapping
from typing import NamedTuple

from wan_mcp.ledger.postgres.connection import Link, Part
from wan_mcp.tenants.names import shown

LONGEST = 300
"""The most characters of each text in a row of the audit (ours)."""

NOW = "EXTRACT(EPOCH FROM clock_timestamp())::float8"
"""The date of the database in SQL, in seconds since 1970 UTC."""

_INSERT = f"""
INSERT INTO audit (id, at, actor, action, target, result, detail)
VALUES (%(id)s, COALESCE(%(at)s::float8, {NOW}), %(actor)s, %(action)s, %(target)s, %(result)s,
    %(detail)s)
ON CONFLICT DO NOTHING
""".encode()
_LIST = b"""
SELECT at, actor, action, target, result, detail FROM audit
WHERE (%(about)s::text IS NULL OR target = %(about)s OR actor = %(about)s)
AND at >= %(since)s ORDER BY at DESC, id LIMIT %(limit)s
"""


class Entry(NamedTuple):
    """A row of the audit, as it is to be written.

    Attributes:
        actor: who: the id of a user, or `admin:` and the name of an operator on a computer.
        action: what, such as `token.add` or `job.buy`.
        target: to which user, team, wallet, token or job; its id.
        result: `done`, or what else came of it, in a word.
        detail: more, without any secret.
        id: makes it one row, however often and by however many servers it is written.
        at: when it was done, in seconds since 1970 UTC by the clock of the database; None for the
            moment at which it is written.
    """

    actor: str
    action: str
    target: str
    result: str
    detail: Mapping[str, object]
    id: str
    at: float | None = None

    @classmethod
    def new(
        cls, actor: str, action: str, target: str, result: str, detail: Mapping[str, object]
    ) -> "Entry":
        """An entry that is not written yet; its texts are cut and cleaned."""
        plain = {name: _plain(value) for name, value in detail.items() if value is not None}
        who, what, whom, outcome = (
            shown(text, LONGEST) for text in (actor, action, target, result)
        )
        return cls(who, what, whom, outcome, plain, secrets.token_hex(16))

    @property
    def part(self) -> Part:
        """The statement that writes it."""
        return _INSERT, {**self._asdict(), "detail": json.dumps(self.detail)}

    def write(self, link: Link) -> None:
        """Write it, in the transaction of the connection if there is one."""
        link.run(self.part)


class Written(NamedTuple):
    """A row of the audit: see `Entry`.

    Attributes:
        at: the date, in seconds since 1970 UTC.
    """

    at: float
    actor: str
    action: str
    target: str
    result: str
    detail: Mapping[str, object]


def entries(link: Link, about: str | None, since: float, limit: int) -> list[Written]:
    """The newest rows, newest first.

    Args:
        about: only what was done by, or to, this user, team, wallet, token or job; None for all.
        since: only what is not older, in seconds since 1970 UTC.
        limit: how many at most.
    """
    rows = link.run((_LIST, {"about": about, "since": since, "limit": limit}))[-1]
    return [Written._make([*row[:5], json.loads(row[5])]) for row in rows]


def _plain(value: object) -> object:
    return value if isinstance(value, int | float) else shown(str(value), LONGEST)
