"""One act of an operator: a transaction, and the row of the audit about it."""

import unicodedata
from collections.abc import Iterator
from contextlib import contextmanager

from wan_mcp.ledger.postgres.connection import Link, Rows, limits
from wan_mcp.tenants.audit import Entry
from wan_mcp.tenants.names import LONGEST_NAME, is_name, shown

DONE, REFUSED = "done", "refused"
"""The results of an act."""

_ALONE = b"SELECT pg_advisory_xact_lock(%(lock)s)"
# As the ledger locks it for each payment: see `PostgresSession`.
_LOCK_WALLET = b"""
INSERT INTO wallets (account) VALUES (%(account)s) ON CONFLICT DO NOTHING;
SELECT 1 FROM wallets WHERE account = %(account)s FOR UPDATE
"""
_NEW_VERSION = b"UPDATE people_version SET version = version + 1"
_LOCK = 0x77616E2D616374
"""The advisory lock of each act (ours): nothing that an act has read changes before it is done."""


class ActRefused(Exception):
    """An act cannot be done, and nothing has changed. The text is a sentence for the operator."""


class Act:
    """One act while its transaction lasts.

    Attributes:
        target: what it is done to: an id, or what the operator typed until the id is known.
        detail: what the audit says beside that; never a secret.
    """

    def __init__(self, link: Link, target: str, detail: dict[str, object]) -> None:
        self.target = target
        self.detail = detail
        self._link = link

    def rows(self, text: bytes, **values: object) -> Rows:
        """The rows that a statement finds or returns."""
        return self._link.run((text, values))[-1]

    def stop_payments(self, wallet: str) -> None:
        """Keep payments of a wallet from beginning until this act is done.

        If one is just beginning, the act waits for it, and sees its job afterwards. Payments that
        wait for the act notice that something has changed.

        Args:
            wallet: its account.
        """
        self.rows(_LOCK_WALLET, account=wallet)


class Operator:
    """The database, as an operator uses it.

    Args:
        link: in autocommit.
        name: who acts, for the audit.
        signed_in: if a user acts, the token or the issuer by which they signed in; otherwise None.

    Attributes:
        signed_in: the same.
    """

    def __init__(self, link: Link, name: str, signed_in: str | None = None) -> None:
        self.link = link
        self.signed_in = signed_in
        self._name = name

    @contextmanager
    def act(self, action: str, target: str, **detail: object) -> Iterator[Act]:
        """Do something in one transaction, and record it in the audit, even if it is refused.

        Args:
            action: what, such as `token.add`.
            target: what it is done to: an id, or what the operator typed.
            detail: what the audit says beside that; never a secret.

        Raises:
            ActRefused: the code within has raised it; then nothing has changed.
        """
        act = Act(self.link, target, detail)
        try:
            with self.link.transaction():
                self.link.run((limits(), None), (_ALONE, {"lock": _LOCK}))
                yield act
                self.link.run((_NEW_VERSION, None))
                self._entry(action, act, DONE).write(self.link)
        except ActRefused as why:
            act.detail["why"] = str(why)
            self._entry(action, act, REFUSED).write(self.link)
            raise

    def rows(self, text: bytes, **values: object) -> Rows:
        """The rows that a statement finds."""
        return self.link.run((limits(), None), (text, values))[-1]

    def _entry(self, action: str, act: Act, result: str) -> Entry:
        detail = {**act.detail, "signed_in": self.signed_in}
        return Entry.new(self._name, action, act.target, result, detail)


def require_name(text: str) -> str:
    """The same name in Unicode's form NFC. Raises ActRefused if the text is no name."""
    text = unicodedata.normalize("NFC", text)
    if not is_name(text):
        raise ActRefused(
            f"A name is one line of printable text with at most {LONGEST_NAME} characters, "
            "without spaces around it."
        )
    return text


def can_be_found(typed: str) -> bool:
    """Whether what the operator typed can be stored at all, and so be found."""
    return typed.isprintable()


def quoted(text: str) -> str:
    """What the operator typed, in a form that a sentence may repeat."""
    return f'"{shown(text, 60)}"'
