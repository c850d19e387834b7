"""Lets any server on one ledger take the answer to a question that another one asked.

Since revision 2026-07-28 a question to the person is the answer to a call, and the call then comes
again with what the person said. Behind a balancer it may come to another server. The SDK seals the
state that travels along; without a shared key each process refuses what another one has sealed.
"""

import logging
import os
from collections.abc import Awaitable, Callable

from mcp.server.context import CallNext, HandlerResult
from mcp.server.request_state import AESGCMRequestStateCodec, RequestStateSecurity
from mcp.types import InputRequiredResult

from wan_mcp.ledger.contract import LedgerUnavailable
from wan_mcp.surface.calls import RequestContext

logger = logging.getLogger(__name__)


class SharedRequestState:
    """Seals the SDK's request state with a key that all servers on one ledger share.

    The key is read when the first question is asked or answered, so that starting the server does
    not open the ledger. While the ledger cannot be opened, a key of this process is used instead;
    what was sealed with it is still accepted once the ledger can be opened.

    Args:
        shared_key: reads the key, 32 bytes, from the ledger of the server that serves a request.
            May raise LedgerUnavailable.
    """

    def __init__(self, shared_key: Callable[[RequestContext], Awaitable[bytes]]) -> None:
        self._shared_key = shared_key
        self._own_key = os.urandom(32)
        self._codec = AESGCMRequestStateCodec([self._own_key])
        self._is_shared = False

    @property
    def security(self) -> RequestStateSecurity:
        """What the SDK's server is given."""
        return RequestStateSecurity(codec=self)

    def seal(self, payload: bytes) -> str:
        """Part of the SDK's `RequestStateCodec`."""
        return self._codec.seal(payload)

    def unseal(self, token: str) -> bytes:
        """Part of the SDK's `RequestStateCodec`. Raises InvalidRequestState."""
        return self._codec.unseal(token)

    async def before_unsealing(self, ctx: RequestContext, call_next: CallNext) -> HandlerResult:
        """Middleware outside of the SDK's own: reads the key when a request brings state."""
        if (ctx.params or {}).get("requestState") is not None:
            await self._share(ctx)
        return await call_next(ctx)

    async def before_sealing(self, ctx: RequestContext, call_next: CallNext) -> HandlerResult:
        """Middleware inside of the SDK's own: reads the key when an answer is a question."""
        result = await call_next(ctx)
        if _is_question(result):
            await self._share(ctx)
        return result

    async def _share(self, ctx: RequestContext) -> None:
        if self._is_shared:
            return
        try:
            key = await self._shared_key(ctx)
        except LedgerUnavailable as exc:
            logger.warning(
                "a key of this process seals questions, so other servers refuse the answers: %s",
                exc.what,
            )
            return
        self._codec = AESGCMRequestStateCodec([key, self._own_key])  # seals with the first
        self._is_shared = True


def _is_question(result: HandlerResult) -> bool:
    if isinstance(result, dict):
        return result.get("resultType") == "input_required"
    return isinstance(result, InputRequiredResult)
