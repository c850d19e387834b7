"""Adds to the views of queued requests where they stand in the queue."""

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace

from wan_mcp.errors import NoKey
from wan_mcp.ledger.contract import Ledger, LedgerUnavailable
from wan_mcp.ledger.queueing.contract import Place, QuotasOf
from wan_mcp.ledger.status import JobView
from wan_mcp.ledger.wallets.workspace import CallersWorkspace, Workspace
from wan_mcp.models import JobStatus
from wan_mcp.polling.durations import TypicalDuration


class QueuePlaces:
    """The places of the queued requests of one workspace, with an estimate of their start.

    Args:
        quotas: the limits of a workspace; None for those of the operator.
    """

    def __init__(
        self,
        ledger: Ledger,
        workspace: CallersWorkspace,
        typical: TypicalDuration,
        quotas: QuotasOf | None = None,
    ) -> None:
        self._ledger = ledger
        self._workspace = workspace
        self._typical = typical
        self._quotas = quotas

    async def in_views(self, views: Sequence[JobView]) -> list[JobView]:
        """The same views; those of queued requests have their place."""
        if all(view.status is not JobStatus.QUEUED for view in views):
            return list(views)
        places: dict[str, Place] = {}
        with suppress(LedgerUnavailable, NoKey):  # then only the places are not known
            typical = await self._typical.seconds()
            workspace = Workspace.of(await self._workspace())
            quotas = () if self._quotas is None else await self._quotas(workspace.name)
            places = await self._ledger.queue.places(workspace, typical, quotas)
        return [_placed(view, places) for view in views]

    async def in_view(self, view: JobView) -> JobView:
        """The same for one view."""
        return (await self.in_views([view]))[0]


def _placed(view: JobView, places: dict[str, Place]) -> JobView:
    if view.status is not JobStatus.QUEUED or view.record is None:
        return view
    return replace(view, place=places.get(view.record.submission_id))
