"""Wallets: whose PixelDojo key pays for whom. No key is ever shown again."""

import re
from typing import NamedTuple

from wan_mcp.ledger.coordination import POLLED_FOR
from wan_mcp.ledger.fingerprint import account_name
from wan_mcp.ledger.statements.coordination import SECRET
from wan_mcp.ledger.statements.lists import IS_OPEN, IS_UNSAVED
from wan_mcp.tenants.administration.acts import (
    Act,
    ActRefused,
    Operator,
    can_be_found,
    quoted,
    require_name,
)
from wan_mcp.tenants.administration.teams import team_id
from wan_mcp.tenants.administration.users import require_idle, user_id
from wan_mcp.tenants.audit import NOW
from wan_mcp.tenants.keys import KeyRing, NotOpened
from wan_mcp.tenants.seat import purpose_of
from wan_mcp.wording import counted

_INSERT = f"""
INSERT INTO wallet_keys
    (account, name, team_id, user_id, api_base, key_sealed, key_account, created_at)
VALUES (%(account)s, %(name)s, %(team)s, %(user)s, %(base)s, %(sealed)s, %(account)s, {NOW})
""".encode()
# What another wallet has already: each row says it in a sentence.
_TAKEN = b"""
SELECT CASE
    WHEN name = %(name)s THEN 'There is a wallet of that name already.'
    WHEN account = %(account)s OR key_account = %(account)s
        THEN 'Another wallet has, or had first, the same PixelDojo key.'
    ELSE 'There is a wallet for that team or user already: remove it, or give it another key.' END
FROM wallet_keys
WHERE name = %(name)s OR account = %(account)s OR key_account = %(account)s
    OR (removed_at IS NULL AND (team_id = %(team)s OR user_id = %(user)s))
ORDER BY 1 LIMIT 1
"""
_NAMED = b"""
SELECT account, name, api_base, key_sealed FROM wallet_keys
WHERE account = %(typed)s OR name = %(typed)s
"""
_FIND = _NAMED + b"FOR UPDATE"
_ALL = b"SELECT account, name, api_base, key_sealed FROM wallet_keys ORDER BY account FOR UPDATE"
_HAS_KEY = b"""
SELECT name FROM wallet_keys
WHERE (account = %(key)s OR key_account = %(key)s) AND account <> %(account)s
"""
_SET_KEY = b"""
UPDATE wallet_keys SET key_sealed = %(sealed)s, key_account = %(key)s WHERE account = %(account)s
"""
_SEAL_AGAIN = b"UPDATE wallet_keys SET key_sealed = %(sealed)s WHERE account = %(account)s"
_REMOVE = f"""
UPDATE wallet_keys SET key_sealed = NULL, key_account = NULL, removed_at = {NOW}
WHERE account = %(account)s
""".encode()
_SINCE = f"({NOW} - {POLLED_FOR.total_seconds()})"
# Those for which a server has work to do: see `ledger.statements.lists.OPEN_WALLETS`.
_UNFINISHED = f"""
SELECT (SELECT COUNT(*) FROM jobs WHERE {IS_OPEN} AND COALESCE(wallet, account) = %(account)s),
    (SELECT COUNT(*) FROM jobs WHERE {IS_UNSAVED.replace(":since", _SINCE)}
        AND account IN (SELECT name FROM workspaces WHERE workspaces.wallet = %(account)s))
""".encode()
_LIST = b"""
SELECT w.account, w.name, t.name, u.name, w.user_id, w.api_base, w.key_sealed, w.removed_at
FROM wallet_keys w LEFT JOIN teams t ON t.id = w.team_id LEFT JOIN users u ON u.id = w.user_id
ORDER BY w.name
"""

SEALED, SEALED_BEFORE, REMOVED = "sealed", "sealed with an older key", "removed"


class Wallet(NamedTuple):
    """A wallet, without its key.

    Attributes:
        account: names it in the ledger.
        team: the name of the team that it belongs to; None if it belongs to a user.
        user, user_id: the user that it belongs to; None if it belongs to a team.
        api_base: the address of PixelDojo's API that its key is for.
        key: SEALED, SEALED_BEFORE, REMOVED, or why it cannot be opened.
    """

    account: str
    name: str
    team: str | None
    user: str | None
    user_id: str | None
    api_base: str
    key: str

    @property
    def has_key(self) -> bool:
        """Whether a key is stored for it."""
        return self.key != REMOVED

    @property
    def opens(self) -> bool:
        """Whether the key ring opens its key."""
        return self.key in (SEALED, SEALED_BEFORE)


class WalletBusy(ActRefused):
    """The key of a wallet is still needed.

    Attributes:
        jobs: how many of its jobs are in progress, queued or of unknown outcome.
        videos: how many of its videos are to be saved.
    """

    def __init__(self, name: str, jobs: int, videos: int) -> None:
        work = [f"{counted(jobs, 'job')} in progress, queued or of unknown outcome"] * (jobs > 0)
        work += [f"{counted(videos, 'video')} to be saved"] * (videos > 0)
        super().__init__(
            f"The wallet {quoted(name)} has {' and '.join(work)}: wait until it has none, or add "
            "--force."
        )
        self.jobs = jobs
        self.videos = videos


class _Found(NamedTuple):
    account: str
    name: str
    api_base: str
    sealed: str | None

    @property
    def purpose(self) -> str:
        return purpose_of(self.account, self.api_base)


