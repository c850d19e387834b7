"""Users: who they are, and to which team they belong."""

from typing import NamedTuple

from wan_mcp.ledger.statements.lists import IS_OPEN
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
from wan_mcp.wording import counted

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
# On the wallet of their team, if that is the one which they work with.
_COUNT_OPEN = f"""
SELECT COUNT(*) FROM users u JOIN wallet_keys w ON w.team_id = u.team_id
JOIN user_workspaces o ON o.user_id = u.id AND o.wallet = w.account
JOIN jobs ON jobs.account = o.name
WHERE u.id = %(id)s AND u.team_id IS DISTINCT FROM %(team)s AND w.removed_at IS NULL
    AND NOT EXISTS (SELECT 1 FROM wallet_keys WHERE user_id = u.id AND removed_at IS NULL)
    AND {IS_OPEN}
""".encode()
_WALLET_OF_TEAM = b"""
SELECT w.account FROM users u JOIN wallet_keys w ON w.team_id = u.team_id
WHERE u.id = %(id)s AND w.removed_at IS NULL
"""
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
        issuer, subject: identify the person at an authorization server; None for a user who has
            only tokens.
    """
    id = new_id("u")
    with operator.act("user.add", id, name=name, team=team, issuer=issuer, subject=subject) as act:
        name = require_name(name)
        _require_person(issuer, subject)
        team = team and team_id(act, team)
        if not act.rows(_INSERT, id=id, name=name, team=team, issuer=issuer, subject=subject):
            raise ActRefused("This person of that issuer is a user already.")
    return id


def set_team(operator: Operator, typed: str, team: str | None, *, force: bool = False) -> None:
    """Move a user into a team, or with None out of their team.

    On another wallet their list begins anew. Their earlier jobs stay recorded, but the user does
    not find them, and an equal request is a new one, which is paid.

    Args:
        force: do so even if jobs of the user on the wallet that they leave have not ended.
    """
    detail = {"force": True} if force else {}
    with operator.act("user.set", typed, team=team or "none", **detail) as act:
        id = act.target = user_id(act, typed)
        into = team and team_id(act, team)
        if not force:
            require_idle(act, typed, id, into)
        act.rows(_SET_TEAM, id=id, team=into)


def rename(operator: Operator, typed: str, name: str) -> None:
    """Give a user another name."""
    with operator.act("user.set", typed, name=name) as act:
        id = act.target = user_id(act, typed)
        act.rows(_RENAME, id=id, name=require_name(name))


def disable(operator: Operator, typed: str) -> None:
    """Keep a user from signing in, in any way. The jobs that they have paid for continue."""
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


def user_id(act: Act | Operator, typed: str) -> str:
    """The id of the user with this id, or of the only one with this name. Raises ActRefused."""
    found = act.rows(_FIND, typed=typed) if can_be_found(typed) else ()
    if not found:
        raise ActRefused(f"There is no user {quoted(typed)}.")
    if len(found) > 1 and not found[0][1]:
        raise ActRefused(f"Several users are called {quoted(typed)}: give the id.")
    return str(found[0][0])


def require_idle(act: Act, typed: str, id: str, team: str | None) -> None:
    """Raises ActRefused while jobs of a user on the wallet of their team have not ended.

    A user with a wallet of their own does not work with that of the team.

    Args:
        typed: what the operator calls the user.
        id: the user.
        team: the id of the team that they are to be in; None if they leave the wallet of their
            team in any case.
    """
    for (wallet,) in act.rows(_WALLET_OF_TEAM, id=id):
        act.stop_payments(wallet)
    [(count,)] = act.rows(_COUNT_OPEN, id=id, team=team)
    if count:
        raise ActRefused(
            f"The user {quoted(typed)} has {counted(count, 'job')} in progress, queued or of "
            "unknown outcome on the wallet that they would leave: wait until they have ended, or "
            "add --force."
        )


def _require_person(issuer: str | None, subject: str | None) -> None:
    if (issuer is None) != (subject is None):
        raise ActRefused("An issuer and a subject belong together: give both, or none.")
    if issuer is None or subject is None:
        return
    if not (is_exact(issuer, LONGEST_ISSUER) and is_exact(subject, LONGEST_SUBJECT)):
        raise ActRefused("The issuer or the subject is too long, or is not printable text.")
