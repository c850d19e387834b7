"""What an operator does, what is refused, and what the audit says about it."""

import math
import threading
from collections.abc import Callable
from contextlib import suppress
from functools import partial

import pytest

from tests.ledger.stores import HANG_SECONDS, WANTED, PostgresStore, claimed, reported
from tests.tenants.team import BASE, ISSUER, KEY, Blue, operator_of, ring, rows
from tests.tenants.test_names import HOSTILE
from wan_mcp.ledger.record import State
from wan_mcp.ledger.spending_limits import SpendingLimits
from wan_mcp.ledger.wallets.quotas import Quota
from wan_mcp.ledger.wallets.workspace import Workspace
from wan_mcp.models import JobStatus
from wan_mcp.tenants.administration import (
    allowances,
    spending,
    teams,
    tokens,
    users,
    wallets,
)
from wan_mcp.tenants.administration.acts import ActRefused, Operator
from wan_mcp.tenants.audit import NOW, entries
from wan_mcp.tenants.caller import SCOPES
from wan_mcp.tenants.limits import Kind, Limits
from wan_mcp.tenants.names import shown
from wan_mcp.tenants.seat import workspace_of

TABLES = ("teams", "users", "tokens", "wallet_keys", "limits")


def contents(operator: Operator) -> list[object]:
    """All that acts can change, apart from the audit."""
    return [rows(operator.link, f"SELECT * FROM {table} ORDER BY 1, 2") for table in TABLES]


@pytest.mark.parametrize("name", HOSTILE, ids=range(len(HOSTILE)))
def test_hostile_name_is_refused_or_stored_as_it_is(operator: Operator, name: str) -> None:
    """Nothing that is typed is a part of a statement or a line of its own (ours)."""
    acts: tuple[Callable[[], object], ...] = (
        lambda: teams.add(operator, name, None),
        lambda: users.add(operator, name, None, None, None),
        lambda: wallets.add(operator, ring(), name, f"pd_{len(name)}", BASE, user=name),
        lambda: users.disable(operator, name),
        lambda: tokens.add(operator, name, SCOPES, 1, name),
        lambda: tokens.revoke(operator, name),
        lambda: allowances.set_limits(operator, Kind.TEAM, name, {"in_flight": 1}),
        lambda: wallets.remove(operator, name),
    )
    for act in acts:
        with suppress(ActRefused):
            act()
    written = entries(operator.link, None, 0, 100)

    assert len(written) == len(acts)
    assert {user.name for user in users.users(operator)} <= {HOSTILE[name]}
    for entry in written:
        assert shown(str(entry.detail), 5_000) == str(entry.detail)
        assert all(text == shown(text, 300) for text in map(str, entry[1:5]))


def test_refused_act_changes_nothing_and_is_in_the_audit(blue: Blue) -> None:
    """An audit without what was refused would hide who has tried (ours)."""
    operator = blue.operator
    users.add(operator, "Bob", None, None, None)
    refusals: dict[str, Callable[[], object]] = {
        "already": lambda: teams.add(operator, "Blue", None),
        "no team": lambda: users.add(operator, "Cid", "Red", None, None),
        "is a user already": lambda: users.add(operator, "Ann", None, ISSUER, "ann-1"),
        "both, or none": lambda: users.add(operator, "Cid", None, ISSUER, None),
        "https://": lambda: teams.add(operator, "Red", "http://login.example.com"),
        "no user": lambda: users.disable(operator, "Cid"),
        "Several users": lambda: users.disable(operator, "Bob"),
        "no token": lambda: tokens.revoke(operator, "abcdefghjk"),
        "at most 366": lambda: tokens.add(operator, "Ann", SCOPES, 367, ""),
        "A scope": lambda: tokens.add(operator, "Ann", {"admin"}, 1, ""),
        "no wallet": lambda: wallets.remove(operator, "red wallet"),
        "the same PixelDojo key": lambda: wallets.add(operator, ring(), "x", KEY, BASE, user="Eve"),
        "of that name": lambda: wallets.add(
            operator, ring(), "blue wallet", "pd_2", BASE, user="Eve"
        ),
        "for that team": lambda: wallets.add(operator, ring(), "x", "pd_2", BASE, team="Blue"),
        "no PixelDojo key": lambda: wallets.add(operator, ring(), "x", "pd 2", BASE, user="Eve"),
        "A limit is": lambda: allowances.set_limits(
            operator, Kind.USER, "Ann", {"credits_per_day": math.nan}
        ),
    }
    before = contents(operator)
    operator.rows(b"DELETE FROM audit RETURNING 1")
    for reason, act in refusals.items():
        with pytest.raises(ActRefused, match=reason):
            act()
    written = entries(operator.link, None, 0, 100)

    assert contents(operator) == before
    assert [entry.result for entry in written] == ["refused"] * len(refusals)
    assert all(
        reason in str(e.detail["why"]) for reason, e in zip(refusals, written[::-1], strict=True)
    )
    assert {entry.actor for entry in written} == {"admin:ann@desk"}


