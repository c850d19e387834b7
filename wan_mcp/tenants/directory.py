"""The people of a team as they are in the database."""

import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

from wan_mcp.ledger.postgres.connection import Link, Rows, limits
from wan_mcp.tenants import paid_acts
from wan_mcp.tenants.administration.acts import Operator
from wan_mcp.tenants.asking import Batches, Lines, Questions
from wan_mcp.tenants.audit import NOW, Entry
from wan_mcp.tenants.caller import ByIssuer, ByToken, Caller
from wan_mcp.tenants.keys import KeyRing, NotOpened
from wan_mcp.tenants.limits import COLUMNS, NONE, Kind, limits_in
from wan_mcp.tenants.names import LONGEST_ISSUER, LONGEST_SUBJECT, is_exact, new_id, shown
from wan_mcp.tenants.own_wallets import OwnWallets, Stored, stored_for
from wan_mcp.tenants.recent import Recent
from wan_mcp.tenants.seat import (
    NoWallet,
    Seat,
    WalletClosed,
    WalletKey,
    purpose_of,
    workspace_of,
)
from wan_mcp.tenants.tokens import id_of, is_same, sha256_of

T = TypeVar("T")

HOLDS_SECONDS = 10.0
"""How long an answer is used again (ours). A revoked token works for at most that much longer, and
most requests do not notice that the database restarts."""
MOST_KEPT = 10_000
"""How many answers are kept of each kind (ours), some kilobytes for a hundred of them."""
CONFIRMED_SECONDS = 86_400.0
"""How long a caller counts as known after a successful sign-in (ours): from one working day to the
next. A known caller does not wait behind unknown ones. Whether the token or the account is still
valid is asked all the same, whenever the last answer is older than `HOLDS_SECONDS`."""
MOST_STRANGERS = 1_000
"""About how many unknown tokens one question may contain (ours): enough for a large team whose
server has just started. Further callers are asked to try again."""
USED_SECONDS = 60
"""The last use of a token is noted at most this often (ours)."""

_TOKEN = f"""
SELECT t.id, t.sha256, t.scopes, u.id, u.name, u.team_id, t.expires_at - {NOW}
FROM tokens t JOIN users u ON u.id = t.user_id
WHERE t.id = ANY(%(ids)s) AND t.revoked_at IS NULL AND t.expires_at > {NOW}
    AND u.disabled_at IS NULL
""".encode()
# The commit need not wait for the disk: if this is lost, the next use of the token stores it.
_USED = f"""
SET LOCAL synchronous_commit = off;
UPDATE tokens SET used_at = {NOW}
WHERE id = ANY(%(ids)s) AND (used_at IS NULL OR used_at < {NOW} - {USED_SECONDS})
""".encode()
_PERSON = b"""
SELECT id, name, team_id, disabled_at IS NULL FROM users
WHERE issuer = %(issuer)s AND subject = %(subject)s
"""
_JOIN = f"""
INSERT INTO users (id, team_id, issuer, subject, name, created_at)
SELECT %(id)s, t.id, %(issuer)s, %(subject)s, %(name)s, {NOW}
FROM teams t WHERE t.issuer = %(issuer)s
ON CONFLICT (issuer, subject) DO NOTHING RETURNING team_id
""".encode()
_RENAME = b"UPDATE users SET name = %(name)s WHERE id = %(id)s AND name <> %(name)s RETURNING id"
_WALLET = b"""
SELECT w.account, w.api_base, w.key_sealed, w.user_id IS NOT NULL, u.team_id, COALESCE(t.name, ''),
    (SELECT version FROM people_version)
FROM users u JOIN wallet_keys w ON w.user_id = u.id OR w.team_id = u.team_id
LEFT JOIN teams t ON t.id = u.team_id
WHERE u.id = %(user)s AND u.disabled_at IS NULL AND w.removed_at IS NULL
ORDER BY w.user_id IS NULL LIMIT 1
"""
_OPEN = f"""
WITH opened AS (
    INSERT INTO user_workspaces (name, user_id, wallet, opened_at)
    VALUES (%(name)s, %(user)s, %(wallet)s, {NOW}) ON CONFLICT DO NOTHING RETURNING name
)
UPDATE people_version SET version = version + 1 WHERE EXISTS (SELECT 1 FROM opened);
SELECT o.name, o.user_id FROM user_workspaces o JOIN users u ON u.id = o.user_id
WHERE u.id = %(user)s OR u.team_id = %(team)s
""".encode()
_KEY = b"""
SELECT api_base, key_sealed FROM wallet_keys WHERE account = %(wallet)s AND removed_at IS NULL
"""
_KEYS = b"SELECT account, api_base, key_sealed FROM wallet_keys WHERE removed_at IS NULL"
_LIMITS = f"""
SELECT kind, {COLUMNS} FROM limits
WHERE (kind, id) IN (('user', %(user)s), ('team', %(team)s), ('wallet', %(wallet)s))
""".encode()


_Person = tuple[str, str]
"""The issuer and the subject of a person who signed in at an authorization server."""
_Token = tuple[str, bytes]
"""The id of a token, and the hash of the whole."""


