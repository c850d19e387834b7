"""What an issuer said about tokens: remembered for a short time, and asked for once by many."""

import logging
import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

import anyio
from anyio.abc import TaskGroup

from wan_mcp.tenants.caller import IdentityUnknown
from wan_mcp.web.documents import Document

SECONDS = 30.0
"""How long a token that its issuer has revoked may still be accepted (ours)."""
MOST = 10_000
"""How many answers are remembered; one takes a kilobyte or two (ours)."""
AT_ONCE = 8
"""How many questions are asked at the same time (ours): a flood of wrong tokens must not overrun
the issuer."""
LIMIT_SECONDS = 6.0
"""After so long nobody waits for an answer any more (ours)."""
QUIET_SECONDS = 60.0
"""The least time between two lines in the log about the same thing."""

Ask = Callable[[], Awaitable[Document]]
"""Asks the issuer; raises IdentityUnknown."""

logger = logging.getLogger(__name__)


@dataclass
class _Asking:
    """A question that has no answer yet.

    Attributes:
        ended: is set at the end.
        answer: None if there is none.
        failed: why there is none.
    """

    ended: anyio.Event = field(default_factory=anyio.Event)
    answer: Document | None = None
    failed: IdentityUnknown = field(
        default_factory=lambda: IdentityUnknown("the server is about to end")
    )


class Remembered:
    """Asks, and remembers the answers.

    Args:
        tasks: where questions are asked, so that one caller who goes does not stop another.
        now: seconds that never go back.
    """

    def __init__(self, tasks: TaskGroup, now: Callable[[], float] = time.monotonic) -> None:
        self._tasks = tasks
        self._now = now
        self._known: OrderedDict[bytes, tuple[float, Document]] = OrderedDict()
        self._asked: dict[bytes, _Asking] = {}
        self._limiter = anyio.CapacityLimiter(AT_ONCE)
        self._logged_at = -float("inf")

    async def find(self, key: bytes, ask: Ask) -> Document:
        """The answer to a question.

        Args:
            key: what the question is about, without a secret.

        Raises:
            IdentityUnknown: there is no answer now.
        """
        known = self._known.get(key)
        if known is not None and self._now() < known[0]:
            self._known.move_to_end(key)
            return known[1]
        asking = self._asked.get(key)
        if asking is None:
            asking = self._asked[key] = _Asking()
            self._tasks.start_soon(self._run, key, ask, asking)
        await asking.ended.wait()
        if asking.answer is None:  # one exception cannot be raised in several tasks
            raise IdentityUnknown(str(asking.failed), retry_after=asking.failed.retry_after)
        return asking.answer

    async def _run(self, key: bytes, ask: Ask, asking: _Asking) -> None:
        try:
            with anyio.fail_after(LIMIT_SECONDS):
                async with self._limiter:
                    asking.answer = await ask()
            self._keep(key, asking.answer)
        except TimeoutError:
            self._fail(asking, IdentityUnknown("too many tokens are asked about at once"))
        except IdentityUnknown as exc:
            self._fail(asking, exc)
        except Exception as exc:
            # A defect here must not end the server, in whose tasks payments run.
            logger.exception("an issuer could not be asked about a token")
            asking.failed = IdentityUnknown(type(exc).__name__)
        finally:
            del self._asked[key]
            asking.ended.set()

    def _fail(self, asking: _Asking, why: IdentityUnknown) -> None:
        asking.failed = why
        if self._now() - self._logged_at >= QUIET_SECONDS:
            self._logged_at = self._now()
            logger.warning("a token could not be checked: %s", why)

    def _keep(self, key: bytes, answer: Document) -> None:
        self._known[key] = (self._now() + SECONDS, answer)
        self._known.move_to_end(key)
        if len(self._known) > MOST:
            self._known.popitem(last=False)
