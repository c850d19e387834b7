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
        target: to what it is done: an id as soon as that is known, before what the operator typed.
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
        """Let no payment of a wallet begin until this act is done.

        One that is just beginning is waited for: its job can be seen afterwards. Those that wait
        meanwhile notice that something has changed.

        Args:
            wallet: its account.
        """
        self.rows(_LOCK_WALLET, account=wallet)


class Operator:
    """The database, in the hands of an operator.

    Args:
        link: in autocommit.
        name: who acts, for the audit.
        signed_in: the token or the issuer by which a user has signed in who acts; None for others.

    Attributes:
        signed_in: the same.
    """

    def __init__(self, link: Link, name: str, signed_in: str | None = None) -> None:
        self.link = link
        self.signed_in = signed_in
        self._name = name

    @contextmanager
    def act(self, action: str, target: str, **detail: object) -> Iterator[Act]:
        """Do something, at once or not at all. The audit says that, also if it is refused.

        Args:
            action: what, such as `token.add`.
            target: to what: an id, or what the operator typed.
            detail: what the audit says beside that; never a secret.

        Raises:
            ActRefused: by what is done within.
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
    """The same text, in the one form that its letters have. Raises ActRefused if it is no name."""
    text = unicodedata.normalize("NFC", text)
    if not is_name(text):
        raise ActRefused(
            f"A name is one line of printable text with at most {LONGEST_NAME} characters, "
            "without spaces around it."
        )
    return text


def can_be_found(typed: str) -> bool:
    """Whether what the operator typed can be anything that is stored."""
    return typed.isprintable()


def quoted(text: str) -> str:
    """What the operator typed, as a sentence may repeat it."""
    return f'"{shown(text, 60)}"'
