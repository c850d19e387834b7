"""Lets any server on one ledger take the answer to a question that another one asked.

Since revision 2026-07-28 a question to the person is the answer to a call, and the call then comes
again with what the person said. Behind a balancer it may come to another server. The SDK seals the
state that travels along; without a shared key each process refuses what another one has sealed.
"""

import logging
import os
from collections.abc import Awaitable, Callable
from contextvars import ContextVar

from mcp.server.context import CallNext, HandlerResult
from mcp.server.request_state import AESGCMRequestStateCodec, RequestStateSecurity
from mcp.types import InputRequiredResult

from wan_mcp.errors import NoKey
from wan_mcp.ledger.contract import LedgerUnavailable
from wan_mcp.surface.calls import RequestContext

logger = logging.getLogger(__name__)


class SharedRequestState:
    """Seals the SDK's request state with a key of the caller that all servers on one ledger share.

    The key is read when a question is asked or answered, so that starting the server does not open
    the ledger. While the ledger cannot be opened, a key of this process is used instead; what was
    sealed with it is still accepted once the ledger can be opened.

    Args:
        shared_key: reads the key of the caller of a request, 32 bytes, from the ledger. May raise
            LedgerUnavailable, or NoKey for a caller who can buy nothing.
    """

    def __init__(self, shared_key: Callable[[RequestContext], Awaitable[bytes]]) -> None:
        self._shared_key = shared_key
        self._own_key = os.urandom(32)
        self._own_codec = AESGCMRequestStateCodec([self._own_key])
        self._codec: ContextVar[AESGCMRequestStateCodec] = ContextVar("wan_mcp_request_state")

    @property
    def security(self) -> RequestStateSecurity:
        """What the SDK's server is given."""
        return RequestStateSecurity(codec=self)

    def seal(self, payload: bytes) -> str:
        """Part of the SDK's `RequestStateCodec`."""
        return self._codec.get(self._own_codec).seal(payload)

    def unseal(self, token: str) -> bytes:
        """Part of the SDK's `RequestStateCodec`. Raises InvalidRequestState."""
        return self._codec.get(self._own_codec).unseal(token)

    async def before_unsealing(self, ctx: RequestContext, call_next: CallNext) -> HandlerResult:
        """Middleware outside of the SDK's own: reads the key when a request brings state."""
        if (ctx.params or {}).get("requestState") is not None:
            await self._share(ctx)
        return await call_next(ctx)

    async def before_sealing(self, ctx: RequestContext, call_next: CallNext) -> HandlerResult:
        """Middleware inside of the SDK's own: reads the key when an answer brings state."""
        result = await call_next(ctx)
        if _has_state(result):
            await self._share(ctx)
        return result

    async def _share(self, ctx: RequestContext) -> None:
        try:
            key = await self._shared_key(ctx)
        except (LedgerUnavailable, NoKey) as exc:
            logger.warning(
                "a key of this process seals questions, so other servers refuse the answers: %s",
                exc.what,
            )
            return
        # For this request alone: another one may come from somebody else. It seals with the first.
        self._codec.set(AESGCMRequestStateCodec([key, self._own_key]))


def _has_state(result: HandlerResult) -> bool:
    if isinstance(result, dict):
        return result.get("requestState") is not None
    return isinstance(result, InputRequiredResult) and result.request_state is not None
