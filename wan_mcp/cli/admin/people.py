"""`wan-mcp admin user`, `team`, `wallet`, `token`, `limits`, `spend`, `audit` and `jobs`."""

import argparse
import getpass
import json
import os
import socket
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

from wan_mcp.cli.admin import jobs
from wan_mcp.cli.admin.database import database_of
from wan_mcp.cli.admin.people_line import LIMITS
from wan_mcp.cli.admin.showing import Answer, date_of, table
from wan_mcp.cli.setup import asked_secretly
from wan_mcp.ledger.contract import LedgerUnavailable
from wan_mcp.settings import Settings
from wan_mcp.tenants.administration import (
    allowances,
    spending,
    teams,
    tokens,
    users,
    wallets,
)
from wan_mcp.tenants.administration.acts import ActRefused, Operator
from wan_mcp.tenants.audit import entries
from wan_mcp.tenants.caller import READ, SCOPES
from wan_mcp.tenants.keys import SETTING, BadKeyRing, KeyRing
from wan_mcp.tenants.limits import Kind, Limits
from wan_mcp.wording import counted, number

FAILED = 1
"""The exit code if a command did not do what it was asked."""
LONGEST_KEY = 10_000
"""How many characters are read at most where a key is expected (ours)."""


def run_people(
    parsed: argparse.Namespace,
    settings: Settings,
    write: Callable[[str], object],
    complain: Callable[[str], object],
) -> int:
    """Run the command that was typed, see `people_line`. Returns the exit code.

    Args:
        write: shows a text.
        complain: shows why a command failed, on standard error.
    """
    command = _COMMANDS[f"{parsed.action} {getattr(parsed, 'verb', '')}".strip()]
    try:
        with database_of(settings) as link:
            from wan_mcp.ledger.postgres.migrations import require_current

            require_current(link)
            answer = command(_Desk(Operator(link, actor()), settings), parsed)
    except LedgerUnavailable as exc:
        complain(f"{exc.what} {exc.next_step}".strip())
        return FAILED
    except (ActRefused, BadKeyRing, OSError) as exc:
        complain(f"{str(exc).rstrip('.')}. Nothing was changed.")
        return FAILED
    write((json.dumps(answer.facts, indent=2) if parsed.json else answer.text) + "\n")
    return 0


class _Desk(NamedTuple):
    """The objects that the commands need."""

    operator: Operator
    settings: Settings

    def ring(self) -> KeyRing:
        """The key ring of the settings. Raises BadKeyRing if there is none."""
        text = self.settings.key_ring.get_secret_value()
        if not text:
            raise BadKeyRing(
                f"{SETTING}_FILE is not set: it names the file with the key ring, without which no "
                "PixelDojo key is stored."
            )
        return KeyRing.read(text)


def _add_user(desk: _Desk, typed: argparse.Namespace) -> Answer:
    id = users.add(desk.operator, typed.name, typed.team, typed.issuer, typed.subject)
    return Answer({"user": id}, f"The user {id} may sign in.")


def _set_user(desk: _Desk, typed: argparse.Namespace) -> Answer:
    if typed.name is not None:
        users.rename(desk.operator, typed.user, typed.name)
    else:
        team = None if typed.no_team else typed.team
        users.set_team(desk.operator, typed.user, team, force=typed.force)
    return Answer({"done": True}, "The user was changed.")


def _disable_user(desk: _Desk, typed: argparse.Namespace) -> Answer:
    users.disable(desk.operator, typed.user)
    text = "The user may not sign in any more. Servers notice it within some seconds."
    return Answer({"done": True}, text)


def _enable_user(desk: _Desk, typed: argparse.Namespace) -> Answer:
    users.enable(desk.operator, typed.user)
    return Answer({"done": True}, "The user may sign in again.")


def _list_users(desk: _Desk, typed: argparse.Namespace) -> Answer:
    found = users.users(desk.operator)
    rows = [
        (
            u.id,
            u.name,
            u.team,
            u.wallet,
            u.issuer and f"{u.subject} at {u.issuer}",
            _off(u.disabled),
        )
        for u in found
    ]
    heads = ("ID", "NAME", "TEAM", "WALLET", "SIGNS IN AS", "")
    return Answer({"users": _facts(found)}, table(heads, rows))


