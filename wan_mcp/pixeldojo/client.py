"""PixelDojo's API: one short method per endpoint, and one `_send` for all of them.

Nothing here repeats a request: each call of a method sends one request, or none.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from wan_mcp.errors import (
    NO_FILES_LEFT,
    CouldNotFindOut,
    NoKey,
    NotFound,
    NotSent,
    shows_no_files_left,
)
from wan_mcp.logs import facts
from wan_mcp.models import Job, Replacement
from wan_mcp.pixeldojo import wire
from wan_mcp.pixeldojo.error_statuses import failure
from wan_mcp.pixeldojo.priority import Priority, RateLimiter
from wan_mcp.pixeldojo.reply import Reply
from wan_mcp.pixeldojo.request import Commit, Limits, Request
from wan_mcp.pixeldojo.tracing import answered, request_span
from wan_mcp.web import addresses

if TYPE_CHECKING:
    from httpx import AsyncBaseTransport

    from wan_mcp.pixeldojo.exchange import Exchange

EXAMPLE_KEY = "your-pixeldojo-key"
"""The placeholder for the key in every configuration that docs/hosts.md offers for copying."""
FORMER_KEYS = 3
"""So many replaced keys are still hidden in answers (ours)."""


class PixelDojo:
    """The vendor's API for one account.

    Args:
        base: the root URL of the API, without a slash at the end; no other host gets the key.
        key: the account's API key, or "" if none is configured.
        agent: the User-Agent header.
        limits: the time limits of one request.
        limiter: limits the requests of the key; without one nothing is limited.
        transport: replaces the network in tests.
    """

    def __init__(
        self,
        base: str,
        key: str,
        *,
        agent: str = "wan-mcp",
        limits: Limits | None = None,
        limiter: RateLimiter | None = None,
        transport: AsyncBaseTransport | None = None,
    ) -> None:
        self._base = base
        self._key = key
        self._former: tuple[str, ...] = ()
        self._agent = agent
        self._limiter = limiter
        self._loopback = addresses.is_loopback(urlsplit(base).hostname or "")
        self._limits = limits or Limits()
        self._transport = transport
        self._exchange: Exchange | None = None
        self._is_closed = False

    def use_key(self, key: str) -> None:
        """Send another key of the same account from the next request on.

        An answer that is on its way may still repeat the former one, so that is hidden, too.
        """
        if key != self._key:
            self._former = (self._key, *self._former)[:FORMER_KEYS]
            self._key = key

    def has_had(self, key: str) -> bool:
        """Whether requests are sent with this key, or were before the present one."""
        return key == self._key or key in self._former

    def require_key(self) -> None:
        """Raises NoKey if no key is configured, before anything is written or sent."""
        if not self._key:
            raise NoKey("No PixelDojo API key is configured.")
        if self._key == EXAMPLE_KEY:
            raise NoKey(
                f"PIXELDOJO_API_KEY is still the example from the documents, {EXAMPLE_KEY}."
            )

    async def require_accepted_key(self, priority: Priority = Priority.LIST) -> None:
        """Return when PixelDojo accepts the key. One free read that needs it: the list of jobs.

        Raises:
            NoKey: no key is configured; nothing was sent.
            Unauthorized: PixelDojo does not accept the key. No other error is evidence of that.
            Refused: it was asked too often (RateLimited), or keeps the list from this key.
            CouldNotFindOut: no answer came, or one that does not tell.
        """
        try:
            reply = await self._send("GET", "/jobs", priority=priority)
        except NotFound:
            raise CouldNotFindOut(
                "PixelDojo's API does not have the list of jobs at this address, so it is not "
                "known whether it accepts the key.",
                transient=False,
            ) from None
        wire.require_answer_to_key(reply)

    async def submit(
        self,
        wanted: Replacement,
        *,
        resolution_as_number: bool = False,
        before_sending: Commit | None = None,
        submission_id: str = "",
    ) -> Job:
        """Start one paid job with exactly one POST.

        Args:
            before_sending: awaited after connecting, before the first byte of the headers is
                sent; if it raises, nothing is sent.
            resolution_as_number: send the resolution as a number instead of a string; the type is
                not documented.
            submission_id: our own id of the request, for traces.

        Raises:
            NotSent: no byte was sent.
            Refused: PixelDojo refused the request; nothing is charged (assumed).
            OutcomeUnknown: PixelDojo may have received the request.
        """
        body = wire.run_body(wanted, resolution_as_number=resolution_as_number)
        reply = await self._send(
            "POST",
            "/models/{model}/run",
            priority=Priority.SUBMIT,
            body=body,
            before_sending=before_sending,
            submission_id=submission_id,
        )
        return self._hidden(wire.accepted(reply, loopback=self._loopback))

    async def job(self, job_id: str, priority: Priority = Priority.STATUS) -> Job:
        """The present state of one job. Free. Raises Refused or CouldNotFindOut."""
        reply = await self._send("GET", "/jobs/{job_id}", priority=priority, job_id=job_id)
        return self._hidden(wire.job(reply, job_id, loopback=self._loopback))

    async def jobs(self, priority: Priority = Priority.LIST) -> list[wire.Listed]:
        """The account's recent jobs. Free. Raises Refused or CouldNotFindOut."""
        listed = wire.jobs(
            await self._send("GET", "/jobs", priority=priority), loopback=self._loopback
        )
        return [each._replace(job=self._hidden(each.job)) for each in listed]

    async def model(self) -> wire.Model:
        """The model page, with the price that it names. Free and public."""
        return wire.model(await self._send("GET", "/models/{model}"))

    async def first_answer(self) -> Reply:
        """PixelDojo's answer to one public read, whatever its status: is it there, what time is it?

        Free. Raises CouldNotFindOut when no answer came.
        """
        url = f"{self._base}/models/{wire.MODEL}"
        request = Request("GET", url, self._headers(public=True))
        return await self._opened(request).send(request)

    async def resolution_is_number(self) -> bool:
        """Whether the published schema has the resolution as a number. Free and public."""
        reply = await self._send("GET", "/models/{model}/schema")
        return wire.resolution_is_number(reply)

    async def aclose(self) -> None:
        """Close every connection, and open no more."""
        self._is_closed = True
        if self._exchange is not None:
            await self._exchange.aclose()

    async def _send(
        self,
        method: str,
        route: str,
        *,
        priority: Priority | None = None,
        body: Mapping[str, Any] | None = None,
        before_sending: Commit | None = None,
        **ids: str,
    ) -> Reply:
        """Send one request; any answer but a 2xx is raised as one of our errors.

        Args:
            priority: how urgent it is; None for a public page, which is fetched without the key.
            ids: the values for the names in the route; they also go into the trace.
        """
        if priority is not None:
            self.require_key()
        url = self._base + route.format(model=wire.MODEL, **ids)
        request = Request(method, url, self._headers(priority is None), body, before_sending)
        with request_span(method, route, ids) as span:
            reply = self._without_keys(await self._limited(request, route, priority))
            answered(span, reply.status)
        if not 200 <= reply.status < 300:
            error = failure(reply, paid=request.paid)
            error.what = self._hide(error.what)
            error.args = (error.what,)
            raise error
        return reply

    async def _limited(self, request: Request, route: str, priority: Priority | None) -> Reply:
        exchange = self._opened(request)
        if priority is None or self._limiter is None:
            return await _counted(exchange, request, route)
        await self._limiter.acquire(priority)
        reply = await _counted(exchange, request, route)
        await self._limiter.observe(reply, paid=request.paid)
        return reply

    def _opened(self, request: Request) -> Exchange:
        """The connections. The first request imports httpx: what the ledger answers needs none.

        Raises:
            NotSent, CouldNotFindOut: no file can be opened now, or all of it was closed, so nothing
                was sent.
        """
        if self._is_closed:  # whoever had it open calls once more; what opens now is never closed
            kind = NotSent if request.paid else CouldNotFindOut
            raise kind("The request was not sent: the connection to PixelDojo was just closed.")
        if self._exchange is None:
            try:
                from wan_mcp.pixeldojo.exchange import Exchange
            except OSError as exc:
                if not shows_no_files_left(exc):
                    raise
                kind = NotSent if request.paid else CouldNotFindOut
                raise kind(f"The request was not sent ({NO_FILES_LEFT}).") from exc
            self._exchange = Exchange(
                self._limits, direct=self._loopback, transport=self._transport
            )
        return self._exchange

    def _headers(self, public: bool) -> dict[str, str]:
        # Not in `_send`, so that an error report with the local variables of `_send` holds no key.
        key = {} if public else {"Authorization": f"Bearer {self._key}"}
        return {"User-Agent": self._agent, **key}

    def _without_keys(self, reply: Reply) -> Reply:
        for key in (self._key, *self._former):
            reply = reply.without(key)
        return reply

    def _hidden(self, job: Job) -> Job:
        texts = {name: self._hide(value) for name, value in job if type(value) is str}
        return job.model_copy(update=texts)

    def _hide(self, text: str) -> str:
        # `Reply.without` has looked for the key in the bytes, where escapes, UTF-16 and invisible
        # characters can hide it.
        for key in filter(None, (self._key, *self._former)):
            text = text.replace(key, "[key]")
        return text


async def _counted(exchange: Exchange, request: Request, route: str) -> Reply:
    """Send a request once, and say how long the answer took."""
    began, status = time.perf_counter(), None
    try:
        reply = await exchange.send(request)
        status = reply.status
        return reply
    finally:
        for listener in facts.listeners:
            listener.exchanged(route, status, time.perf_counter() - began)
