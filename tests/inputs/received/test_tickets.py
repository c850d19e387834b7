"""Tickets: who can make one, and what one says."""

import base64

import pytest

from wan_mcp.inputs.received.tickets import (
    Ticket,
    new_number,
    number_of,
    role_of,
    sealed,
    shelf_of,
    unsealed,
)

KEY = bytes(range(32))
TICKET = Ticket(shelf_of("ana", KEY), "abcdefghijklmnop", ("video", "image"), 1_793_000_000)


@pytest.mark.parametrize("slots", [("video",), ("image",), ("video", "image")])
def test_any_server_of_the_ledger_reads_what_another_has_sealed(slots: tuple[str, ...]) -> None:
    """The secret is all that they share (ours)."""
    ticket = Ticket(TICKET.shelf, new_number(), slots, TICKET.expires_at)

    assert unsealed(sealed(ticket, KEY), bytes(range(32))) == ticket


def test_a_ticket_that_was_changed_anywhere_is_none() -> None:
    """Another workspace, id, time or file would be a right that nobody gave (ours)."""
    data = base64.urlsafe_b64decode(sealed(TICKET, KEY))
    changed = [
        base64.urlsafe_b64encode(data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :]).decode()
        for at in range(len(data))
    ]

    assert {unsealed(text, KEY) for text in changed} == {None}


@pytest.mark.parametrize(
    "text",
    ["", "x", "../../etc/passwd", "A" * 56, "A" * 10_000, "ä" * 56, "=" * 56, "A" * 55 + "!"],
)
def test_what_was_never_sealed_is_no_ticket(text: str) -> None:
    assert unsealed(text, KEY) is None


def test_a_ticket_of_another_ledger_is_none() -> None:
    assert unsealed(sealed(TICKET, KEY), bytes(32)) is None


def test_two_texts_never_mean_the_same_ticket() -> None:
    """A ticket with bits that do not count could be used twice as another one (ours)."""
    text = sealed(TICKET, KEY)

    assert [unsealed(text + more, KEY) for more in ("=", "A", "\n", "AAAA")] == [None] * 4


def test_workspaces_have_shelves_of_their_own_that_do_not_name_them() -> None:
    shelves = {shelf_of(name, KEY) for name in ("ana", "ben", "ana ", "")}

    assert len(shelves) == 4
    assert shelf_of("ana", KEY) == TICKET.shelf != shelf_of("ana", bytes(32))


def test_an_id_says_which_input_it_is_for() -> None:
    ids = [TICKET.id("video"), TICKET.id("image")]

    assert ids == ["video_abcdefghijklmnop", "image_abcdefghijklmnop"]
    assert [role_of(id).name for id in ids] == ["video", "character_image"]
    assert {number_of(id) for id in ids} == {TICKET.number}
