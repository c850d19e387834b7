"""What the ledger promises for queued requests, on any engine."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from wan_mcp.ledger.record import Record
from wan_mcp.ledger.wallets.quotas import Quota
from wan_mcp.ledger.wallets.workspace import Whose


class QuotasOf(Protocol):
    """The quotas of a workspace, by its name."""

    async def __call__(self, workspace: str, *, fresh: bool = False) -> Sequence[Quota]:
        """Every limit that counts, the nearest first.

        Args:
            fresh: whether to read them again, as before a payment: they may have changed.

        Raises:
            NoKey: its user may not use the wallet, or no longer.
            LedgerUnavailable: they cannot be read now.
        """


@dataclass(frozen=True)
class Next:
    """The queued request whose turn is next.

    Attributes:
        wait: seconds until it may be sent; 0 if it may be now, None if a job has to end first.
    """

    record: Record
    wait: float | None


@dataclass(frozen=True)
class Place:
    """Where a request stands in the queue of its wallet.

    Attributes:
        position: 1 for the next one.
        starts_in: seconds until it is probably sent; None if nothing suggests a time.
    """

    position: int
    starts_in: float | None


class Queue(Protocol):
    """The part of the ledger that keeps requests until the limits have room for them.

    A wallet has one queue. Its workspaces take turns, and each one's requests keep their order: see
    `rules.in_turns`. `Ledger.claim` puts a request in it, see `SpendingLimits.queued`. Every method
    may raise LedgerUnavailable.
    """

    async def waiting(self, wallet: str) -> list[Record]:
        """The queued requests, in the order in which they are sent."""

    async def next(
        self, wallet: str, quotas: Mapping[str, Sequence[Quota]] | None = None
    ) -> Next | None:
        """The request whose turn is next; None if none is queued. Takes no lock.

        A workspace whose own limits have no room is skipped, so that it delays nobody.

        Args:
            quotas: those of each workspace; one without an entry is skipped. None if all of them
                share the limits of the operator.
        """

    async def places(
        self, whose: Whose, typical: float | None, quotas: Sequence[Quota] = ()
    ) -> dict[str, Place]:
        """Where each queued request of a workspace stands, by its submission id.

        Args:
            typical: seconds that a job takes; None if that is not known.
            quotas: as for `Ledger.claim`.
        """

    async def dispatch(
        self, record: Record, estimate: float | None, quotas: Sequence[Quota] = ()
    ) -> Record | None:
        """Claim a queued request for this process, if it is the next one and there is room.

        If several workspaces have queued requests, it has to be the next one of its workspace.

        Its limits, its price and equal requests are checked again in the same transaction. A
        request that may no longer be sent ends as not_sent, with the reason.

        Args:
            estimate: credits that it costs according to PixelDojo; None if that is not known.
            quotas: as for `Ledger.claim`.

        Returns:
            The `intent` that this process has to pay for; None if there is nothing to send now.
        """

    async def put_back(self, record: Record) -> Record:
        """Return a dispatched request of this process to the queue, proven unsent.

        Args:
            record: as `dispatch` returned it.

        Raises:
            Fenced: it may have been sent, or another process owns it.
        """

    async def cancel(self, record: Record, *, only_if_alone: bool = False) -> Record:
        """End a queued request because its user withdrew it.

        Args:
            only_if_alone: whether to refuse if another caller waits for it, see `Ledger.join`.

        Raises:
            Fenced: it is no longer queued, or others wait for it.
        """

    async def end_all(self, wallet: str, why: str) -> list[Record]:
        """End every queued request of a wallet, because what refused one would refuse them all.

        Args:
            why: the reason, in a sentence that callers can read.
        """
