"""Tickets: sealed texts that nobody can guess, each of which takes the files of one call.

Every server of a ledger has the secret that seals them. So any of them takes an upload, even after
a restart, and none has to remember a ticket. A ticket gives the right to upload, and no other.
"""

import base64
import hmac
import re
import secrets
import struct
from collections.abc import Collection
from dataclasses import dataclass

from wan_mcp.inputs.verdict import IMAGE, VIDEO, Role

TICKET_SECONDS = 3600.0
"""How long a ticket takes files (ours): a user may read the answer late, and look for the file."""

SLOTS = {"video": VIDEO, "image": IMAGE}
"""The files that a ticket can take, each once, with the input of a job that each is for."""
SLOT_OF_ROLE = {role.name: slot for slot, role in SLOTS.items()}

_LAYOUT = struct.Struct(">B5s10s10s")
_BIT = {slot: 1 << place for place, slot in enumerate(SLOTS)}
_MAC_BYTES = 16
_NUMBER_BYTES = 10
_SEALED = "[A-Za-z0-9_-]{56}"
"""56 such characters stand for 42 bytes, and every 42 bytes can be written in only one way."""


@dataclass(frozen=True)
class Ticket:
    """The content of a ticket.

    Attributes:
        shelf: where the files of its workspace are: 20 hex digits, see `shelf_of`.
        number: the part that the ids of its uploads have in common: 16 letters and digits.
        slots: what it takes: keys of SLOTS.
        expires_at: until when, in seconds since 1970.
    """

    shelf: str
    number: str
    slots: tuple[str, ...]
    expires_at: int

    def id(self, slot: str) -> str:
        """The id of the upload of a slot, as in `wan://uploads/{id}`."""
        return f"{slot}_{self.number}"


def role_of(id: str) -> Role:
    """The input of a job that an upload is for."""
    return SLOTS[id.partition("_")[0]]


def number_of(id: str) -> str:
    """The part that the id of an upload has in common with the others of its ticket."""
    return id.partition("_")[2]


def new_number() -> str:
    """The number of a new ticket."""
    return base64.b32encode(secrets.token_bytes(_NUMBER_BYTES)).decode().lower()


def shelf_of(workspace: str, key: bytes) -> str:
    """The name of the folder of a workspace: always the same, and revealing nothing about it."""
    return hmac.digest(key, b"shelf\0" + workspace.encode(), "sha256")[:10].hex()


def sealed(ticket: Ticket, key: bytes) -> str:
    """A ticket as a text of 56 letters, digits, `-` and `_`."""
    slots = sum(_BIT[slot] for slot in ticket.slots)
    number = base64.b32decode(ticket.number.upper())
    expires_at = ticket.expires_at.to_bytes(5, "big")
    content = _LAYOUT.pack(slots, expires_at, bytes.fromhex(ticket.shelf), number)
    return base64.urlsafe_b64encode(content + _mac(content, key)).decode()


def unsealed(text: str, key: bytes) -> Ticket | None:
    """The ticket that was sealed with this key; None if it was not. It may have expired."""
    if not re.fullmatch(_SEALED, text):
        return None
    data = base64.urlsafe_b64decode(text)
    content, mac = data[: _LAYOUT.size], data[_LAYOUT.size :]
    if not hmac.compare_digest(mac, _mac(content, key)):
        return None
    slots, expires_at, shelf, number = _LAYOUT.unpack(content)
    return Ticket(
        shelf.hex(),
        base64.b32encode(number).decode().lower(),
        _named(slots),
        int.from_bytes(expires_at, "big"),
    )


def _named(slots: int) -> tuple[str, ...]:
    return tuple(slot for slot, bit in _BIT.items() if slots & bit)


def in_order(slots: Collection[str]) -> tuple[str, ...]:
    """The slots in the order in which they are shown."""
    return tuple(slot for slot in SLOTS if slot in slots)


def _mac(content: bytes, key: bytes) -> bytes:
    return hmac.digest(key, b"ticket\0" + content, "sha256")[:_MAC_BYTES]
