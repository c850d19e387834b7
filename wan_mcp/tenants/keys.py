"""PixelDojo keys as they are stored: sealed, so that a copy of the database opens none of them.

A key ring has several keys. The first one seals, and all of them open, so that keys can be replaced
one after the other: see `administration.wallets.rotate`.
"""

import base64
import binascii
import hmac
import os
import re
from collections.abc import Mapping

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

SETTING = "WAN_MCP_KEY_RING"
KEY_BYTES = 32
"""The length of a key of AES-256."""
_NONCE_BYTES = 12
"""The length of AES-GCM's nonces (documented), which are random: no key ever seals 2**32 times."""
_LINE = re.compile(r"([A-Za-z0-9-]{1,40})\s+([A-Za-z0-9+/=_-]+)")
_FORMAT = "1"
"""The first part of every text that is sealed in this way."""


class BadKeyRing(Exception):
    """The text of a key ring cannot be used. The message says why, and has none of its keys."""


class NotOpened(Exception):
    """What was sealed cannot be opened: its key is not in the ring, or it was changed or moved.

    The message names the id of the key that it needs, which is no secret.
    """


class KeyRing:
    """The keys that seal and open, each with an id.

    Attributes:
        first: the id of the one that seals.
    """

    def __init__(self, keys: Mapping[str, bytes]) -> None:
        self.first = next(iter(keys))
        self._keys = dict(keys)
        self._ciphers = {id: AESGCM(key) for id, key in keys.items()}

    @classmethod
    def read(cls, text: str) -> "KeyRing":
        """The key ring in a text. Each line has the id of a key, a space, and 32 bytes in Base64.

        Empty lines, and lines that begin with #, do not count.

        Raises:
            BadKeyRing: a line is something else, two keys have one id, or there is no key.
        """
        lines = [line.strip() for line in text.splitlines()]
        keys: dict[str, bytes] = {}
        for number, line in enumerate(lines, 1):
            if line and not line.startswith("#"):
                id, key = _key_on(line, number)
                if id in keys:
                    raise BadKeyRing(f"{SETTING}: two keys have the id {id}")
                keys[id] = key
        if not keys:
            raise BadKeyRing(f"{SETTING}: there is no key in it")
        return cls(keys)

    def derived(self, purpose: str) -> "KeyRing":
        """A ring of other keys, each of which is derived from one of these.

        Neither of the two rings opens what the other one has sealed. So strangers may have the
        derived one seal as often as they like, without using up the keys that seal wallets.

        Args:
            purpose: what the ring is for; for another purpose, it has other keys.
        """
        made = {id: hmac.digest(key, purpose.encode(), "sha256") for id, key in self._keys.items()}
        return KeyRing(made)

    def seal(self, secret: str, purpose: str) -> str:
        """A text that only the ring opens, and only for the same purpose.

        Args:
            purpose: what the secret belongs to, such as the name of its row: sealed text that is
                moved into another row does not open there.
        """
        nonce = os.urandom(_NONCE_BYTES)
        sealed = self._ciphers[self.first].encrypt(nonce, secret.encode(), purpose.encode())
        return ".".join([_FORMAT, self.first, base64.b64encode(nonce + sealed).decode()])

    def open(self, sealed: str, purpose: str) -> str:
        """The secret in a sealed text.

        Raises:
            NotOpened: the ring does not open it for this purpose.
        """
        form, id, content = (*sealed.split("."), "", "")[:3]
        cipher = self._ciphers.get(id)
        if form != _FORMAT or cipher is None:
            raise NotOpened(f"it was sealed with the key {id or '?'}, which is not in the key ring")
        try:
            whole = base64.b64decode(content, validate=True)
            opened = cipher.decrypt(whole[:_NONCE_BYTES], whole[_NONCE_BYTES:], purpose.encode())
        except (InvalidTag, ValueError):
            raise NotOpened(
                f"the key {id} of the key ring does not open it: either the ring has another key "
                "under this id, or the stored text was changed"
            ) from None
        return opened.decode()

    def opens(self, sealed: str, purpose: str) -> bool:
        """Whether the ring opens a sealed text for this purpose."""
        try:
            self.open(sealed, purpose)
        except NotOpened:
            return False
        return True

    def has_key_of(self, sealed: str) -> bool:
        """Whether a text was sealed with one of the keys, by their ids."""
        return sealed.split(".")[1:2] in [[id] for id in self._ciphers]

    def is_sealed_with_first(self, sealed: str) -> bool:
        """Whether a text was sealed with the key that seals now."""
        return sealed.split(".")[1:2] == [self.first]


def _key_on(line: str, number: int) -> tuple[str, bytes]:
    found = _LINE.fullmatch(line)
    if found is None:
        raise BadKeyRing(f"{SETTING}: line {number} is not an id, a space, and a key in Base64")
    try:
        key = base64.b64decode(found[2].replace("-", "+").replace("_", "/"), validate=True)
    except binascii.Error:
        key = b""
    if len(key) != KEY_BYTES:
        raise BadKeyRing(
            f"{SETTING}: the key on line {number} is not {KEY_BYTES} bytes in Base64 "
            "(make one with: head -c 32 /dev/urandom | base64)"
        )
    return found[1], key