def test_audit_names_what_was_done_to_whom_and_no_secret(blue: Blue) -> None:
    operator = blue.operator
    issued = blue.token("Ann")
    tokens.revoke(operator, issued.text)  # as pasted by who found it where it does not belong
    wallets.set_key(operator, ring(), "blue wallet", "pd_canary_2")
    written = entries(operator.link, None, 0, 100)
    done = [(entry.action, entry.target) for entry in reversed(written)]

    assert done == [
        ("team.add", blue.team),
        ("user.add", blue.ann),
        ("user.add", blue.bob),
        ("user.add", blue.eve),
        ("wallet.add", blue.wallet),
        ("token.add", issued.id),
        ("token.revoke", issued.id),
        ("wallet.set-key", blue.wallet),
    ]
    assert {entry.result for entry in written} == {"done"}
    assert "canary" not in repr(written)
    assert issued.text[15:] not in repr(written)
    assert [e.action for e in entries(operator.link, issued.id, 0, 1)] == ["token.revoke"]


def test_user_whom_another_is_called_by_id_is_found_by_that_id(blue: Blue) -> None:
    """People choose what they are called, and must not keep anybody from being disabled (ours)."""
    users.add(blue.operator, blue.ann, None, None, None)
    users.disable(blue.operator, blue.ann)

    assert entries(blue.operator.link, None, 0, 1)[0].target == blue.ann
    assert [user.id for user in users.users(blue.operator) if user.disabled] == [blue.ann]


def test_no_secret_lies_in_the_database(blue: Blue) -> None:
    """A copy of it lets nobody call or pay (ours)."""
    issued = blue.token("Ann")
    everything = repr(contents(blue.operator)) + repr(
        rows(blue.operator.link, "SELECT * FROM audit")
    )

    assert KEY not in everything
    assert issued.text not in everything
    assert issued.text.rpartition("_")[2] not in everything