def _add_team(desk: _Desk, typed: argparse.Namespace) -> Answer:
    id = teams.add(desk.operator, typed.name, typed.issuer)
    return Answer({"team": id}, f"The team {id} has no users and no wallet yet.")


def _set_team(desk: _Desk, typed: argparse.Namespace) -> Answer:
    teams.set_issuer(desk.operator, typed.team, typed.issuer)
    return Answer({"done": True}, "The team was changed.")


def _list_teams(desk: _Desk, typed: argparse.Namespace) -> Answer:
    found = teams.teams(desk.operator)
    rows = [(t.id, t.name, t.users, t.wallet, t.issuer) for t in found]
    heads = ("ID", "NAME", "USERS", "WALLET", "WHO MAY JOIN")
    return Answer({"teams": _facts(found)}, table(heads, rows))


def _add_wallet(desk: _Desk, typed: argparse.Namespace) -> Answer:
    ring, key, base = desk.ring(), _key(typed.key_file), desk.settings.api_base
    owner = {"team": typed.team, "user": typed.user}
    account = wallets.add(desk.operator, ring, typed.name, key, base, **owner, force=typed.force)
    return Answer({"wallet": account}, f"The wallet {account} has its key, sealed.")


def _set_key(desk: _Desk, typed: argparse.Namespace) -> Answer:
    wallets.set_key(desk.operator, desk.ring(), typed.wallet, _key(typed.key_file))
    return Answer({"done": True}, "The wallet has the other key. Servers use it within seconds.")


def _remove_wallet(desk: _Desk, typed: argparse.Namespace) -> Answer:
    wallets.remove(desk.operator, typed.wallet, force=typed.force)
    return Answer(
        {"done": True}, "The key is gone, and nothing is bought or read with it any more."
    )


def _rotate(desk: _Desk, typed: argparse.Namespace) -> Answer:
    ring = desk.ring()
    done = wallets.rotate(desk.operator, ring)
    text = f"{counted(done, 'key')} sealed anew: all of them need the key {ring.first} only."
    return Answer({"sealed_anew": done, "ring_key": ring.first}, text)


def _list_wallets(desk: _Desk, typed: argparse.Namespace) -> Answer:
    ring = desk.ring() if desk.settings.key_ring.get_secret_value() else None
    found = wallets.wallets(desk.operator, ring)
    rows = [(w.name, w.team, w.user, w.key, w.api_base, w.account) for w in found]
    heads = ("NAME", "TEAM", "USER", "KEY", "API", "ACCOUNT")
    return Answer({"wallets": _facts(found)}, table(heads, rows))


def _add_token(desk: _Desk, typed: argparse.Namespace) -> Answer:
    scopes = {READ} if typed.read_only else SCOPES
    days = tokens.DAYS if typed.days is None else typed.days
    issued = tokens.add(desk.operator, typed.user, scopes, days, typed.note)
    facts = {"id": issued.id, "token": issued.text, "days": days, "scopes": sorted(scopes)}
    lasts = f"It works for {counted(days, 'day')}, and is not shown again."
    return Answer(facts, f"{issued.text}\n{lasts}")


def _revoke(desk: _Desk, typed: argparse.Namespace) -> Answer:
    tokens.revoke(desk.operator, typed.id)
    text = "The token works no more. Servers notice it within some seconds."
    return Answer({"done": True}, text)


def _list_tokens(desk: _Desk, typed: argparse.Namespace) -> Answer:
    found = tokens.tokens(desk.operator)
    rows = [
        (t.id, t.user, t.state, date_of(t.expires_at), date_of(t.used_at), t.scopes, t.note)
        for t in found
    ]
    heads = ("ID", "USER", "STATE", "EXPIRES", "LAST USED", "SCOPES", "NOTE")
    return Answer({"tokens": _facts(found)}, table(heads, rows))


def _set_limits(desk: _Desk, typed: argparse.Namespace) -> Answer:
    names = [limit.replace("-", "_") for limit in LIMITS]
    given = {name: getattr(typed, name) for name in names if getattr(typed, name) is not None}
    if not given:
        raise ActRefused("No limit was given.")
    kind = next(kind for kind in Kind if getattr(typed, kind) is not None)
    changes = {name: None if value == "none" else value for name, value in given.items()}
    now = allowances.set_limits(desk.operator, kind, getattr(typed, kind), changes)
    return Answer({"limits": now._asdict()}, f"The limits are now: {_limits(now)}.")