class StoredDirectory:
    """`Directory`, and what else a server needs to know about its callers.

    Any client can send invented tokens, as often as it likes. So a token or a person that has not
    signed in at this server before is a stranger. Questions about strangers have a connection of
    their own, and one question covers all tokens that have arrived since the last one. All other
    questions, such as those before a payment, never wait for them.

    Answers about wrong tokens are not stored: each invented token is a new one, and a token that an
    operator has just made must work at once.

    Args:
        url: the address of the database, whose tables exist already.
        ring: opens the keys of the wallets.
        ticks: seconds that never jump.

    Attributes:
        own_wallets: the wallets that users make themselves.
    """

    def __init__(
        self, url: str, ring: KeyRing, ticks: Callable[[], float] = time.monotonic
    ) -> None:
        self._questions = Questions(url, ticks)
        self._lines = Lines()
        self._strangers = Questions(url, ticks)
        self._new_tokens = Batches(self._ask_about, MOST_STRANGERS)
        self._confirmed: Recent[bytes | _Person, str] = Recent(MOST_KEPT, ticks)
        self._writing = Questions(url, ticks)  # a failure to write must not stop the questions
        self._ring = ring
        self.own_wallets = OwnWallets(url, ring)
        self._tokens: Recent[bytes, Caller] = Recent(MOST_KEPT, ticks)
        self._people: Recent[tuple[str, str, str], Caller] = Recent(MOST_KEPT, ticks)
        self._seats: Recent[str, Seat] = Recent(MOST_KEPT, ticks)

    async def token(self, secret: str) -> Caller | None:
        """See `Directory`."""
        id = id_of(secret)
        if id is None:
            return None
        sha256 = sha256_of(secret)
        if known := self._tokens.get(sha256):
            return known
        token = (id, sha256)
        if (user := self._confirmed.get(sha256)) is None:
            return self._noted(sha256, await self._new_tokens.find(token))
        [found] = await self._known(user, lambda link: self._found(link, [token]))
        return self._noted(sha256, found)

    async def person(self, issuer: str, subject: str, name: str) -> Caller | None:
        """See `Directory`."""
        if not (is_exact(issuer, LONGEST_ISSUER) and is_exact(subject, LONGEST_SUBJECT)):
            return None
        name = shown(name)
        if known := self._people.get((issuer, subject, name)):
            return known
        who = (issuer, subject)

        def find(link: Link) -> Caller | None:
            return self._person(link, issuer, subject, name)

        if (user := self._confirmed.get(who)) is None:
            return self._noted(who, await self._strangers.ask(find))
        return self._noted(who, await self._known(user, find))

    async def seat(self, user: str, *, fresh: bool = False) -> Seat:
        """What a user works with.

        It is the user's own wallet if they have one, otherwise that of their team, and never any
        other one.

        Args:
            user: the id.
            fresh: ask the database now, as before a payment: limits may have changed.

        Raises:
            NoWallet: there is neither, or the user is disabled.
            WalletClosed: the key ring of this server does not open its key.
            IdentityUnknown: it cannot be known now.
        """
        if not fresh and (known := self._seats.get(user)):
            return known
        return await self._known(user, lambda link: self._seat(link, user, fresh))

    async def stored(self, user: str) -> Stored:
        """Which key pays for a user alone, according to the database now.

        Args:
            user: the id.

        Raises:
            IdentityUnknown: it cannot be known now.
        """
        return await self._known(user, lambda link: stored_for(Operator(link, user), user)[0])

    async def key(self, wallet: str) -> WalletKey:
        """The key of a wallet, for work that goes on while none of its users calls.

        Args:
            wallet: its account.

        Raises:
            NoWallet: there is no such wallet, or its key was removed.
            WalletClosed: the key ring of this server does not open its key.
            IdentityUnknown: it cannot be known now.
        """
        return await self._questions.ask(lambda link: self._key(link, wallet))

    async def closed(self) -> int:
        """How many wallets this server cannot open although another server may.

        They count if the key ring lacks the key of any of them, or opens no wallet at all.
        Otherwise what is stored for them is damaged, and no other server could open it either.

        Raises:
            IdentityUnknown: it cannot be known now.
        """
        return await self._questions.ask(self._closed)

    async def write_paid_acts(self, signed_in: Mapping[str, str | None]) -> bool:
        """Write the rows of the audit that paid acts do not have yet: see `paid_acts.write`.

        Raises:
            IdentityUnknown: they cannot be written now.
        """
        return await self._writing.ask(lambda link: paid_acts.write(link, signed_in))

    async def aclose(self) -> None:
        """Close the connections."""
        await self._questions.aclose()
        await self._strangers.aclose()
        await self._writing.aclose()

    async def _known(self, user: str, work: Callable[[Link], T]) -> T:
        """Ask about a user whom this server knows."""
        async with self._lines.turn(user):
            return await self._questions.ask(work)

    async def _ask_about(self, strangers: Sequence[_Token]) -> Sequence[Caller | None]:
        return await self._strangers.ask(lambda link: self._found(link, strangers))

    def _noted(self, who: bytes | _Person, found: Caller | None) -> Caller | None:
        """The same; stores whether the caller is known from now on."""
        if found is None:
            self._confirmed.forget(who)
        else:
            self._confirmed.put(who, found.user, CONFIRMED_SECONDS)
        return found

    # The methods below run in the threads of the questions.

    def _found(self, link: Link, tokens: Sequence[_Token]) -> Sequence[Caller | None]:
        rows = {row[0]: row[1:] for row in _ask(link, _TOKEN, ids=[id for id, _ in tokens])}
        found = [self._owner(id, sha256, rows.get(id)) for id, sha256 in tokens]
        if any(found):
            right = [id for (id, _), caller in zip(tokens, found, strict=True) if caller]
            _ask(link, _USED, ids=right)
        return found

    def _owner(self, id: str, sha256: bytes, row: Sequence[Any] | None) -> Caller | None:
        # Compared also without a row: the time of the answer must not show which ids exist.
        if not is_same(sha256, bytes(row[0]) if row else bytes(len(sha256))) or row is None:
            return None
        (_, scopes, user, name, team, seconds) = row
        caller = Caller(user, name, team, frozenset(scopes.split()), ByToken(id))
        self._tokens.put(sha256, caller, min(HOLDS_SECONDS, seconds))
        return caller

    def _person(self, link: Link, issuer: str, subject: str, name: str) -> Caller | None:
        if known := self._people.get((issuer, subject, name)):
            return known
        rows = _ask(link, _PERSON, issuer=issuer, subject=subject)
        if not rows:
            self._join(link, issuer, subject, name)
            rows = _ask(link, _PERSON, issuer=issuer, subject=subject)
        if not rows or not rows[0][3]:
            return None
        [(id, stored, team, _)] = rows
        if name and name != stored:
            self._rename(link, id, name, issuer)
        caller = Caller(id, name or stored, team, frozenset(), ByIssuer(issuer, subject))
        self._people.put((issuer, subject, name), caller, HOLDS_SECONDS)
        return caller

    def _join(self, link: Link, issuer: str, subject: str, name: str) -> None:
        """Make a person a user, if a team accepts all users of their issuer."""
        id = new_id("u")
        name = name or shown(subject) or id
        with link.transaction():
            known = {"id": id, "issuer": issuer, "subject": subject, "name": name}
            joined = _ask(link, _JOIN, **known)
            if joined:
                detail = {"team": joined[0][0], "issuer": issuer, "subject": subject}
                Entry.new(id, "user.join", id, "done", detail).write(link)

    def _rename(self, link: Link, id: str, name: str, issuer: str) -> None:
        """Give a user the name that their issuer says. Of two servers, one writes the row."""
        with link.transaction():
            if _ask(link, _RENAME, id=id, name=name):
                detail = {"name": name, "issuer": issuer}
                Entry.new(id, "user.set", id, "done", detail).write(link)

    def _seat(self, link: Link, user: str, fresh: bool) -> Seat:
        if not fresh and (known := self._seats.get(user)):
            return known
        rows = _ask(link, _WALLET, user=user)
        if not rows:
            self._seats.forget(user)
            raise NoWallet("You have no PixelDojo wallet on this server, and no other one is used.")
        # It is asked first: if something changes meanwhile, the rest is newer than this version.
        [(wallet, base, sealed, own, team, team_name, version)] = rows
        key = self._opened(wallet, base, sealed)
        ids = {"user": user, "team": team, "wallet": wallet}
        name = workspace_of(user, wallet)
        opened = _ask(link, _OPEN, **ids, name=name)
        allowed = {row[0]: limits_in(row[1:]) for row in _ask(link, _LIMITS, **ids)}
        seat = Seat(
            *(name, wallet, user, team, team_name, base, key, own),
            limits={kind: allowed.get(kind, NONE) for kind in Kind},
            of_user=frozenset(each for each, owner in opened if owner == user),
            of_team=frozenset(each for each, _ in opened),
            as_of=version,
        )
        self._seats.put(user, seat, HOLDS_SECONDS)
        return seat

    def _key(self, link: Link, wallet: str) -> WalletKey:
        rows = _ask(link, _KEY, wallet=wallet)
        if not rows:
            raise NoWallet("The wallet has no key any more.")
        [(base, sealed)] = rows
        return WalletKey(wallet, base, self._opened(wallet, base, sealed))

    def _closed(self, link: Link) -> int:
        keys = [(sealed, purpose_of(wallet, base)) for wallet, base, sealed in _ask(link, _KEYS)]
        closed = [sealed for sealed, purpose in keys if not self._ring.opens(sealed, purpose)]
        lacks = not all(self._ring.has_key_of(sealed) for sealed in closed)
        return len(closed) if lacks or len(closed) == len(keys) else 0

    def _opened(self, wallet: str, base: str, sealed: str) -> str:
        try:
            return self._ring.open(sealed, purpose_of(wallet, base))
        except NotOpened as exc:
            raise WalletClosed(f"The key of your wallet cannot be opened: {exc}.") from None


def _ask(link: Link, text: bytes, **values: object) -> Rows:
    """The rows of the last of these statements, which together may take only so long."""
    return link.run((limits(), None), (text, values))[-1]
