"""A simulated PixelDojo that counts what it charges, in virtual time and without sockets."""

import json
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import httpx

from tests.virtual_time import VirtualTime

JOB_SECONDS = 20.0
HEADERS_STARTED = "http11.send_request_headers.started"


@dataclass
class Charge:
    """One paid job.

    Attributes:
        at: when it was accepted, in seconds from the start.
        body: what was ordered.
    """

    job_id: str
    at: float
    body: dict[str, Any]


@dataclass
class PaidVendor(httpx.AsyncBaseTransport):
    """PixelDojo as far as paying goes.

    Attributes:
        fault: chooses what happens to a paid request, by its number from 1: None for nothing,
            "unreachable", "lost" (charged, and no answer), "dropped" (not charged, and no answer),
            or the status of a refusal.
        lasts: how many seconds each job takes.
        credits: the price of a job.
    """

    time: VirtualTime
    fault: Callable[[int], str | int | None] = lambda number: None
    lasts: float = JOB_SECONDS
    credits: float = 2.0
    posts: list[dict[str, Any]] = field(default_factory=list)
    charges: list[Charge] = field(default_factory=list)
    most_at_once: int = 0

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        path = request.url.path
        if request.method == "POST":
            return await self._run(request)
        if "/models/" in path:
            return httpx.Response(200, json={"model": {"creditCost": self.credits}})
        if path.endswith("/jobs"):
            return httpx.Response(200, json=[self._shown(each) for each in self.charges])
        found = [each for each in self.charges if path.endswith(f"/{each.job_id}")]
        headers = {"X-RateLimit-Limit": "6000"}
        if not found:
            return httpx.Response(404, json={"error": "not found"}, headers=headers)
        return httpx.Response(200, json=self._shown(found[0]), headers=headers)

    def running(self) -> list[Charge]:
        """The jobs that have not ended."""
        return [each for each in self.charges if self.time.passed() < each.at + self.lasts]

    def repeated(self) -> list[str]:
        """What was charged more than once."""
        counted = Counter(each.body["video"] for each in self.charges)
        return [video for video, count in counted.items() if count > 1]

    async def _run(self, request: httpx.Request) -> httpx.Response:
        body = json.loads(request.content)
        fault = self.fault(len(self.posts) + 1)
        self.posts.append(body)
        trace = request.extensions["trace"]
        if fault == "unreachable":
            await trace("connection.connect_tcp.failed", {})
            raise httpx.ConnectError("no connection")
        await trace(HEADERS_STARTED, {"request": SimpleNamespace(method=b"POST")})
        if isinstance(fault, int):
            return httpx.Response(fault, json={"error": "refused"})
        if fault != "dropped":
            charge = Charge(f"job-{len(self.charges) + 1}", self.time.passed(), body)
            self.charges.append(charge)
            self.most_at_once = max(self.most_at_once, len(self.running()))
        if fault in ("lost", "dropped"):
            raise httpx.ReadError("connection broken")
        return httpx.Response(200, json=self._shown(charge))

    def _shown(self, charge: Charge) -> dict[str, Any]:
        ended = self.time.passed() >= charge.at + self.lasts
        video = {"video": f"https://cdn.example/{charge.job_id}.mp4"}
        return {
            "jobId": charge.job_id,
            "status": "completed" if ended else "pending",
            "creditCost": self.credits,
            "input": {name: charge.body.get(name) for name in ("seed", "video")},
            **({"output": video} if ended else {}),
        }
