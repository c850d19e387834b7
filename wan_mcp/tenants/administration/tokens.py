"""Tokens: made, listed and revoked. The token itself is shown once, when it is made."""

from collections.abc import Collection
from typing import NamedTuple

from wan_mcp.tenants.administration.acts import (
    ActRefused,
    Operator,
    can_be_found,
    quoted,
    require_name,
)
from wan_mcp.tenants.administration.users import user_id
from wan_mcp.tenants.audit import NOW
from wan_mcp.tenants.caller import SCOPES
from wan_mcp.tenants.tokens import Issued, id_of, new_token

DAYS = 90
"""How long a token works if the operator names no other time (ours)."""
MOST_DAYS = 366
"""The longest time that a token may work (ours); a stolen token works no longer either."""

_INSERT = f"""
INSERT INTO tokens (id, user_id, note, sha256, scopes, created_at, expires_at)
VALUES (%(id)s, %(user)s, %(note)s, %(sha256)s, %(scopes)s, {NOW}, {NOW} + %(days)s * 86400.0)
""".encode()
_REVOKE = f"""
UPDATE tokens SET revoked_at = COALESCE(revoked_at, {NOW}) WHERE id = %(id)s RETURNING user_id
""".encode()
_LIST = f"""
SELECT t.id, t.user_id, u.name, t.note, t.scopes, t.created_at, t.expires_at, t.used_at,
    CASE WHEN t.revoked_at IS NOT NULL THEN 'revoked' WHEN t.expires_at <= {NOW} THEN 'expired'
    WHEN u.disabled_at IS NOT NULL THEN 'user disabled' ELSE 'works' END
FROM tokens t JOIN users u ON u.id = t.user_id ORDER BY u.name, t.created_at, t.id
""".encode()


class Token(NamedTuple):
    """A token, without its secret. Dates are seconds since 1970 UTC.

    Attributes:
        user_id, user: whose it is, the id and the name.
        note: what it is for, in the operator's words.
        scopes: what it may do, with spaces between them.
        used_at: the last use, at most a minute too early; None if it was never used.
        state: `works`, `expired`, `revoked` or `user disabled`.
    """

    id: str
    user_id: str
    user: str
    note: str
    scopes: str
    created_at: float
    expires_at: float
    used_at: float | None
    state: str


def add(operator: Operator, typed: str, scopes: Collection[str], days: float, note: str) -> Issued:
    """Make a token for a user.

    Args:
        typed: the id or the name of the user.
        scopes: what it may do.
        days: how long it works.
        note: what it is for; "" for nothing.
    """
    issued, what = new_token(), " ".join(sorted(scopes))
    with operator.act("token.add", issued.id, user=typed, scopes=what, days=days) as act:
        user = act.detail["user"] = user_id(act, typed)
        if note:
            note = require_name(note)
        if not scopes or not SCOPES.issuperset(scopes):
            raise ActRefused(f"A scope is one of {', '.join(sorted(SCOPES))}.")
        if not 0 < days <= MOST_DAYS:
            raise ActRefused(f"A token works for at most {MOST_DAYS} days.")
        row = {"id": issued.id, "user": user, "note": note, "sha256": issued.sha256}
        act.rows(_INSERT, **row, scopes=what, days=days)
    return issued


def revoke(operator: Operator, typed: str) -> None:
    """Revoke a token.

    Args:
        typed: its id, or the whole token, which somebody may have found; the audit gets the id.
    """
    id = id_of(typed) or typed
    with operator.act("token.revoke", id) as act:
        found = act.rows(_REVOKE, id=id) if can_be_found(id) else ()
        if not found:
            raise ActRefused(f"There is no token with the id {quoted(id)}.")
        act.detail["user"] = found[0][0]


def tokens(operator: Operator) -> list[Token]:
    """All tokens, by the names of their users."""
    return [Token(*row) for row in operator.rows(_LIST)]