def add(
    operator: Operator,
    ring: KeyRing,
    name: str,
    key: str,
    api_base: str,
    *,
    team: str | None = None,
    user: str | None = None,
    force: bool = False,
) -> str:
    """Make a wallet for a team or for one user. Returns its account.

    A user's list begins anew on it, as with `users.set_team`.

    Args:
        name: no other wallet has it.
        key: a key of PixelDojo that no other wallet has.
        api_base: the root URL of the API for which the key is.
        team, user: the id or the name; one of them.
        force: do so even if jobs of the user on the wallet of their team have not ended.
    """
    detail = {
        "team": team,
        "user": user,
        "api_base": api_base,
        **({"force": True} if force else {}),
    }
    with operator.act("wallet.add", name, **detail) as act:
        name = require_name(name)
        owner = {"team": team and team_id(act, team), "user": user and user_id(act, user)}
        account = act.target = account_of(act, api_base, _checked(key))
        act.detail["name"] = name
        if taken := act.rows(_TAKEN, name=name, account=account, **owner):
            raise ActRefused(taken[0][0])
        if user and owner["user"] and not force:
            require_idle(act, user, owner["user"], None)
        sealed = ring.seal(key, purpose_of(account, api_base))
        act.rows(_INSERT, account=account, name=name, base=api_base, sealed=sealed, **owner)
    return account


def set_key(operator: Operator, ring: KeyRing, typed: str, key: str) -> None:
    """Give a wallet another key of the same PixelDojo account."""
    with operator.act("wallet.set-key", typed) as act:
        wallet = _found(act, typed)
        _require_open(wallet)
        new = account_of(act, wallet.api_base, _checked(key))
        if taken := act.rows(_HAS_KEY, key=new, account=wallet.account):
            raise ActRefused(f"The wallet {quoted(taken[0][0])} has, or had first, the same key.")
        sealed = ring.seal(key, wallet.purpose)
        act.rows(_SET_KEY, sealed=sealed, key=new, account=wallet.account)


def remove(operator: Operator, typed: str, *, force: bool = False) -> None:
    """Forget the key of a wallet for good. Nothing is bought or read with it any more.

    No payment begins on the wallet between the look for unfinished work and the removal.

    Args:
        force: do so even if it has jobs that have not ended, or videos to be saved.

    Raises:
        WalletBusy: it has, and `force` is not given.
        ActRefused: there is no such wallet, or it was removed already.
    """
    with operator.act("wallet.remove", typed, **({"force": True} if force else {})) as act:
        wallet = _found(act, typed)
        _require_open(wallet)
        if not force:
            _require_idle(act, wallet)
        act.rows(_REMOVE, account=wallet.account)


def rotate(operator: Operator, ring: KeyRing) -> int:
    """Seal every key with the first key of the ring. Returns how many were sealed anew.

    If one of them cannot be opened, none is changed.
    """
    with operator.act("wallet.rotate", "all wallets", ring_key=ring.first) as act:
        wallets = [_Found(*row) for row in act.rows(_ALL)]
        old = [
            (w, w.sealed) for w in wallets if w.sealed and not ring.is_sealed_with_first(w.sealed)
        ]
        for wallet, sealed in old:
            try:
                key = ring.open(sealed, wallet.purpose)
            except NotOpened as exc:
                raise ActRefused(
                    f"The key of the wallet {quoted(wallet.name)} cannot be opened: {exc}."
                ) from None
            again = ring.seal(key, wallet.purpose)
            act.rows(_SEAL_AGAIN, sealed=again, account=wallet.account)
        act.detail["wallets"] = len(old)
    return len(old)


def wallets(operator: Operator, ring: KeyRing | None) -> list[Wallet]:
    """All wallets, by their names.

    Args:
        ring: tells whether their keys can be opened; None if there is none.
    """
    return [
        Wallet._make([*row[:6], _state(ring, _Found(row[0], row[1], row[5], row[6]))])
        for row in operator.rows(_LIST)
    ]


def wallet_account(act: Act, typed: str) -> str:
    """The account of the wallet with this name or account. Raises ActRefused if there is none."""
    return _found(act, typed).account


def account_named(operator: Operator, typed: str) -> str:
    """The same for an operator who changes nothing."""
    return _named(operator, _NAMED, typed).account


def account_of(database: Act | Operator, api_base: str, key: str) -> str:
    """The name of a key in the ledger: the account of a wallet that begins with it."""
    [(secret,)] = database.rows(SECRET.postgres.encode())
    return account_name(bytes(secret), api_base, key)


def is_key(text: str) -> bool:
    """Whether a text can be a key of PixelDojo, and may stand in a header."""
    return re.fullmatch(r"[!-~]{1,500}", text) is not None


def _found(act: Act, typed: str) -> _Found:
    wallet = _named(act, _FIND, typed)
    act.target = wallet.account
    return wallet


def _named(database: Act | Operator, text: bytes, typed: str) -> _Found:
    found = database.rows(text, typed=typed) if can_be_found(typed) else ()
    if not found:
        raise ActRefused(f"There is no wallet {quoted(typed)}.")
    return _Found(*found[0])


def _require_open(wallet: _Found) -> None:
    if wallet.sealed is None:
        raise ActRefused(f"The wallet {quoted(wallet.name)} was removed.")


def _require_idle(act: Act, wallet: _Found) -> None:
    act.stop_payments(wallet.account)
    [(jobs, videos)] = act.rows(_UNFINISHED, account=wallet.account)
    if jobs or videos:
        raise WalletBusy(wallet.name, jobs, videos)


def _checked(key: str) -> str:
    if not is_key(key):
        raise ActRefused(
            "That is no PixelDojo key: it is empty, or has spaces or other characters."
        )
    return key


def _state(ring: KeyRing | None, wallet: _Found) -> str:
    if wallet.sealed is None:
        return REMOVED
    if ring is None:
        return "there is no key ring to open it"
    try:
        ring.open(wallet.sealed, wallet.purpose)
    except NotOpened as exc:
        return str(exc)
    return SEALED if ring.is_sealed_with_first(wallet.sealed) else SEALED_BEFORE
