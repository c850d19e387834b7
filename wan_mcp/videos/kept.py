"""Videos that their user keeps: the size limit of their folder does not delete them."""

from wan_mcp.ledger.coordination import Coordination
from wan_mcp.ledger.record import FREE_OF_CHARGE, Record, State
from wan_mcp.storage.storage_url import is_storage_url
from wan_mcp.videos.paths import path_of


def why_not_kept(record: Record) -> str | None:
    """Why a job cannot be kept, in a sentence; None if it can, also before its video is there."""
    if record.is_forgotten:
        return "The user had the video of this job removed."
    if record.state is State.FAILED or record.state in FREE_OF_CHARGE:
        return "This job has no video that could be kept."
    return None


class KeptVideos:
    """The marks of all users of a ledger. Each method may raise LedgerUnavailable."""

    def __init__(self, coordination: Coordination) -> None:
        self._coordination = coordination

    async def mark(self, record: Record, kept: bool) -> None:
        """Record whether the user keeps the video of a job."""
        await self._coordination.mark_kept(record.submission_id, kept)

    async def file_names(self) -> frozenset[str]:
        """The names of the files that are kept; those in object storage have none.

        Not their paths: there may be several ways to one folder.
        """
        places = await self._coordination.kept_videos()
        return frozenset(path_of(place).name for place in places if not is_storage_url(place))
