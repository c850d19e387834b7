"""Who calls, and with which wallet: what the database says, while it can be asked."""

import dataclasses
from collections.abc import AsyncIterator, Callable

import anyio
import pytest

from tests.postgres.proxy import Fault, Proxy, proxy_to
from tests.postgres.server import Server
from tests.tenants.team import BASE, ISSUER, KEY, Blue, Time, ring, rows
from wan_mcp.tenants import asking
from wan_mcp.tenants.administration import allowances, teams, tokens, users, wallets
from wan_mcp.tenants.administration.acts import Operator
from wan_mcp.tenants.audit import Entry, entries
from wan_mcp.tenants.caller import READ, SCOPES, ByIssuer, ByToken, Caller, IdentityUnknown
from wan_mcp.tenants.directory import HOLDS_SECONDS, StoredDirectory
from wan_mcp.tenants.keys import KeyRing
from wan_mcp.tenants.limits import Kind, Limits
from wan_mcp.tenants.recent import Recent
from wan_mcp.tenants.seat import NoWallet, WalletClosed

pytestmark = pytest.mark.anyio


# Tokens


async def test_token_is_its_user(blue: Blue, directory: StoredDirectory) -> None:
    """A caller has no secret: it may be logged as a whole (ours)."""
    issued = blue.token("Ann")
    found = await directory.token(issued.text)

    assert found == Caller(blue.ann, "Ann", blue.team, SCOPES, ByToken(issued.id))
    assert issued.text not in repr(found)


async def test_token_that_may_only_read_has_that_scope_alone(
    blue: Blue, directory: StoredDirectory
) -> None:
    issued = tokens.add(blue.operator, "Bob", {READ}, 1, "a script")
    found = await directory.token(issued.text)

    assert found
    assert found.scopes == {READ}


async def test_token_with_another_secret_is_nobody(blue: Blue, directory: StoredDirectory) -> None:
    """Its id is no secret: lists and the audit show it (ours)."""
    issued = blue.token("Ann")
    assert await directory.token(issued.text)
    other = "a" if issued.text[-1] != "a" else "b"

    assert await directory.token(issued.text[:-1] + other) is None
    assert await directory.token("wan_abcdefghjk_" + "x" * 43) is None
    assert await directory.token("x" * 100_000) is None


async def test_expired_token_is_nobody_even_if_it_was_just_used(
    blue: Blue, directory: StoredDirectory, ticks: Time
) -> None:
    """The database's clock says when, and an answer holds no longer than the token (ours)."""
    issued = blue.token("Ann", days=3 / 86_400)
    assert await directory.token(issued.text)
    blue.operator.rows(b"UPDATE tokens SET expires_at = 1")
    ticks.now += 3

    assert await directory.token(issued.text) is None


async def test_revoked_token_is_nobody_within_seconds(
    blue: Blue, directory: StoredDirectory, ticks: Time
) -> None:
    issued = blue.token("Ann")
    assert await directory.token(issued.text)
    tokens.revoke(blue.operator, issued.id)
    ticks.now += HOLDS_SECONDS

    assert await directory.token(issued.text) is None


async def test_disabled_user_is_nobody_in_any_way(
    blue: Blue, directory: StoredDirectory, ticks: Time
) -> None:
    issued = blue.token("Ann")
    assert await directory.token(issued.text)
    users.disable(blue.operator, "Ann")
    ticks.now += HOLDS_SECONDS

    assert await directory.token(issued.text) is None
    assert await directory.person(ISSUER, "ann-1", "Ann") is None
    with pytest.raises(NoWallet):
        await directory.seat(blue.ann)
    users.enable(blue.operator, "Ann")
    assert await directory.token(issued.text)


async def test_last_use_is_noted_once_a_minute(
    blue: Blue, directory: StoredDirectory, ticks: Time
) -> None:
    """A write for each request would cost more than the look-up (ours)."""
    issued = blue.token("Ann")
    noted = []
    for back in (0, 30, 61):
        blue.operator.rows(f"UPDATE tokens SET used_at = used_at - {back}".encode())
        before = tokens.tokens(blue.operator)[0].used_at
        ticks.now += HOLDS_SECONDS
        await directory.token(issued.text)
        noted.append(tokens.tokens(blue.operator)[0].used_at != before)

    assert noted == [True, False, True]