def _list_limits(desk: _Desk, typed: argparse.Namespace) -> Answer:
    found = allowances.allowances(desk.operator)
    rows = [(a.kind, a.name, a.id, _limits(a.limits)) for a in found]
    facts = [{**a._asdict(), "limits": a.limits._asdict()} for a in found]
    return Answer({"limits": facts}, table(("OF", "NAME", "ID", "LIMITS"), rows))


def _spend(desk: _Desk, typed: argparse.Namespace) -> Answer:
    found = spending.spending(desk.operator, typed.days)
    rows = [
        (s.user, s.user_id, s.team, s.wallet, s.jobs, number(s.credits), number(s.expected))
        for s in found
    ]
    heads = ("USER", "ID", "TEAM", "WALLET", "JOBS", "CREDITS", "ONLY EXPECTED")
    return Answer({"days": typed.days, "spent": _facts(found)}, table(heads, rows))


def _audit(desk: _Desk, typed: argparse.Namespace) -> Answer:
    since = time.time() - typed.days * 86_400
    found = entries(desk.operator.link, typed.about, since, typed.limit)
    rows = [
        (date_of(e.at), e.actor, e.action, e.target, e.result, json.dumps(e.detail)) for e in found
    ]
    heads = ("WHEN", "WHO", "WHAT", "TO", "RESULT", "DETAIL")
    return Answer({"audit": _facts(found)}, table(heads, rows))


_COMMANDS: Mapping[str, Callable[[_Desk, argparse.Namespace], Answer]] = {
    "user add": _add_user,
    "user set": _set_user,
    "user disable": _disable_user,
    "user enable": _enable_user,
    "user list": _list_users,
    "team add": _add_team,
    "team set": _set_team,
    "team list": _list_teams,
    "wallet add": _add_wallet,
    "wallet set-key": _set_key,
    "wallet remove": _remove_wallet,
    "wallet rotate": _rotate,
    "wallet list": _list_wallets,
    "token add": _add_token,
    "token revoke": _revoke,
    "token list": _list_tokens,
    "limits set": _set_limits,
    "limits list": _list_limits,
    "spend": _spend,
    "audit": _audit,
    "jobs": lambda desk, typed: jobs.listed(desk.operator, desk.settings, typed),
    "job": lambda desk, typed: jobs.shown(desk.operator, desk.settings, typed),
}


def actor() -> str:
    """Who acts, according to the system: environment variables can be set to any name."""
    if sys.platform == "win32":
        name = getpass.getuser()
    else:
        import pwd

        try:
            name = pwd.getpwuid(os.getuid()).pw_name
        except KeyError:  # as in a container with a user of its own
            name = f"uid {os.getuid()}"
    return f"admin:{name}@{socket.gethostname()}"


def _key(file: Path | None) -> str:
    """A PixelDojo key: from a file, a hidden answer at the terminal, or standard input."""
    if file is not None:
        with file.open(encoding="ascii", errors="replace") as opened:
            return opened.read(LONGEST_KEY).strip()
    if ask := asked_secretly():
        return ask("PixelDojo key (it is not shown): ").strip()
    return sys.stdin.readline(LONGEST_KEY).strip() if sys.stdin else ""


def _facts(rows: Sequence[Any]) -> list[dict[str, object]]:
    """Rows as data for programs, with dates in ISO 8601."""
    return [{name: _fact(name, value) for name, value in row._asdict().items()} for row in rows]


def _fact(name: str, value: object) -> object:
    is_date = name == "at" or name.endswith("_at")
    if is_date and isinstance(value, float):
        return datetime.fromtimestamp(value, UTC).isoformat(timespec="seconds")
    return value


def _off(disabled: bool) -> str:
    return "disabled" if disabled else ""


def _limits(limits: Limits) -> str:
    named = zip(LIMITS, limits, strict=True)
    said = [f"{name} {number(value)}" for name, value in named if value is not None]
    return ", ".join(said) or "none"
