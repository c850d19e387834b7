"""An issuer's answers about tokens, which are remembered briefly and shared by callers.

Anybody can invent tokens, and each costs a question to the issuer. So a token that was valid when
the issuer was last asked counts as known, and questions about other tokens leave places free for
it.
"""

import logging
import time
from collections.abc import Awaitable, Callable
from contextlib import nullcontext
from dataclasses import dataclass, field

import anyio
from anyio.abc import TaskGroup

from wan_mcp.logs.seldom import Seldom
from wan_mcp.tenants.caller import IdentityUnknown
from wan_mcp.tenants.recent import Recent
from wan_mcp.web.documents import Document

SECONDS = 30.0
"""How long a token that its issuer has revoked may still be accepted (ours)."""
KNOWN_SECONDS = 86_400.0
"""How long a token that was valid counts as known (ours). This only decides who waits for whom:
whether the token is still valid is asked as often as for any other."""
MOST = 10_000
"""How many answers about valid tokens are remembered, and how many about others (ours). One takes
a kilobyte or two."""
AT_ONCE = 8
"""How many questions are asked at the same time (ours): a flood of wrong tokens must not overrun
the issuer."""
NEW_AT_ONCE = 4
"""How many of these may be about tokens that are not known (ours)."""
MOST_NEW = 1_000
"""How many questions about such tokens may wait (ours); each takes a few kilobytes."""
LIMIT_SECONDS = 6.0
"""How long callers wait for an answer at most (ours)."""

Ask = Callable[[], Awaitable[Document]]
"""Asks the issuer; raises IdentityUnknown."""
IsValid = Callable[[Document], bool]
"""Tells whether an answer means that its token is valid."""

logger = logging.getLogger(__name__)


@dataclass
class _Asking:
    """A question that has no answer yet.

    Attributes:
        is_new: whether it is about a token that is not known.
        ended: set at the end.
        answer: the answer; None if there is none.
        failed: why there is no answer.
    """

    is_new: bool
    ended: anyio.Event = field(default_factory=anyio.Event)
    answer: Document | None = None
    failed: IdentityUnknown = field(
        default_factory=lambda: IdentityUnknown("the server is about to end")
    )


class Remembered:
    """Asks, and remembers the answers.

    Args:
        tasks: where questions are asked, so that a caller who leaves does not stop another one.
        now: a clock that never goes back, in seconds.
    """

    def __init__(self, tasks: TaskGroup, now: Callable[[], float] = time.monotonic) -> None:
        self._tasks = tasks
        # Apart, so that wrong tokens, however many, never displace the answer about a valid one.
        self._valid: Recent[bytes, Document] = Recent(MOST, now)
        self._wrong: Recent[bytes, Document] = Recent(MOST, now)
        self._known: Recent[bytes, bool] = Recent(MOST, now)
        self._asked: dict[bytes, _Asking] = {}
        self._new = 0
        self._all_places = anyio.CapacityLimiter(AT_ONCE)
        self._new_places = anyio.CapacityLimiter(NEW_AT_ONCE)
        self._seldom = Seldom(now)

    async def find(self, key: bytes, ask: Ask, is_valid: IsValid) -> Document:
        """The answer to a question.

        Args:
            key: identifies the token, without being a secret.
            is_valid: tells by the answer whether the token counts as known from now on.

        Raises:
            IdentityUnknown: there is no answer now.
        """
        said = self._valid.get(key) or self._wrong.get(key)
        if said is not None:
            return said
        asking = self._asked.get(key) or self._begin(key, ask, is_valid)
        await asking.ended.wait()
        if asking.answer is None:  # one exception cannot be raised in several tasks
            raise IdentityUnknown(str(asking.failed), retry_after=asking.failed.retry_after)
        return asking.answer

    def _begin(self, key: bytes, ask: Ask, is_valid: IsValid) -> _Asking:
        is_new = not self._known.get(key)
        if is_new and self._new >= MOST_NEW:
            raise self._logged(_too_many())
        self._new += is_new
        asking = self._asked[key] = _Asking(is_new)
        self._tasks.start_soon(self._run, key, ask, is_valid, asking)
        return asking

    async def _run(self, key: bytes, ask: Ask, is_valid: IsValid, asking: _Asking) -> None:
        try:
            with anyio.fail_after(LIMIT_SECONDS):
                new_place = self._new_places if asking.is_new else nullcontext()
                async with new_place, self._all_places:
                    answer = await ask()
            self._keep(key, answer, is_valid(answer))
            asking.answer = answer
        except TimeoutError:
            asking.failed = self._logged(_too_many())
        except IdentityUnknown as exc:
            asking.failed = self._logged(exc)
        except Exception as exc:
            # A defect here must not end the server, in whose tasks payments run.
            logger.exception("an issuer could not be asked about a token")
            asking.failed = IdentityUnknown(type(exc).__name__)
        finally:
            self._new -= asking.is_new
            del self._asked[key]
            asking.ended.set()

    def _logged(self, why: IdentityUnknown) -> IdentityUnknown:
        if self._seldom.is_due():
            logger.warning("a token could not be checked: %s", why)
        return why

    def _keep(self, key: bytes, answer: Document, is_valid: bool) -> None:
        if is_valid:
            self._valid.put(key, answer, SECONDS)
            self._known.put(key, True, KNOWN_SECONDS)
        else:
            self._wrong.put(key, answer, SECONDS)
            self._known.forget(key)


def _too_many() -> IdentityUnknown:
    return IdentityUnknown("too many tokens are asked about at once")
