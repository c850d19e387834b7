"""PixelDojo's API: one short method per endpoint, all over one `_send`.

Nothing here decides to repeat a request: each method is one request, or none.
"""

from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from wan_mcp.errors import NoKey
from wan_mcp.models import Job, Replacement
from wan_mcp.pixeldojo import wire
from wan_mcp.pixeldojo.error_statuses import failure
from wan_mcp.pixeldojo.exchange import Commit, Exchange, Limits, Request
from wan_mcp.pixeldojo.priority import Priority, RateLimiter
from wan_mcp.pixeldojo.reply import Reply
from wan_mcp.pixeldojo.tracing import answered, request_span
from wan_mcp.web import addresses

if TYPE_CHECKING:
    import httpx

EXAMPLE_KEY = "your-pixeldojo-key"
"""What stands in the place of the key wherever the README shows a configuration to copy."""


class PixelDojo:
    """The vendor's API for one account.

    Args:
        base: the API's root, without a slash at its end; no other host ever gets the key.
        key: the account's API key, or "" when none is configured.
        agent: how we name ourselves to the vendor.
        limits: time limits of one request.
        pace: the key's request budget; without one nothing is counted.
        transport: stands in for the network in tests.
    """

    def __init__(
        self,
        base: str,
        key: str,
        *,
        agent: str = "wan-mcp",
        limits: Limits | None = None,
        limiter: RateLimiter | None = None,
        transport: "httpx.AsyncBaseTransport | None" = None,
    ) -> None:
        self._base = base
        self._key = key
        self._agent = agent
        self._limiter = limiter
        self._loopback = addresses.is_loopback(urlsplit(base).hostname or "")
        self._exchange = Exchange(limits or Limits(), direct=self._loopback, transport=transport)

    def require_key(self) -> None:
        """Raises NoKey when none is configured: known before anything is written or sent."""
        if not self._key:
            raise NoKey("No PixelDojo API key is configured.")
        if self._key == EXAMPLE_KEY:
            raise NoKey(f"PIXELDOJO_API_KEY is still the example from the README, {EXAMPLE_KEY}.")

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
            before_sending: awaited after connecting, before the first header byte may leave;
                when it raises, nothing is sent.
            submission_id: our own name for the request, for whoever traces it.

        Raises:
            NotSent: no byte left.
            Refused: PixelDojo turned the request down; nothing is charged (assumed).
            OutcomeUnknown: the request may have landed.
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
        """One job as it stands now. Free. Raises Refused or CouldNotFindOut."""
        reply = await self._send("GET", "/jobs/{job_id}", priority=priority, job_id=job_id)
        return self._hidden(wire.job(reply, job_id, loopback=self._loopback))

    async def jobs(self, priority: Priority = Priority.LIST) -> list[wire.Listed]:
        """The account's recent jobs. Free. Raises Refused or CouldNotFindOut."""
        listed = wire.jobs(
            await self._send("GET", "/jobs", priority=priority), loopback=self._loopback
        )
        return [replace(each, job=self._hidden(each.job)) for each in listed]

    async def model(self) -> wire.Model:
        """The model page, with what a job is said to cost. Free and public."""
        return wire.model(await self._send("GET", "/models/{model}"))

    async def resolution_is_number(self) -> bool:
        """Whether the published schema wants the resolution as a number. Free and public."""
        reply = await self._send("GET", "/models/{model}/schema")
        return wire.resolution_is_number(reply)

    async def aclose(self) -> None:
        """Close every connection."""
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
        """Make one request; whatever is not a 2xx answer leaves here as one of our errors.

        Args:
            use: what it is for; None for a public page, which goes without the key.
            ids: what the route names, and what a trace is told.
        """
        if priority is not None:
            self.require_key()
        url = self._base + route.format(model=wire.MODEL, **ids)
        request = Request(method, url, self._headers(priority is None), body, before_sending)
        with request_span(method, route, ids) as span:
            reply = (await self._paced(request, priority)).without(self._key)
            answered(span, reply.status)
        if not 200 <= reply.status < 300:
            error = failure(reply, paid=request.paid)
            error.what = self._hide(error.what)
            error.args = (error.what,)
            raise error
        return reply

    async def _paced(self, request: Request, priority: Priority | None) -> Reply:
        if priority is None or self._limiter is None:
            return await self._exchange.send(request)
        await self._limiter.acquire(priority)
        reply = await self._exchange.send(request)
        await self._limiter.observe(reply, paid=request.paid)
        return reply

    def _headers(self, public: bool) -> dict[str, str]:
        # Apart from `_send`, so that a report with the variables of its frames holds no key.
        key = {} if public else {"Authorization": f"Bearer {self._key}"}
        return {"User-Agent": self._agent, **key}

    def _hidden(self, job: Job) -> Job:
        told = {name: self._hide(value) for name, value in job if type(value) is str}
        return job.model_copy(update=told)

    def _hide(self, text: str) -> str:
        # Once more after reading: escapes, UTF-16 and invisible characters hide it in the bytes.
        return text.replace(self._key, "[key]") if self._key else text
