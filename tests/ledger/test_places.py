"""One ledger for one user: which of several places is used, and when nothing may be paid."""

import os
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack
from functools import partial
from pathlib import Path

import pytest

from tests.ledger.stores import START
from wan_mcp.ledger.contract import Claim, LedgerUnavailable
from wan_mcp.ledger.spending_limits import SpendingLimits
from wan_mcp.ledger.sqlite.engine import FILE, SQLiteLedger
from wan_mcp.ledger.sqlite.places import FOLDER, NOTE, Chosen, choose, ledger_in
from wan_mcp.ledger.threaded.ledger import ThreadedLedger
from wan_mcp.models import Replacement
from wan_mcp.storage.data_folder import data_places

pytestmark = pytest.mark.anyio

ME = "my-account"
NO_LIMITS = SpendingLimits(None, None, None, None)
WANTED = Replacement(video="https://a.example/v.mp4", character_image="https://a.example/c.png")


async def pay(ledger: ThreadedLedger) -> Claim:
    return await ledger.claim(ME, WANTED, generated_seed=1, estimate=2)


async def ledger_made(place: Path, *, requests: bool = True) -> Path:
    """A ledger as a server that has ended leaves it."""
    ledger = SQLiteLedger(place / FOLDER, limits=NO_LIMITS)
    await (pay(ledger) if requests else ledger.recent(ME))
    await ledger.aclose()
    return place


@pytest.fixture
async def opened(tmp_path: Path) -> AsyncIterator[Callable[..., ThreadedLedger]]:
    """Opens the ledger that a server with these places would use."""
    async with AsyncExitStack() as ending:

        def open_ledger(usual: Path | None, *old: Path) -> ThreadedLedger:
            look = partial(choose, usual, old)
            ledger = ledger_in(look(), look, limits=NO_LIMITS, now=lambda: START)
            ending.push_async_callback(ledger.aclose)
            return ledger

        yield open_ledger


def test_new_user_gets_the_usual_place_and_no_note(tmp_path: Path) -> None:
    """Nothing is made before it is needed. (ours)"""
    assert choose(tmp_path / "usual", [tmp_path / "old"]) == Chosen(tmp_path / "usual")
    assert not (tmp_path / "usual").exists()


async def test_one_old_ledger_goes_on_being_used_by_every_server(tmp_path: Path) -> None:
    """Also by one whose environment does not name its place: never split. (ours)"""
    usual, old = tmp_path / "usual", await ledger_made(tmp_path / "old")

    assert choose(usual, [old]) == Chosen(old)
    assert choose(usual) == Chosen(old)


async def test_ledger_without_a_request_is_no_rival(tmp_path: Path) -> None:
    """A server that never paid has made it; to refuse because of it helps nobody. (ours)"""
    usual = await ledger_made(tmp_path / "usual", requests=False)
    old = await ledger_made(tmp_path / "old")

    assert choose(usual, [old]) == Chosen(old)
    assert choose(usual) == Chosen(old)


async def test_two_paths_to_one_ledger_are_one(tmp_path: Path) -> None:
    """As with links and with folders that are mounted twice. (ours)"""
    usual = await ledger_made(tmp_path / "usual")
    (tmp_path / "link").symlink_to(usual)

    assert choose(usual, [tmp_path / "link"]) == Chosen(usual)


async def test_several_ledgers_are_read_and_not_paid_from(
    tmp_path: Path, opened: Callable[..., ThreadedLedger]
) -> None:
    """Nobody knows which has the equal job: every place and the way out are named. (ours)"""
    usual, old = await ledger_made(tmp_path / "usual"), await ledger_made(tmp_path / "old")
    ledger = opened(usual, old)

    with pytest.raises(LedgerUnavailable) as refused:
        await pay(ledger)

    assert len(await ledger.recent(ME)) == 1
    assert refused.value.what == (
        "This user has 2 ledgers, so the same job could be paid twice. They lie in: "
        f"{usual}, {old}."
    )
    assert "WAN_MCP_DATA_DIR" in refused.value.next_step
    assert (refused.value.charged, refused.value.retry_safe) == ("no", False)


async def test_rival_that_was_moved_away_needs_no_restart(
    tmp_path: Path, opened: Callable[..., ThreadedLedger]
) -> None:
    """The user has followed the advice. (ours)"""
    usual, old = await ledger_made(tmp_path / "usual"), await ledger_made(tmp_path / "old")
    ledger = opened(usual, old)
    old.rename(tmp_path / "kept")

    assert (await pay(ledger)).created


