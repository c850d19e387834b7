"""Tokens of this program: `wan_<id>_<secret>`. Only a hash of each is stored."""

import hashlib
import hmac
import re
import secrets
from typing import NamedTuple

from wan_mcp.tenants.names import new_id

_LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789"
_SECRET_LENGTH = 43
"""62 to the power of 43 is 256 bits, too many to guess even from the result of a fast hash."""
_FORM = re.compile(rf"wan_([a-z0-9]{{10}})_[A-Za-z0-9]{{{_SECRET_LENGTH}}}", re.ASCII)


class Issued(NamedTuple):
    """A new token.

    Attributes:
        id: names it in lists and in the audit; no secret.
        text: the token itself, which is shown once.
        sha256: what is stored of it.
    """

    id: str
    text: str
    sha256: bytes


def new_token() -> Issued:
    """A new token, whose secret is random."""
    id = new_id("")
    text = f"wan_{id}_" + "".join(secrets.choice(_LETTERS) for _ in range(_SECRET_LENGTH))
    return Issued(id, text, sha256_of(text))


def id_of(text: str) -> str | None:
    """The id in a token; None if the text cannot be a token of this program."""
    found = _FORM.fullmatch(text)
    return found and found[1]


def sha256_of(text: str) -> bytes:
    """What is stored of a token."""
    return hashlib.sha256(text.encode()).digest()


def is_same(sha256: bytes, stored: bytes) -> bool:
    """Whether two hashes are equal. The time of the answer says nothing about where they differ."""
    return hmac.compare_digest(sha256, stored)
