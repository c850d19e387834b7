"""The limits of users, teams and wallets, as an operator sets them."""

import math
from collections.abc import Callable, Mapping
from typing import NamedTuple

from wan_mcp.tenants.administration.acts import Act, ActRefused, Operator
from wan_mcp.tenants.administration.teams import team_id
from wan_mcp.tenants.administration.users import user_id
from wan_mcp.tenants.administration.wallets import wallet_account
from wan_mcp.tenants.limits import COLUMNS, NONE, Kind, Limits, limits_in

_GET = f"SELECT {COLUMNS} FROM limits WHERE kind = %(kind)s AND id = %(id)s FOR UPDATE".encode()
_SET = f"""
INSERT INTO limits (kind, id, {COLUMNS})
VALUES (%(kind)s, %(id)s, {", ".join(f"%({name})s" for name in Limits._fields)})
ON CONFLICT (kind, id) DO UPDATE
SET {", ".join(f"{name} = EXCLUDED.{name}" for name in Limits._fields)}
""".encode()
_LIST = f"""
SELECT l.kind, l.id, COALESCE(u.name, t.name, w.name), {COLUMNS}
FROM limits l LEFT JOIN users u ON l.kind = 'user' AND u.id = l.id
LEFT JOIN teams t ON l.kind = 'team' AND t.id = l.id
LEFT JOIN wallet_keys w ON l.kind = 'wallet' AND w.account = l.id
ORDER BY l.kind, 3, l.id
""".encode()
_FIND: Mapping[Kind, Callable[[Act, str], str]] = {
    Kind.USER: user_id,
    Kind.TEAM: team_id,
    Kind.WALLET: wallet_account,
}
_MOST = 10**12
"""More than any limit needs (ours)."""


class Allowance(NamedTuple):
    """The limits of one user, team or wallet.

    Attributes:
        kind: which of the three.
        id, name: of whom.
    """

    kind: Kind
    id: str
    name: str
    limits: Limits


def set_limits(
    operator: Operator, kind: Kind, typed: str, changes: Mapping[str, float | int | None]
) -> Limits:
    """Change some limits of a user, team or wallet. Returns all that it has now.

    Args:
        typed: the id or the name.
        changes: by the name of the limit, as in `Limits`; None takes a limit away.
    """
    said = {name: "none" if value is None else value for name, value in changes.items()}
    with operator.act("limits.set", typed, kind=kind.value, **said) as act:
        id = act.target = _FIND[kind](act, typed)
        if bad := [name for name, value in changes.items() if not _is_right(name, value)]:
            raise ActRefused(f"A limit is a number, 0 or more, or none: see {', '.join(bad)}.")
        rows = act.rows(_GET, kind=kind.value, id=id)
        before = limits_in(rows[0]) if rows else NONE
        limits = Limits(**{**before._asdict(), **changes})
        act.rows(_SET, kind=kind.value, id=id, **limits._asdict())
    return limits


def allowances(operator: Operator) -> list[Allowance]:
    """All limits that were ever set, by kind and name."""
    rows = operator.rows(_LIST)
    return [Allowance(Kind(row[0]), row[1], row[2], limits_in(row[3:])) for row in rows]


def _is_right(name: str, value: float | int | None) -> bool:
    if value is None:
        return True
    is_count = name in ("in_flight", "submits_per_minute")
    whole = not is_count or isinstance(value, int)
    return whole and math.isfinite(value) and 0 <= value <= _MOST
