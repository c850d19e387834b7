"""Users: who they are, and to which team they belong."""

from typing import NamedTuple

from wan_mcp.tenants.administration.acts import (
    Act,
    ActRefused,
    Operator,
    can_be_found,
    quoted,
    require_name,
)
from wan_mcp.tenants.administration.teams import team_id
from wan_mcp.tenants.audit import NOW
from wan_mcp.tenants.names import LONGEST_ISSUER, LONGEST_SUBJECT, is_exact, new_id

_INSERT = f"""
INSERT INTO users (id, team_id, issuer, subject, name, created_at)
VALUES (%(id)s, %(team)s, %(issuer)s, %(subject)s, %(name)s, {NOW})
ON CONFLICT (issuer, subject) DO NOTHING RETURNING id
""".encode()
# People choose their names, so one of them may be called by the id of another.
_FIND = b"""
SELECT id, id = %(typed)s AS is_id FROM users WHERE id = %(typed)s OR name = %(typed)s
ORDER BY 2 DESC LIMIT 2
"""
_SET_TEAM = b"UPDATE users SET team_id = %(team)s WHERE id = %(id)s"
_RENAME = b"UPDATE users SET name = %(name)s WHERE id = %(id)s"
_DISABLE = f"UPDATE users SET disabled_at = COALESCE(disabled_at, {NOW}) WHERE id = %(id)s".encode()
_ENABLE = b"UPDATE users SET disabled_at = NULL WHERE id = %(id)s"
_LIST = b"""
SELECT u.id, u.name, t.name, u.issuer, u.subject, u.disabled_at IS NOT NULL,
    COALESCE(own.name, shared.name)
FROM users u LEFT JOIN teams t ON t.id = u.team_id
LEFT JOIN wallet_keys own ON own.user_id = u.id AND own.removed_at IS NULL
LEFT JOIN wallet_keys shared ON shared.team_id = u.team_id AND shared.removed_at IS NULL
ORDER BY u.name, u.id
"""


class User(NamedTuple):
    """A user.

    Attributes:
        team: the name of the team; None for none.
        issuer, subject: whom an authorization server vouches for; None if they only have tokens.
        disabled: whether they may not sign in.
        wallet: the name of the wallet that pays for them; None if there is none.
    """

    id: str
    name: str
    team: str | None
    issuer: str | None
    subject: str | None
    disabled: bool
    wallet: str | None


def add(
    operator: Operator, name: str, team: str | None, issuer: str | None, subject: str | None
) -> str:
    """Make a user. Returns the id.

    Args:
        name: several users may have the same.
        team: its id or name; None for none.
        issuer, subject: who this is at an authorization server; None for somebody with tokens.
    """
    id = new_id("u")
    with operator.act("user.add", id, name=name, team=team, issuer=issuer, subject=subject) as act:
        name = require_name(name)
        _require_person(issuer, subject)
        team = team and team_id(act, team)
        if not act.rows(_INSERT, id=id, name=name, team=team, issuer=issuer, subject=subject):
            raise ActRefused("This person of that issuer is a user already.")
    return id


def set_team(operator: Operator, typed: str, team: str | None) -> None:
    """Move a user into a team; None for into none. Their jobs stay theirs."""
    with operator.act("user.set", typed, team=team or "none") as act:
        id = act.target = user_id(act, typed)
        act.rows(_SET_TEAM, id=id, team=team and team_id(act, team))


def rename(operator: Operator, typed: str, name: str) -> None:
    """Give a user another name."""
    with operator.act("user.set", typed, name=name) as act:
        id = act.target = user_id(act, typed)
        act.rows(_RENAME, id=id, name=require_name(name))


def disable(operator: Operator, typed: str) -> None:
    """Let a user sign in no more, in any way. What they have paid for goes on."""
    with operator.act("user.disable", typed) as act:
        act.target = user_id(act, typed)
        act.rows(_DISABLE, id=act.target)


def enable(operator: Operator, typed: str) -> None:
    """Let a user sign in again."""
    with operator.act("user.enable", typed) as act:
        act.target = user_id(act, typed)
        act.rows(_ENABLE, id=act.target)


def users(operator: Operator) -> list[User]:
    """All users, by their names."""
    return [User(*row) for row in operator.rows(_LIST)]


def user_id(act: Act, typed: str) -> str:
    """The id of the user with this id, or of the only one with this name. Raises ActRefused."""
    found = act.rows(_FIND, typed=typed) if can_be_found(typed) else ()
    if not found:
        raise ActRefused(f"There is no user {quoted(typed)}.")
    if len(found) > 1 and not found[0][1]:
        raise ActRefused(f"Several users are called {quoted(typed)}: give the id.")
    return str(found[0][0])


def _require_person(issuer: str | None, subject: str | None) -> None:
    if (issuer is None) != (subject is None):
        raise ActRefused("An issuer and a subject belong together: give both, or none.")
    if issuer is None or subject is None:
        return
    if not (is_exact(issuer, LONGEST_ISSUER) and is_exact(subject, LONGEST_SUBJECT)):
        raise ActRefused("The issuer or the subject is too long, or is not printable text.")
