"""Teams: who shares a wallet and its limits."""

from typing import NamedTuple

from wan_mcp.tenants.administration.acts import (
    Act,
    ActRefused,
    Operator,
    can_be_found,
    quoted,
    require_name,
)
from wan_mcp.tenants.audit import NOW
from wan_mcp.tenants.names import LONGEST_ISSUER, is_exact, new_id

_INSERT = f"""
INSERT INTO teams (id, name, issuer, created_at) VALUES (%(id)s, %(name)s, %(issuer)s, {NOW})
ON CONFLICT DO NOTHING RETURNING id
""".encode()
_FIND = b"SELECT id FROM teams WHERE id = %(typed)s OR name = %(typed)s"
_OF_ISSUER = b"SELECT name FROM teams WHERE issuer = %(issuer)s AND id <> %(id)s"
_SET_ISSUER = b"UPDATE teams SET issuer = %(issuer)s WHERE id = %(id)s"
_LIST = b"""
SELECT t.id, t.name, t.issuer, COUNT(u.id), MAX(w.name)
FROM teams t LEFT JOIN users u ON u.team_id = t.id AND u.disabled_at IS NULL
LEFT JOIN wallet_keys w ON w.team_id = t.id AND w.removed_at IS NULL
GROUP BY t.id ORDER BY t.name
"""


class Team(NamedTuple):
    """A team.

    Attributes:
        issuer: the authorization server whose people may all join; None for none.
        users: how many are in it and not disabled.
        wallet: the name of its wallet; None if it has none.
    """

    id: str
    name: str
    issuer: str | None
    users: int
    wallet: str | None


def add(operator: Operator, name: str, issuer: str | None) -> str:
    """Make a team. Returns its id.

    Args:
        name: no other team has it.
        issuer: the authorization server whose users all join the team when they first sign in;
            None: only users whom an operator adds.
    """
    id = new_id("t")
    with operator.act("team.add", id, name=name, issuer=issuer) as act:
        name = require_name(name)
        _require_issuer(act, issuer, id)
        if not act.rows(_INSERT, id=id, name=name, issuer=issuer):
            raise ActRefused(f"There is a team {quoted(name)} already.")
    return id


def set_issuer(operator: Operator, typed: str, issuer: str | None) -> None:
    """Let all users of an authorization server join from now on; None: only those added here."""
    with operator.act("team.set", typed, issuer=issuer or "none") as act:
        id = act.target = team_id(act, typed)
        _require_issuer(act, issuer, id)
        act.rows(_SET_ISSUER, id=id, issuer=issuer)


def teams(operator: Operator) -> list[Team]:
    """All teams, by their names."""
    return [Team(*row) for row in operator.rows(_LIST)]


def team_id(act: Act, typed: str) -> str:
    """The id of the team with this id or name. Raises ActRefused if there is none."""
    found = act.rows(_FIND, typed=typed) if can_be_found(typed) else ()
    if not found:
        raise ActRefused(f"There is no team {quoted(typed)}.")
    return str(found[0][0])


def _require_issuer(act: Act, issuer: str | None, id: str) -> None:
    if issuer is None:
        return
    if not (issuer.startswith("https://") and is_exact(issuer, LONGEST_ISSUER)):
        raise ActRefused("An issuer is the https:// address of an authorization server.")
    if taken := act.rows(_OF_ISSUER, issuer=issuer, id=id):
        raise ActRefused(f"The people of this issuer join the team {quoted(taken[0][0])} already.")