def test_operators_at_the_same_moment_make_one_wallet(blue: Blue, database: str) -> None:
    """The second is refused with a sentence, not by an error of the database (ours)."""
    ready, results = threading.Barrier(4), list[str]()

    def add(number: int) -> None:
        with operator_of(database) as other:
            ready.wait(HANG_SECONDS)
            try:
                wallets.add(other, ring(), "Eve's", f"pd_{number}", BASE, user="Eve")
                results.append("done")
            except ActRefused as why:
                results.append(str(why))

    threads = [threading.Thread(target=add, args=[number]) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(HANG_SECONDS)

    assert sorted(results)[1:] == ["There is a wallet of that name already."] * 2 + ["done"]


# Wallets


def test_key_ring_is_replaced_step_by_step(blue: Blue) -> None:
    """A new key in front, seal anew, and the old key is needed no more (ours)."""
    operator = blue.operator
    wallets.add(operator, ring("a"), "Eve's", "pd_eve", BASE, user="Eve")
    wallets.add(operator, ring("a"), "gone", "pd_gone", BASE, user="Bob")
    wallets.remove(operator, "gone")

    def states(*ids: str) -> list[str]:
        return [wallet.key for wallet in wallets.wallets(operator, ring(*ids))]

    assert states("b", "a") == ["sealed with an older key"] * 2 + ["removed"]
    assert wallets.rotate(operator, ring("b", "a")) == 2
    assert wallets.rotate(operator, ring("b", "a")) == 0
    assert states("b") == ["sealed", "sealed", "removed"]
    assert "the key b" in states("a")[0]
    assert "no key ring" in wallets.wallets(operator, None)[0].key


def test_ring_that_lacks_one_key_seals_nothing_anew(blue: Blue) -> None:
    operator = blue.operator
    wallets.add(operator, ring("b"), "Ann's", "pd_ann", BASE, user="Ann")
    before = contents(operator)
    with pytest.raises(ActRefused, match=r'wallet "blue wallet".*the key a.*'):
        wallets.rotate(operator, ring("c", "b"))

    assert contents(operator) == before


def test_wallet_keeps_its_account_when_its_key_is_replaced(blue: Blue) -> None:
    """Its jobs stay where they are, and its first key starts no other wallet (ours)."""
    operator = blue.operator
    wallets.set_key(operator, ring(), "blue wallet", "pd_2")
    [wallet] = wallets.wallets(operator, ring())
    assert (wallet.account, wallet.key) == (blue.wallet, "sealed")
    for key in (KEY, "pd_2"):
        with pytest.raises(ActRefused, match="the same PixelDojo key"):
            wallets.add(operator, ring(), "Eve's", key, BASE, user="Eve")
    other = wallets.add(operator, ring(), "Eve's", "pd_3", BASE, user="Eve")
    with pytest.raises(ActRefused, match="the same key"):
        wallets.set_key(operator, ring(), other, "pd_2")
    wallets.set_key(operator, ring(), "blue wallet", KEY)


def test_removed_wallet_has_no_key_and_makes_place_for_another(blue: Blue) -> None:
    operator = blue.operator
    wallets.remove(operator, "blue wallet")
    acts: tuple[Callable[[], object], ...] = (
        lambda: wallets.remove(operator, "blue wallet"),
        lambda: wallets.set_key(operator, ring(), "blue wallet", "pd_9"),
    )
    for act in acts:
        with pytest.raises(ActRefused, match="was removed"):
            act()
    wallets.add(operator, ring(), "second wallet", "pd_2", BASE, team="Blue")

    assert [t.wallet for t in teams.teams(operator)] == ["second wallet"]
    assert rows(operator.link, "SELECT key_sealed FROM wallet_keys WHERE name = 'blue wallet'") == [
        (None,)
    ]


# Users who leave a wallet


async def leave_work(blue: Blue, database: str, state: str) -> None:
    """Ann has a request on the wallet of her team, in this state."""
    workspace = Workspace(workspace_of(blue.ann, blue.wallet), blue.wallet)
    blue.operator.rows(
        b"INSERT INTO user_workspaces VALUES (%(name)s, %(user)s, %(wallet)s, 0) RETURNING 1",
        name=workspace.name,
        user=blue.ann,
        wallet=blue.wallet,
    )
    ledger = PostgresStore(database).ledger()
    quotas = [Quota(SpendingLimits(None, None, 1, None, queued=1), "of the wallet")]
    ask = partial(ledger.claim, generated_seed=7, estimate=2.0, quotas=quotas)
    if state == "queued":
        before = await ask(Workspace("of nobody", blue.wallet), WANTED)
    claim = await ask(workspace, WANTED)
    if state == "queued":
        assert claim.record.state is State.QUEUED
        await ledger.conclude(before.record, State.NOT_SENT, "stopped")
    else:
        await ledger.commit_sending(claim.record)
    if state == "unknown":
        await ledger.conclude(claim.record, State.UNKNOWN, "no answer")
    elif state != "queued":
        accepted = await ledger.accept(claim.record, reported())
    if state == "ended":
        await ledger.conclude(accepted, State.LOST, "gone")
    elif state == "unsaved":
        done = reported(JobStatus.COMPLETED, video_url="https://a.example/v")
        await ledger.record_update(workspace, done)
        blue.operator.rows(f"UPDATE jobs SET ended_at = {NOW} RETURNING 1".encode())
    await ledger.aclose()


LEAVING: dict[str, Callable[[Operator, bool], object]] = {
    "out of the team": lambda o, force: users.set_team(o, "Ann", None, force=force),
    "into another team": lambda o, force: users.set_team(o, "Ann", "Red", force=force),
    "to an own wallet": lambda o, force: wallets.add(
        o, ring(), "Ann's", "pd_ann", BASE, user="Ann", force=force
    ),
    "wallet gone": lambda o, force: wallets.remove(o, "blue wallet", force=force),
}


@pytest.mark.anyio
@pytest.mark.parametrize("state", ["running", "queued", "unknown"])
async def test_user_with_open_jobs_leaves_no_wallet_unless_forced(
    blue: Blue, database: str, state: str
) -> None:
    """Their jobs would be hidden from them, and an equal call would pay again (ours)."""
    operator = blue.operator
    teams.add(operator, "Red", None)
    await leave_work(blue, database, state)
    before = contents(operator)
    for act in LEAVING.values():
        with pytest.raises(ActRefused, match=r"in progress, queued or of unknown.* add --force"):
            act(operator, False)
    assert contents(operator) == before
    refused = entries(operator.link, None, 0, 1)[0]
    users.set_team(operator, "Ann", "Blue")  # who stays leaves nothing
    users.set_team(operator, "Bob", None)  # whose jobs they are not
    for name in LEAVING:
        LEAVING[name](operator, True)
        users.set_team(operator, "Ann", "Blue", force=True)
        assert entries(operator.link, None, 0, 2)[1].detail["force"] is True

    assert refused.result == "refused"


@pytest.mark.anyio
@pytest.mark.parametrize("state", ["ended", "unsaved"])
async def test_user_whose_jobs_have_ended_moves_freely(
    blue: Blue, database: str, state: str
) -> None:
    await leave_work(blue, database, state)
    users.set_team(blue.operator, "Ann", None)
    users.set_team(blue.operator, "Ann", "Blue")
    wallets.add(blue.operator, ring(), "Ann's", "pd_ann", BASE, user="Ann")
    users.set_team(blue.operator, "Ann", None)

    assert [u.wallet for u in users.users(blue.operator)] == ["Ann's", "blue wallet", None]


@pytest.mark.anyio
async def test_wallet_with_a_video_to_be_saved_is_removed_only_by_force(
    blue: Blue, database: str
) -> None:
    """Nobody would save it before its link expires (ours)."""
    await leave_work(blue, database, "unsaved")
    with pytest.raises(ActRefused, match=r"1 video to be saved: wait"):
        wallets.remove(blue.operator, "blue wallet")
    wallets.remove(blue.operator, "blue wallet", force=True)


# Lists


def test_users_are_listed_with_their_team_and_who_pays(blue: Blue) -> None:
    operator = blue.operator
    wallets.add(operator, ring(), "Bob's", "pd_bob", BASE, user="Bob")
    users.set_team(operator, "Eve", "Blue")
    users.set_team(operator, "Ann", None)
    users.rename(operator, "Eve", "Eva")
    users.disable(operator, "Eva")
    listed = [(u.id, u.name, u.team, u.disabled, u.wallet) for u in users.users(operator)]

    assert listed == [
        (blue.ann, "Ann", None, False, None),
        (blue.bob, "Bob", "Blue", False, "Bob's"),
        (blue.eve, "Eva", "Blue", True, "blue wallet"),
    ]
    assert [(t.name, t.users) for t in teams.teams(operator)] == [("Blue", 1)]


def test_tokens_are_listed_with_their_state(blue: Blue) -> None:
    operator = blue.operator
    made = [blue.token(user) for user in ("Ann", "Bob", "Eve")]
    operator.rows(b"UPDATE tokens SET expires_at = 1 WHERE id = %(id)s RETURNING 1", id=made[0].id)
    tokens.revoke(operator, made[1].id)
    states = [(token.user, token.state) for token in tokens.tokens(operator)]
    users.disable(operator, "Eve")

    assert states == [("Ann", "expired"), ("Bob", "revoked"), ("Eve", "works")]
    assert tokens.tokens(operator)[2].state == "user disabled"


def test_limits_change_one_by_one(blue: Blue) -> None:
    operator = blue.operator
    set_ = allowances.set_limits
    set_(operator, Kind.USER, "Ann", {"credits_per_day": 5, "in_flight": 2})
    now = set_(operator, Kind.USER, blue.ann, {"credits_per_day": None, "credits_per_job": 1.5})
    set_(operator, Kind.WALLET, "blue wallet", {"submits_per_minute": 0})

    assert now == Limits(credits_per_job=1.5, in_flight=2)
    assert [each[:3] for each in allowances.allowances(operator)] == [
        (Kind.USER, blue.ann, "Ann"),
        (Kind.WALLET, blue.wallet, "blue wallet"),
    ]


@pytest.mark.anyio
async def test_spending_is_listed_by_user_and_wallet(blue: Blue, database: str) -> None:
    operator = blue.operator
    mine = f"{blue.wallet}/{blue.ann}"
    operator.rows(
        b"INSERT INTO user_workspaces VALUES (%(name)s, %(user)s, %(wallet)s, 0) RETURNING 1",
        name=mine,
        user=blue.ann,
        wallet=blue.wallet,
    )
    ledger = PostgresStore(database).ledger()
    record = await claimed(ledger)
    await ledger.commit_sending(record)
    await ledger.accept(record, reported())
    await ledger.aclose()
    assert spending.spending(operator, 36_500) == []
    operator.rows(b"UPDATE jobs SET account = %(mine)s RETURNING 1", mine=mine)
    [spent] = spending.spending(operator, 36_500)

    assert spent == (blue.ann, "Ann", "Blue", "blue wallet", 1, 2.0, 2.0, 0)
    assert spending.spending(operator, 0) == []
