"""The preflight of inputs: before a request is accepted, and again before a queued one is sent."""

import logging
from typing import TYPE_CHECKING, Protocol

from wan_mcp.clock import Clock
from wan_mcp.errors import NotSent, Refused
from wan_mcp.ledger.fingerprint import has_links_only
from wan_mcp.ledger.wallets.workspace import CallersWorkspace
from wan_mcp.models import InputReport, Replacement

if TYPE_CHECKING:
    from wan_mcp.payments.staging import StagingOf

LEAST_PREFLIGHT_SECONDS = 0.5
"""How long the preflight may take in any case, also if finding files took long (ours)."""

logger = logging.getLogger(__name__)


class Preflight(Protocol):
    """Checks both inputs, and reports what the caller should know and what kind of video it is."""

    async def __call__(self, wanted: Replacement, *, seconds: float) -> InputReport:
        """Check both inputs, such as with `inputs.preflight.check_inputs`.

        Args:
            seconds: limit for both together; what cannot be checked by then becomes a note.

        Raises:
            Refused: a job with these inputs certainly cannot work.
        """


class InputCheck:
    """The preflight. A defect in it never refuses a request.

    Args:
        preflight: checks the inputs; None to check none.
        staging: makes inputs available that are not links; None if all must be links.
    """

    def __init__(
        self,
        preflight: Preflight | None,
        staging: "StagingOf | None",
        clock: Clock,
    ) -> None:
        self._preflight = preflight
        self._staging = staging
        self._clock = clock

    @property
    def looks(self) -> bool:
        """Whether inputs are checked."""
        return self._preflight is not None

    async def report(
        self, whose: CallersWorkspace, wanted: Replacement, until: float
    ) -> InputReport:
        """What the preflight found.

        Args:
            whose: the workspace that makes the request.
            until: when the check has to be over, in seconds of the monotonic clock.

        Raises:
            NotSent, Refused: no job can be made of these inputs.
        """
        if self._preflight is None:
            return InputReport()
        try:
            if self._staging is not None and not has_links_only(wanted):
                wanted = await self._staging(whose).sources.readable(wanted)
            left = until - self._clock.monotonic()
            return await self._preflight(wanted, seconds=max(left, LEAST_PREFLIGHT_SECONDS))
        except (NotSent, Refused):
            raise
        except Exception:
            # A defect in the preflight refuses nothing: inputs that it cannot check may work.
            logger.exception("the preflight of the inputs broke")
            return InputReport()