async def test_known_token_needs_no_database(
    blue: Blue, directory: StoredDirectory, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Most requests of a conversation follow each other closely (ours)."""
    issued = blue.token("Ann")
    await directory.token(issued.text)
    monkeypatch.setattr(asking.Questions, "ask", None)

    assert await directory.token(issued.text)


async def test_answers_that_are_kept_do_not_grow_without_end() -> None:
    recent: Recent[int, int] = Recent(2)
    for number in range(5):
        recent.put(number, number, 60)

    assert [recent.get(number) for number in range(5)] == [None, None, None, 3, 4]


# People of an issuer


async def test_person_whom_the_operator_has_added_is_that_user(
    blue: Blue, directory: StoredDirectory
) -> None:
    found = await directory.person(ISSUER, "ann-1", "")

    assert found == Caller(blue.ann, "Ann", blue.team, frozenset(), ByIssuer(ISSUER, "ann-1"))


@pytest.mark.parametrize(
    ("issuer", "subject"),
    [
        (ISSUER, "ann-2"),
        (ISSUER.rstrip("/"), "ann-1"),
        ("https://other.example.com/", "ann-1"),
        (ISSUER, "ANN-1"),
        (ISSUER, "ann-1\0"),
        (ISSUER, "ann-1' OR '1'='1"),
        (ISSUER, ""),
        (ISSUER, "a" * 100_000),
        (ISSUER, "\udcff"),
        ("\0", "ann-1"),
    ],
)
async def test_anybody_else_is_nobody(
    blue: Blue, directory: StoredDirectory, issuer: str, subject: str
) -> None:
    """Two people of two issuers may have one subject (documented)."""
    assert await directory.person(issuer, subject, "Ann") is None


async def test_people_of_an_issuer_join_the_team_that_takes_them(
    blue: Blue, directory: StoredDirectory, operator: Operator
) -> None:
    """At the first request; requests at the same moment are one user (ours)."""
    teams.set_issuer(operator, "Blue", ISSUER)
    found: list[Caller | None] = []

    async def sign_in(name: str) -> None:
        found.append(await directory.person(ISSUER, "new'); DROP TABLE users;--", name))

    async with anyio.create_task_group() as tasks:
        for name in ("New\nOne", "", "New\x1b[31m One"):
            tasks.start_soon(sign_in, name)
    joined = {each.user for each in found if each}
    [user] = joined

    assert {each.team for each in found if each} == {blue.team}
    assert len(users.users(operator)) == 4
    [entry] = [each for each in entries(operator.link, user, 0, 10) if each.action == "user.join"]
    assert (entry.actor, entry.detail["issuer"]) == (user, ISSUER)
    teams.set_issuer(operator, "Blue", None)
    assert await directory.person(ISSUER, "next", "Next") is None


async def test_name_follows_the_issuer_and_is_harmless(
    blue: Blue, directory: StoredDirectory, operator: Operator
) -> None:
    found = await directory.person(ISSUER, "ann-1", "Ann\n2026 INFO paid\x00")

    assert found
    assert found.name == "Ann 2026 INFO paid"
    assert "Ann 2026 INFO paid" in [user.name for user in users.users(operator)]


async def test_new_name_that_the_issuer_says_is_one_act_of_the_user(
    blue: Blue, database: str, operator: Operator
) -> None:
    """However many servers hear of it (docs/teams.md)."""
    servers = [StoredDirectory(database, ring()) for _ in range(3)]
    async with anyio.create_task_group() as tasks:
        for server in servers:
            tasks.start_soon(server.person, ISSUER, "ann-1", "Ann Lee")
    for server in servers:
        await server.person(ISSUER, "ann-1", "Ann Lee")
        await server.aclose()

    [entry] = [each for each in entries(operator.link, blue.ann, 0, 10) if each.actor == blue.ann]
    assert entry[1:5] == (blue.ann, "user.set", blue.ann, "done")
    assert entry.detail == {"name": "Ann Lee", "issuer": ISSUER}


# Seats


async def test_users_of_a_team_share_its_wallet_and_no_workspace(
    blue: Blue, directory: StoredDirectory
) -> None:
    ann, bob = [await directory.seat(user) for user in (blue.ann, blue.bob)]

    assert (ann.wallet, ann.api_key, ann.api_base) == (blue.wallet, KEY, BASE)
    assert bob.wallet == ann.wallet
    assert ann.workspace != bob.workspace
    assert ann.of_user == {ann.workspace}
    assert bob.of_team == {ann.workspace, bob.workspace}
    assert KEY not in repr(ann)


async def test_own_wallet_comes_before_that_of_the_team(
    blue: Blue, directory: StoredDirectory, operator: Operator, ticks: Time
) -> None:
    """The jobs on the other one are still the user's, and count for the user's limits."""
    first = await directory.seat(blue.ann)
    own = wallets.add(operator, ring(), "Ann's", "pd_ann", BASE, user=blue.ann)
    second = await directory.seat(blue.ann, fresh=True)

    assert (second.wallet, second.api_key) == (own, "pd_ann")
    assert second.of_user == {first.workspace, second.workspace}
    wallets.remove(operator, "Ann's")
    third = await directory.seat(blue.ann, fresh=True)
    assert third == dataclasses.replace(
        first, of_user=second.of_user, of_team=second.of_team, as_of=third.as_of
    )


async def test_user_whose_wallet_was_removed_is_not_served_from_an_earlier_answer(
    blue: Blue, directory: StoredDirectory, operator: Operator
) -> None:
    """Once a server knows it, the key is used for nothing more there (ours)."""
    await directory.seat(blue.bob)
    wallets.remove(operator, "blue wallet")
    assert (await directory.seat(blue.bob)).api_key == KEY  # this server has not heard of it
    for fresh in (True, False):
        with pytest.raises(NoWallet):
            await directory.seat(blue.bob, fresh=fresh)


async def test_user_without_a_wallet_is_refused_and_gets_no_other(
    blue: Blue, directory: StoredDirectory, operator: Operator
) -> None:
    """Also a user of a team whose wallet was removed, and one who never was (ours)."""
    wallets.add(operator, ring(), "Bob's", "pd_bob", BASE, user="Bob")
    wallets.remove(operator, "blue wallet")
    for user in (blue.eve, blue.ann, "unknown", "'; DROP TABLE users;--"):
        with pytest.raises(NoWallet) as refused:
            await directory.seat(user)
        assert refused.value.charged == "no"
        assert not refused.value.retry_safe
        assert KEY not in repr(refused.value)


@pytest.mark.parametrize("other", [ring("b"), KeyRing({"a": b"x" * 32})], ids=["gone", "changed"])
async def test_wallet_that_the_ring_cannot_open_is_refused_with_a_reason(
    blue: Blue, database: str, other: KeyRing
) -> None:
    directory = StoredDirectory(database, other)
    with pytest.raises(WalletClosed) as refused:
        await directory.seat(blue.ann)
    await directory.aclose()

    assert "the key a" in refused.value.what


async def test_sealed_key_that_was_copied_into_another_wallet_does_not_open(
    blue: Blue, directory: StoredDirectory, operator: Operator
) -> None:
    """Whoever can write the database still spends with no other's key (ours)."""
    wallets.add(operator, ring(), "Eve's", "pd_eve", BASE, user="Eve")
    [(sealed,)] = rows(
        operator.link, "SELECT key_sealed FROM wallet_keys WHERE name = 'blue wallet'"
    )
    operator.rows(
        b"UPDATE wallet_keys SET key_sealed = %(sealed)s WHERE name <> 'blue wallet'",
        sealed=sealed,
    )
    with pytest.raises(WalletClosed):
        await directory.seat(blue.eve)


@pytest.mark.parametrize(
    ("keys", "closed", "with_damage"),
    [
        (ring("a"), 1, 2),
        (ring("b"), 1, 1),
        (KeyRing({"a": b"x" * 32, "b": b"x" * 32}), 2, 2),
        (ring("b", "a"), 0, 0),
    ],
    ids=["lacks b", "lacks a", "wrong", "has all"],
)
async def test_server_knows_how_many_wallets_it_cannot_open_because_of_its_key_ring(
    blue: Blue,
    database: str,
    operator: Operator,
    keys: KeyRing,
    closed: int,
    with_damage: int,
) -> None:
    """A balancer sends its calls elsewhere; a damaged row is no reason for that (ours)."""
    wallets.add(operator, ring("b"), "Eve's", "pd_eve", BASE, user="Eve")
    directory = StoredDirectory(database, keys)
    found = [await directory.closed()]
    operator.rows(b"UPDATE wallet_keys SET key_sealed = key_sealed || 'x' WHERE name <> 'Eve''s'")
    found.append(await directory.closed())
    await directory.aclose()

    assert found == [closed, with_damage]


async def test_limits_of_user_team_and_wallet_come_with_the_seat(
    blue: Blue, directory: StoredDirectory, operator: Operator
) -> None:
    """Before a payment they are those of this moment, whatever was known before (ours)."""
    await directory.seat(blue.ann)
    allowances.set_limits(operator, Kind.USER, "Ann", {"credits_per_day": 5.5})
    allowances.set_limits(operator, Kind.TEAM, "Blue", {"in_flight": 2})
    allowances.set_limits(operator, Kind.WALLET, "blue wallet", {"credits_per_job": 4.0})
    allowances.set_limits(operator, Kind.USER, "Bob", {"credits_per_day": 1.0})
    seat = await directory.seat(blue.ann, fresh=True)

    assert seat.limits == {
        Kind.USER: Limits(credits_per_day=5.5),
        Kind.TEAM: Limits(in_flight=2),
        Kind.WALLET: Limits(credits_per_job=4.0),
    }
    assert await directory.seat(blue.ann) == seat


# The audit


async def test_what_is_written_down_is_short_and_harmless(
    blue: Blue, directory: StoredDirectory, operator: Operator
) -> None:
    who = await directory.token(blue.token("Ann").text)
    assert who
    detail = {"credits": 2.5, "note": "a\nb\0" + "x" * 1_000, "none": None}
    detail["signed_in"] = who.vouched_by
    Entry.new(who.user, "job.buy", "job-1", "accepted", detail).write(operator.link)
    [entry] = entries(operator.link, "job-1", 0, 10)

    assert entry[1:5] == (blue.ann, "job.buy", "job-1", "accepted")
    assert isinstance(who.signed_in, ByToken)
    assert entry.detail["signed_in"] == who.signed_in.token
    assert entry.detail["credits"] == 2.5
    assert str(entry.detail["note"]).startswith("a bxxx")
    assert len(str(entry.detail["note"])) == 300
    assert "none" not in entry.detail


# The database goes away


@pytest.fixture
async def through_proxy(
    postgres: Server, worker_database: str, blue: Blue, ticks: Time
) -> AsyncIterator[tuple[StoredDirectory, Proxy]]:
    """A directory whose connection leads through a proxy."""
    with proxy_to(postgres) as proxy:
        made = StoredDirectory(proxy.url(worker_database), ring(), ticks)
        yield made, proxy
        await made.aclose()


async def test_caller_who_cannot_be_known_is_neither_let_in_nor_turned_away(
    blue: Blue, through_proxy: tuple[StoredDirectory, Proxy], ticks: Time
) -> None:
    """A client throws its token away when it is turned away (observed elsewhere)."""
    directory, proxy = through_proxy
    issued = blue.token("Ann")
    proxy.refuse()
    for question in (
        directory.token(issued.text),
        directory.person(ISSUER, "ann-1", "Ann"),
        directory.seat(blue.ann),
    ):
        with pytest.raises(IdentityUnknown) as unknown:
            await question
        assert unknown.value.retry_after > 0
        assert "host" not in str(unknown.value)
        ticks.now += asking.PAUSE_SECONDS
    proxy.refuse(False)

    assert await directory.token(issued.text)


async def test_while_the_database_is_away_nobody_waits_for_it_twice(
    blue: Blue, through_proxy: tuple[StoredDirectory, Proxy]
) -> None:
    """Else each request would wait until the connection fails, one behind the other (ours)."""
    directory, proxy = through_proxy
    proxy.refuse()
    for _ in range(3):
        with pytest.raises(IdentityUnknown):
            await directory.token(blue.token("Ann").text)

    assert proxy.connections == 1


async def test_connection_that_was_lost_in_between_is_not_noticed(
    blue: Blue, through_proxy: tuple[StoredDirectory, Proxy]
) -> None:
    """As after a restart of the database, or behind a pool (ours)."""
    directory, proxy = through_proxy
    assert await directory.token(blue.token("Ann").text)
    proxy.plan("FROM tokens", Fault.CUT)

    assert await directory.token(blue.token("Ann").text)
    assert proxy.connections == 2


async def test_flood_of_questions_is_turned_away_for_now(
    blue: Blue, directory: StoredDirectory, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Requests wait for a bounded time, and take bounded memory (ours)."""
    monkeypatch.setattr(asking, "MOST_WAITING", 5)
    answers: list[bool] = []

    async def ask() -> None:
        try:
            answers.append((await directory.key(blue.wallet)).wallet == blue.wallet)
        except IdentityUnknown:
            answers.append(False)

    async with anyio.create_task_group() as tasks:
        for _ in range(10):
            tasks.start_soon(ask)

    assert answers.count(True) == 6
    assert await directory.key(blue.wallet)


async def test_database_without_the_tables_is_a_reason_to_wait(
    new_database: Callable[[], str],
) -> None:
    """The operator may be about to migrate it (ours)."""
    directory = StoredDirectory(new_database(), ring())
    with pytest.raises(IdentityUnknown, match="no tables"):
        await directory.token("wan_abcdefghjk_" + "x" * 43)
    await directory.aclose()
