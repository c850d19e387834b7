"""`/metrics`: figures for operators, as Prometheus reads them.

No label contains a user, a job, a link or a key: the number of such values has no limit, and people
who may read metrics often may not read those.
"""

import math
from collections.abc import Awaitable, Callable
from importlib.metadata import version

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    Info,
    ProcessCollector,
    generate_latest,
)
from prometheus_client.exposition import CONTENT_TYPE_LATEST
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from wan_mcp.logs.facts import Figures
from wan_mcp.transports.operations.readiness import Readiness
from wan_mcp.transports.operations.shared_look import SharedLook

PATH = "/metrics"
_VENDOR_SECONDS = (0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60)
_FROM_THE_START = ("accepted", "outcome_unknown")
"""Outcomes that are shown as 0 before the first one: Prometheus does not count the step from
nothing to 1, so an alert would miss the first lost answer of each process."""
_LEDGER_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 5)


class Metrics:
    """Counts what this process does, and shows it together with figures from the ledger.

    It implements `facts.Listener`.

    Args:
        figures: reads the figures from the ledger.
        readiness: tells whether the server can take calls.
    """

    def __init__(self, figures: Callable[[], Awaitable[Figures]], readiness: Readiness) -> None:
        self._look = SharedLook(figures, Figures())
        self._readiness = readiness
        self._registry = registry = CollectorRegistry()
        ProcessCollector(registry=registry)
        Info("wan_mcp", "This program.", registry=registry).info({"version": version("wan-mcp")})
        self._count_what_happens(registry)
        self._show_what_is_known(registry)

    def _count_what_happens(self, registry: CollectorRegistry) -> None:
        def counter(name: str, text: str, *labels: str) -> Counter:
            return Counter(f"wan_mcp_{name}", text, labels, registry=registry)

        self._calls = counter("calls", "Calls of tools, by how they ended.", "tool", "outcome")
        self._submits = counter("submits", "Paid requests, by how they ended.", "outcome")
        for outcome in _FROM_THE_START:
            self._submits.labels(outcome)
        self._credits = counter("credits", "Credits that PixelDojo named for jobs bought here.")
        self._ledger_errors = counter("ledger_errors", "Work on the ledger that failed.")
        self._vendor = Histogram(
            "wan_mcp_vendor_request_seconds",
            "How long PixelDojo took to answer, by route and kind of status.",
            ("route", "status"),
            buckets=_VENDOR_SECONDS,
            registry=registry,
        )
        self._ledger = Histogram(
            "wan_mcp_ledger_seconds",
            "How long a piece of work on the ledger took.",
            buckets=_LEDGER_SECONDS,
            registry=registry,
        )
        self._ledger_wait = Histogram(
            "wan_mcp_ledger_wait_seconds",
            "How long a piece of work waited for a connection to the ledger.",
            buckets=_LEDGER_SECONDS,
            registry=registry,
        )

    def _show_what_is_known(self, registry: CollectorRegistry) -> None:
        def gauge(name: str, text: str, *labels: str) -> Gauge:
            return Gauge(f"wan_mcp_{name}", text, labels, registry=registry)

        self._ready = gauge("ready", "1 if this process can take calls, else 0.")
        self._payments = gauge("payments_open", "Paid requests in progress in this process.")
        self._ledger_open = gauge("ledger_work_open", "Work that waits for the ledger, or uses it.")
        self._waiters = gauge("waiters", "Calls that wait for a job in this process.")
        self._per_minute = gauge("vendor_limit_per_minute", "Requests that PixelDojo allows.")
        self._pause = gauge("vendor_pause_seconds", "Pause that PixelDojo asked for last.")
        self._known = gauge("ledger_known", "1 if the ledger's own figures could be read, else 0.")
        self._jobs = gauge("jobs", "Jobs in the ledger, by their state.", "state")
        self._unsaved = gauge("videos_to_save", "Finished videos that are still to be saved.")
        self._spent = gauge("credits_spent_day", "Credits of the last 24 hours.")
        self._day_limit = gauge("credits_limit_day", "Credits that may be spent in 24 hours.")
        self._balance = gauge("credits_balance", "The account's credits, as last reported.")

    def called(self, tool: str, outcome: str) -> None:
        """See `facts.Listener`."""
        self._calls.labels(tool, outcome).inc()

    def submitted(self, outcome: str, credits: float | None) -> None:
        """See `facts.Listener`."""
        self._submits.labels(outcome).inc()
        self._credits.inc(max(credits or 0.0, 0.0))

    def paying(self, difference: int) -> None:
        """See `facts.Listener`."""
        self._payments.inc(difference)

    def waiting(self, difference: int) -> None:
        """See `facts.Listener`."""
        self._waiters.inc(difference)

    def exchanged(self, route: str, status: int | None, seconds: float) -> None:
        """See `facts.Listener`."""
        self._vendor.labels(route, _kind(status)).observe(seconds)

    def limited(self, per_minute: int, pause: float) -> None:
        """See `facts.Listener`."""
        self._per_minute.set(per_minute)
        self._pause.set(pause)

    def asked_ledger(self) -> None:
        """See `facts.Listener`."""
        self._ledger_open.inc()

    def used_ledger(self, seconds: float, *, waited: float, failed: bool) -> None:
        """See `facts.Listener`."""
        self._ledger_open.dec()
        self._ledger.observe(seconds)
        self._ledger_wait.observe(waited)
        self._ledger_errors.inc(int(failed))

    async def text(self) -> bytes:
        """All metrics, as Prometheus reads them."""
        self._ready.set(not await self._readiness.missing())
        self._show(await self._look.find() or Figures())
        return generate_latest(self._registry)

    def _show(self, figures: Figures) -> None:
        self._known.set(figures.known)
        self._jobs.clear()  # no job may be in some states any more
        for state, count in sorted(figures.jobs.items()):
            self._jobs.labels(state).set(count)
        self._unsaved.set(_number(figures.videos_to_save))
        self._spent.set(_number(figures.credits_spent_day))
        self._day_limit.set(_number(figures.credits_limit_day))
        self._balance.set(_number(figures.credits_balance))

    @property
    def route(self) -> Route:
        """The route of the metrics."""
        return Route(PATH, self._answer, methods=["GET"])

    async def _answer(self, _request: Request) -> Response:
        return Response(await self.text(), headers={"content-type": CONTENT_TYPE_LATEST})


def _number(value: float | None) -> float:
    """A value; NaN if none is known, which no graph and no alert takes for 0."""
    return math.nan if value is None else value


def _kind(status: int | None) -> str:
    """The class of a status, because each single status would be a series of its own."""
    if status is None:
        return "none"
    return "429" if status == 429 else f"{status // 100}xx"
