"""Names and ids. A name may come from a stranger: it is shown in terminals, logs and answers."""

import secrets
import unicodedata

LONGEST_NAME = 200
"""The most characters of a name (ours)."""
LONGEST_SUBJECT = 255
"""The most characters of a subject (documented, OpenID Connect)."""
LONGEST_ISSUER = 2_000
"""The most characters of the address of an authorization server (ours)."""

_LETTERS = "abcdefghjkmnpqrstuvwxyz23456789"
"""The letters and digits of an id: no two of them look alike."""
_ID_LENGTH = 10
"""31 to the power of 10 is enough for all ids of a team, and short enough to be typed."""


def is_name(text: str) -> bool:
    """Whether a text is stored and shown as it is: one line of printable text, not too long."""
    return bool(text) and text == shown(text)


def shown(text: str, longest: int = LONGEST_NAME) -> str:
    """A text of any kind as one line without control, invisible and direction characters."""
    # Cut before, too: to look at a text of gigabytes would take long.
    whole = unicodedata.normalize("NFC", text[: 4 * longest])
    plain = "".join(c if c.isprintable() else " " if c.isspace() else "" for c in whole)
    return " ".join(plain.split())[:longest].rstrip()


def is_exact(text: str, longest: int) -> bool:
    """Whether a text can be stored and found again as it is. PostgreSQL stores no NUL."""
    return 0 < len(text) <= longest and text.isprintable()


def new_id(kind: str) -> str:
    """An id that no other thing has.

    Args:
        kind: the letter that it begins with, so that a person sees what it names; "" for none.
    """
    return kind + "".join(secrets.choice(_LETTERS) for _ in range(_ID_LENGTH))