async def test_ledger_found_after_the_start_stops_payments(
    tmp_path: Path, opened: Callable[..., ThreadedLedger]
) -> None:
    """Another server, with a larger environment, has found the older ledger meanwhile. (ours)"""
    usual, old = tmp_path / "usual", tmp_path / "old"
    ledger = opened(usual)
    await ledger.recent(ME)
    await ledger_made(old)
    choose(usual, [old])

    with pytest.raises(LedgerUnavailable, match="in another folder") as refused:
        await pay(ledger)

    assert "restart" in refused.value.next_step


async def test_noted_place_that_is_away_is_not_replaced_by_a_new_ledger(tmp_path: Path) -> None:
    """Its disk may only be unplugged: an empty ledger elsewhere would pay again. (ours)"""
    usual, old = tmp_path / "usual", await ledger_made(tmp_path / "old")
    choose(usual, [old])
    old.rename(tmp_path / "unplugged")

    assert choose(usual) == Chosen(old)


@pytest.mark.parametrize("note", [b"", b"relative\n", b"\xff\n"])
def test_note_that_is_no_full_path_is_ignored(tmp_path: Path, note: bytes) -> None:
    """A relative place would be another one in every working folder. (ours)"""
    tmp_path.joinpath(NOTE).write_bytes(note)

    assert choose(tmp_path) == Chosen(tmp_path)


async def test_damaged_rival_counts(tmp_path: Path) -> None:
    """What cannot be read may hold the equal job. (ours)"""
    usual, old = await ledger_made(tmp_path / "usual"), tmp_path / "old"
    (old / FOLDER).mkdir(parents=True)
    (old / FOLDER / FILE).write_bytes(b"x" * 5_000)

    assert choose(usual, [old]) == Chosen(usual, (usual, old))


async def test_user_without_a_home_folder_is_not_paid_for(
    opened: Callable[..., ThreadedLedger],
) -> None:
    """One sentence says what to set; there is no folder in which two servers would meet. (ours)"""
    ledger = opened(None)

    with pytest.raises(LedgerUnavailable, match="no home folder") as refused:
        await pay(ledger)

    assert "WAN_MCP_DATA_DIR" in refused.value.next_step


async def test_old_ledger_of_a_user_without_a_home_folder_is_used(
    tmp_path: Path, opened: Callable[..., ThreadedLedger]
) -> None:
    """XDG_DATA_HOME alone led to it before. (ours)"""
    ledger = opened(None, await ledger_made(tmp_path / "old"))

    assert len(await ledger.recent(ME)) == 1
    assert (await pay(ledger)).created


@pytest.mark.skipif(os.name != "posix", reason="Windows itself names the folder")
async def test_look_before_each_payment_costs_one_call_for_each_place(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing is remembered, because a rival may appear at any time; so it has to be cheap. (ours)

    With 40 programs of each kind it took 28 ms, and takes 2 ms. (observed)
    """
    for program in range(20):
        (tmp_path / f"snap/program{program}/common/.local/share").mkdir(parents=True)
        (tmp_path / f".var/app/org.program{program}/data").mkdir(parents=True)
    places = data_places({"HOME": str(tmp_path)})
    assert places.usual is not None
    await ledger_made(places.usual)
    looks = list[str]()
    for name in ("stat", "listdir", "scandir", "open"):
        monkeypatch.setattr(os, name, counting(looks, name))
    monkeypatch.setattr("wan_mcp.ledger.sqlite.connection.connect", None)  # no ledger is opened

    again = data_places({"HOME": str(tmp_path)})
    chosen = choose(again.usual, again.old)
    monkeypatch.undo()

    assert chosen == Chosen(places.usual)
    assert Counter(looks) == {"stat": 1 + len(places.old), "listdir": 2}
    await ledger_made(tmp_path / "snap/program7/common/.local/share/wan-mcp")
    assert len(choose(again.usual, again.old).rivals) == 2


def counting(looks: list[str], name: str) -> Callable[..., object]:
    """A function of `os` that notes each call."""
    original: Callable[..., object] = getattr(os, name)

    def call(*args: object, **options: object) -> object:
        looks.append(name)
        return original(*args, **options)

    return call
