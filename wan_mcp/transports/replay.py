"""Gives the SDK the messages that the front desk has answered, and compares the answers.

So the session of the SDK is in the same state as if it had answered itself. A wrong answer of the
desk is logged once, and the next process with the same versions does not give it.
"""

import json
import logging
from typing import Any

import anyio
from mcp.server.lowlevel import Server
from mcp.types import JSONRPCError, JSONRPCMessage, JSONRPCRequest, JSONRPCResponse

from wan_mcp.front_desk.desk import FrontDesk
from wan_mcp.front_desk.snapshot import Snapshots
from wan_mcp.transports.recording import record

KEEP_AFTER_SECONDS = 2.0
"""How long after the start of serving a missing snapshot is recorded: a host's first requests are
answered by then. Recording takes about 0.1 s, once for each set of versions."""
CONFIRM_SECONDS = 30.0
"""How long later messages wait for the SDK's answer to a message that the desk has answered. It
takes milliseconds; an SDK that never answers must not hold up what follows."""

logger = logging.getLogger(__name__)


class Replay:
    """The answers of the desk that the SDK has not confirmed yet.

    The session gets one such message at a time, and the desk answered no other message with the
    same id. So the id shows to which message an answer belongs.
    """

    def __init__(self, low: Server[Any], state: object, desk: FrontDesk) -> None:
        self._low = low
        self._state = state
        self._snapshots = desk.snapshots
        self._is_missing = not desk.has_snapshot
        self._expected: dict[str, Any] | None = None
        self._method = ""
        self._confirmed = anyio.Event()
        self._differing: list[tuple[str, object]] = []
        """The methods that the desk answered wrongly, and what the SDK answered."""

    def expect(self, message: object, answer: bytes) -> None:
        """Note that the next message to the session has been answered with this already."""
        self._confirmed = anyio.Event()
        self._expected = json.loads(answer)
        if isinstance(message, JSONRPCRequest):
            self._method = message.method
        else:  # the desk has answered something that is not a request
            self._compare(None)

    async def confirmation(self) -> None:
        """Wait until the SDK has answered the expected message, or is unlikely to answer it.

        A later answer reaches the client as a second one, which is better than a missing one.
        """
        with anyio.move_on_after(CONFIRM_SECONDS):
            await self._confirmed.wait()
        if not self._confirmed.is_set():
            self._compare(None)

    def has_sent(self, message: JSONRPCMessage) -> bool:
        """Whether the client has an answer to this request already, from the desk."""
        if self._expected is None or not isinstance(message, JSONRPCResponse | JSONRPCError):
            return False
        id = self._expected["id"]
        if message.id != id or type(message.id) is not type(id):
            return False
        self._compare(message.model_dump(mode="json", by_alias=True, exclude_unset=True))
        return True

    async def keep_snapshot(self, asked: anyio.Event) -> None:
        """Record a snapshot for the next start, if there was none or an answer was wrong.

        Args:
            asked: set when serving is to end; a snapshot is then recorded at once.
        """
        with anyio.move_on_after(KEEP_AFTER_SECONDS):
            await asked.wait()
        if self._snapshots is None or not (self._is_missing or self._differing):
            return
        try:
            await self._record(self._snapshots)
        except OSError as exc:
            logger.info("the answers of the front desk cannot be kept: %s", exc.strerror)
        except Exception:
            # A defect here must not end the server, in whose tasks payments run.
            logger.exception("the answers of the front desk cannot be recorded")

    async def _record(self, snapshots: Snapshots) -> None:
        data = await record(self._low, self._state)
        for method, result in self._differing:
            if result not in data["results"]:  # the SDK's answer is not always the same
                for places in data["revisions"].values():
                    places.pop(method, None)
        snapshots.keep(data)

    def _compare(self, answer: dict[str, Any] | None) -> None:
        if answer != self._expected:
            self._differing.append((self._method, (answer or {}).get("result")))
            logger.warning(
                "wan-mcp: the first answer to %s was not that of the SDK; the host may have to "
                "start this server again",
                self._method or "a message",
            )
        self._expected = None
        self._confirmed.set()
